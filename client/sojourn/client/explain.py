"""Why a session is in its state, and what it waits for, in words."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.enums.v1 import (
    PendingActivityState,
    PendingWorkflowTaskState,
    VersioningBehavior,
    WorkerVersioningMode,
    WorkflowExecutionStatus,
)
from temporalio.api.taskqueue.v1 import PollerInfo
from temporalio.api.workflow.v1 import PendingActivityInfo

from sojourn.client.situation import Asked, Situation
from sojourn.types.account import MICROCENTS_PER_CENT
from sojourn.types.described import attribute, closed_at, is_open
from sojourn.types.explanation import Reason, SessionExplanation
from sojourn.types.id import AgentId, EventId
from sojourn.types.name import (
    AGENT_ATTRIBUTE,
    CALL_MODEL_ACTIVITY,
    LIST_MCP_TOOLS_ACTIVITY,
    NO_STOP_REASON,
    STATUS_ATTRIBUTE,
    STOP_REASON_ATTRIBUTE,
    TASK_QUEUE,
)
from sojourn.types.preview import ModelPreview, ToolPreview
from sojourn.types.session import BudgetReached, PendingAction, PendingKind, SessionStatus

FRESH = timedelta(seconds=100)
"""A poller asks again at least every 60 to 70 seconds; one that did not is gone."""

SILENT = timedelta(seconds=5)
"""Work that nobody has taken after this waits for a worker that is dead, or busy."""

_STATE = PendingActivityState
_SHORT = 160


def explain(now: Situation) -> SessionExplanation:
    """Say in words what the situation is."""
    reasons = tuple(_reasons(now))
    info = now.described.workflow_execution_info
    stopped = attribute(info, STOP_REASON_ATTRIBUTE)
    status = _status(now)
    return SessionExplanation(
        id=now.located.id,
        agent_id=AgentId(attribute(info, AGENT_ATTRIBUTE) or ""),
        status=status,
        stop_reason=None if stopped == NO_STOP_REASON else stopped,
        summary=f"{status.value}: {'; '.join(each.text for each in reasons)}",
        reasons=reasons,
        at=now.now,
    )


def _status(now: Situation) -> SessionStatus:
    return now.located.status


def _reasons(now: Situation) -> Iterator[Reason]:
    info = now.described.workflow_execution_info
    if not is_open(info):
        yield _end(now)
        return
    if info.status == WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_PAUSED:
        action = f"temporal workflow unpause --workflow-id {now.located.workflow_id}"
        yield Reason(type="held_by_operator", text="an operator has paused its workflow in Temporal", action=action)
    held_up = [*_failing(now), *_unserved(now)]
    at_work = [*_paused(now), *_activities(now), *_retry(now), *_answers(now), *_broke(now)]
    yield from held_up
    yield from at_work
    yield from _queue(now)
    if not held_up and not at_work and not now.story.queue:
        yield _rest(now)


# --- ends ------------------------------------------------------------------------------------------------------------


def _end(now: Situation) -> Reason:
    info = now.described.workflow_execution_info
    at = closed_at(info)
    when = f" at {at:%Y-%m-%d %H:%M:%S} UTC" if at else ""
    shown = SessionStatus(attribute(info, STATUS_ATTRIBUTE) or SessionStatus.QUEUED)
    action = f"its log stays readable: sojourn sessions events {now.located.id}; start a new session to go on"
    if not shown.is_terminal:
        text = f"ended from outside{when}, {now.story.ended_by or 'nobody knows how'}"
        return Reason(type="ended_from_outside", text=text, action=action, since=at)
    error = f" after {_error(now)}" if shown is SessionStatus.FAILED and now.story.error else ""
    verb = "it failed" if shown is SessionStatus.FAILED else f"it was {shown.value}"
    return Reason(type="ended", text=f"{verb}{when}{error}", action=action, since=at)


def _error(now: Situation) -> str:
    error = now.story.error
    return f"{error.type}: {error.message}" if error is not None else "an error that an earlier part of the log tells"


# --- nobody takes its work -------------------------------------------------------------------------------------------


def _failing(now: Situation) -> Iterator[Reason]:
    task = now.described.pending_workflow_task
    if now.story.task_failure is None or task.attempt < 2:
        return
    yield Reason(
        type="workflow_task_failing",
        text=f"its workflow task fails again and again (attempt {task.attempt}): {now.story.task_failure}",
        action="nothing is lost: deploy workers with code that can go on with this history (the last that could, or a "
        "fix), and it goes on by itself",
        since=now.story.task_failed_at,
        attempt=task.attempt,
    )


def _unserved(now: Situation) -> Iterator[Reason]:
    waiting = _waiting_since(now)
    if waiting is None or now.pollers is None:
        return
    waited = _span(now.now - waiting)
    if (version := _missing_version(now)) is not None:
        yield Reason(
            type="no_worker_of_version",
            text=f"its work has waited {waited} for a worker of {version}; none polls task queue {now.task_queue!r}",
            action="start a worker of that version, or move the session: temporal workflow update-options "
            f"--workflow-id {now.located.workflow_id} --versioning-override-behavior auto_upgrade",
            since=waiting,
        )
    elif not _fresh(now):
        queue = "" if now.task_queue == TASK_QUEUE else f" --task-queue {now.task_queue}"
        yield Reason(
            type="no_worker",
            text=f"its work has waited {waited} and no worker polls task queue {now.task_queue!r}",
            action=f"sojourn worker{queue}",
            since=waiting,
        )
    elif now.now - waiting > SILENT:
        names = ", ".join(sorted({poller.identity for poller in _fresh(now)}))
        yield Reason(
            type="worker_silent",
            text=f"its work has waited {waited} though {names} polled task queue {now.task_queue!r} not long ago",
            action="they are busy or died a moment ago: look at their logs, or start another with sojourn worker",
            since=waiting,
        )


def _waiting_since(now: Situation) -> datetime | None:
    """Since when work of the session lies on the task queue; ``None`` if none does."""
    task, found = now.described.pending_workflow_task, []
    if task.state == PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_SCHEDULED and not now.story.task_failure:
        found.append(_time(task.original_scheduled_time))
    found += [
        _time(each.scheduled_time)
        for each in now.described.pending_activities
        if each.state == _STATE.PENDING_ACTIVITY_STATE_SCHEDULED and each.attempt == 1
    ]
    return min(found, default=None)


def _fresh(now: Situation) -> list[PollerInfo]:
    pollers = now.pollers.pollers if now.pollers is not None else ()
    return [
        poller
        for poller in pollers
        if now.now - _time(poller.last_access_time) < FRESH and (poller.identity, _build(poller)) not in now.gone
    ]


def _build(poller: PollerInfo) -> str:
    """The build id of a versioned worker; empty for any other, which names one all the same."""
    options = poller.deployment_options
    versioned = options.worker_versioning_mode == WorkerVersioningMode.WORKER_VERSIONING_MODE_VERSIONED
    return options.build_id if versioned else ""


def _missing_version(now: Situation) -> str | None:
    """The deployment version that the session needs and nobody runs, in words."""
    here = {
        (poller.deployment_options.deployment_name, poller.deployment_options.build_id)
        for poller in _fresh(now)
        if _build(poller)
    }
    info = now.described.workflow_execution_info.versioning_info
    wanted = info.versioning_override.pinned.version
    if not wanted.build_id and info.behavior == VersioningBehavior.VERSIONING_BEHAVIOR_PINNED:
        wanted = info.deployment_version
    if wanted.build_id:
        version = (wanted.deployment_name, wanted.build_id)
        return None if version in here else f"deployment version {wanted.deployment_name}.{wanted.build_id}"
    unversioned = not all(map(_build, _fresh(now)))
    current = now.pollers.versioning_info.current_deployment_version if now.pollers is not None else None
    if not here or unversioned or current is None or (current.deployment_name, current.build_id) in here:
        return None
    if not current.build_id:
        names = ", ".join(sorted(f"{name}.{build}" for name, build in here))
        return f"the current deployment version (there is none yet; workers of {names} poll)"
    return f"the current deployment version {current.deployment_name}.{current.build_id}"


# --- at work ---------------------------------------------------------------------------------------------------------


def _paused(now: Situation) -> Iterator[Reason]:
    if _status(now) is SessionStatus.PAUSED:
        at = now.story.paused_at
        text = f"it has been paused for {_span(now.now - at)}" if at else "it is paused"
        action = f"sojourn sessions resume {now.located.id}"
        yield Reason(type="paused", text=text, action=action, since=at)


def _activities(now: Situation) -> Iterator[Reason]:
    tell = {CALL_MODEL_ACTIVITY: _model, LIST_MCP_TOOLS_ACTIVITY: _listing}
    for each in now.described.pending_activities:
        yield tell.get(each.activity_type.name, _tool)(now, each)


def _listing(now: Situation, activity: PendingActivityInfo) -> Reason:
    return Reason(
        type="tool_call",
        text=f"its MCP servers are asked for their tools, {_course(now, activity)}{_failure(activity)}",
        action=f"wait, or end the turn: sojourn sessions interrupt {now.located.id}",
        since=_began(activity),
        attempt=activity.attempt,
        worker=activity.last_worker_identity or None,
    )


def _model(now: Situation, activity: PendingActivityInfo) -> Reason:
    model = now.story.start.agent.definition.model if now.story.start else "the model"
    preview = now.previews.get(activity.activity_id)
    written = sum(part.offset + len(part.text) for part in preview.parts) if isinstance(preview, ModelPreview) else 0
    attempt = now.story.attempt + activity.attempt - 1
    told = [f"model call to {model}", _course(now, activity)]
    told += [f"attempt {attempt}"] if attempt > 1 else []
    told += [f"last error: {_error(now)}"] if now.story.error is not None else []
    told += [f"{written} characters so far"] if written else []
    return Reason(
        type="model_call",
        text=", ".join(told) + _failure(activity),
        action=f"wait, or end the turn: sojourn sessions interrupt {now.located.id}",
        since=_began(activity),
        attempt=attempt,
        worker=activity.last_worker_identity or None,
    )


def _tool(now: Situation, activity: PendingActivityInfo) -> Reason:
    call = now.story.calls.get(EventId(activity.activity_id))
    preview = now.previews.get(activity.activity_id)
    told = [f"tool call {_call(call)}", _course(now, activity)]
    told += [f"attempt {activity.attempt}"] if activity.attempt > 1 else []
    told += [f"it says: {_short(preview.progress)}"] if isinstance(preview, ToolPreview) and preview.progress else []
    return Reason(
        type="tool_call",
        text=", ".join(told) + _failure(activity),
        action=f"wait, or end the turn: sojourn sessions interrupt {now.located.id}",
        since=_began(activity),
        attempt=activity.attempt,
        tool_use_id=EventId(activity.activity_id),
        tool=call.name if call else None,
        worker=activity.last_worker_identity or None,
    )


def _course(now: Situation, activity: PendingActivityInfo) -> str:
    """How far an activity is."""
    age = _span(now.now - _began(activity))
    match activity.state:
        case _STATE.PENDING_ACTIVITY_STATE_STARTED:
            return f"running for {age} on worker {activity.last_worker_identity}"
        case _STATE.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED:
            return f"being interrupted, running for {age} on worker {activity.last_worker_identity}"
        case _STATE.PENDING_ACTIVITY_STATE_PAUSED | _STATE.PENDING_ACTIVITY_STATE_PAUSE_REQUESTED:
            return "held by an operator (temporal activity unpause)"
        case _ if activity.HasField("next_attempt_schedule_time") and activity.attempt > 1:
            return f"next try in {_span(_time(activity.next_attempt_schedule_time) - now.now)}"
        case _:
            return f"has waited {age} for a worker"


def _began(activity: PendingActivityInfo) -> datetime:
    started = activity.state in (
        _STATE.PENDING_ACTIVITY_STATE_STARTED,
        _STATE.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED,
    ) and activity.HasField("last_started_time")
    return _time(activity.last_started_time if started else activity.scheduled_time)


def _failure(activity: PendingActivityInfo) -> str:
    return f"; last attempt: {_short(activity.last_failure.message)}" if activity.last_failure.message else ""


def _retry(now: Situation) -> Iterator[Reason]:
    if _status(now) is not SessionStatus.RESCHEDULING:
        return
    ends = now.story.timer_ends
    when = f"next try in {_span(ends - now.now)}" if ends is not None else "next try at once"
    yield Reason(
        type="retry",
        text=f"attempt {now.story.attempt} of its model call failed, {when}; {_error(now)}",
        action=f"wait, or end the turn: sojourn sessions interrupt {now.located.id}",
        until=ends,
        attempt=now.story.attempt,
    )


def _answers(now: Situation) -> Iterator[Reason]:
    for action in now.story.pending:
        call = now.story.calls.get(action.id)
        yield _EXPLAINED[action.kind](now, action, call)


def _approval(now: Situation, action: PendingAction, call: Asked | None) -> Reason:
    asked = call.at if call else None
    since = f" since {_span(now.now - asked)}" if asked else ""
    confirm, deny = (f"sojourn sessions {verb} {now.located.id} {action.id}" for verb in ("confirm", "deny"))
    return Reason(
        type="approval",
        text=f"waits{since} for somebody to approve {_call(call) if call else action.name}",
        action=f"{confirm}, or {deny}",
        since=asked,
        tool_use_id=action.id,
        tool=action.name,
    )


def _custom(now: Situation, action: PendingAction, call: Asked | None) -> Reason:
    asked = call.at if call else None
    default = now.story.start.agent.definition.limits.custom_tool_timeout if now.story.start else None
    limit = (call.timeout if call else None) or default
    until = asked + limit if asked and limit else None
    bound = f"until {until:%Y-%m-%d %H:%M:%S} UTC" if until else "without a limit"
    return Reason(
        type="custom_tool",
        text=f"waits {bound} for the client's result of {_call(call) if call else action.name}",
        action=f"sojourn sessions answer {now.located.id} {action.id} TEXT",
        since=asked,
        until=until,
        tool_use_id=action.id,
        tool=action.name,
    )


def _remote(now: Situation, action: PendingAction, call: Asked | None) -> Reason:
    start = now.story.start
    environment = (start.environment_id if start else None) or "its environment"
    return Reason(
        type="custom_tool",
        text=f"waits for a worker of {environment} to run {_call(call) if call else action.name}",
        action="start a worker there with the environment's key (`sojourn keys create --environment`)",
        since=call.at if call else None,
        tool_use_id=action.id,
        tool=action.name,
    )


_EXPLAINED: dict[PendingKind, Callable[[Situation, PendingAction, Asked | None], Reason]] = {
    "confirmation": _approval,
    "custom_tool_result": _custom,
    "tool_result": _remote,
}


def _broke(now: Situation) -> Iterator[Reason]:
    info, account = now.described.workflow_execution_info, now.account
    if attribute(info, STOP_REASON_ATTRIBUTE) != BudgetReached().type or account.budget is None:
        return
    raise_it, remove_it = f"sojourn sessions budget {now.located.id} CENTS", "--remove in place of CENTS"
    if account.cost_microcents is None:
        text = "what it has cost is not known, because a model has no known price, so its budget cannot be held"
        action = f"{raise_it.replace('CENTS', '--remove')} takes the limit away, and it goes on by itself"
    else:
        spent, limit = account.cost_microcents / MICROCENTS_PER_CENT, account.budget.max_list_cost_cents
        text = f"its budget is used up: {spent:.2f} of {limit} cents at list price"
        action = f"{raise_it}, or {remove_it}, and it goes on by itself"
    yield Reason(type="budget", text=text, action=action, since=account.updated_at)


# --- at rest ---------------------------------------------------------------------------------------------------------


def _queue(now: Situation) -> Iterator[Reason]:
    if count := len(now.story.queue):
        messages = "1 message waits" if count == 1 else f"{count} messages wait"
        yield Reason(type="queue", text=f"{messages} in the queue")


def _rest(now: Situation) -> Reason:
    shown = attribute(now.described.workflow_execution_info, STOP_REASON_ATTRIBUTE)
    action = f'sojourn sessions send {now.located.id} "…"'
    if shown == "retries_exhausted":
        text = f"the last turn failed with {_error(now)}"
        return Reason(
            type="error", text=text, action=f"mend the cause, then try again: {action}", since=now.story.idle_at
        )
    if _status(now) in (SessionStatus.RUNNING, SessionStatus.RESCHEDULING):
        return Reason(type="message", text="its workflow is deciding what comes next; look again in a moment")
    first = "its first message" if _status(now) is SessionStatus.QUEUED else "a message"
    return Reason(type="message", text=f"it waits for {first}", action=action, since=now.story.idle_at)


# --- words -----------------------------------------------------------------------------------------------------------


def _call(call: Asked | None) -> str:
    """A tool call with the start of its arguments."""
    if call is None:
        return "of an earlier part of the log"
    if call.input is None:
        return f"{call.name}(…)"
    shown = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in call.input.items())
    return f"{call.name}({_short(shown)})"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHORT else f"{line[: _SHORT - 1]}…"


def _span(length: timedelta) -> str:
    """A length of time as people say it."""
    seconds = max(length.total_seconds(), 0)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)
