"""Recorded histories are replayed with today's workflow code, so that running sessions survive a deploy."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from sojourn.types import name as wire_name
from sojourn.types.converter import data_converter
from sojourn.types.event import (
    AgentToolResult,
    Event,
    SaidEvent,
    SessionErrorEvent,
    SessionEvent,
    SessionIdle,
    SessionTerminated,
    ToolOutcome,
    UnknownEvent,
    UserEvent,
)
from sojourn.types.history import RunDecoder
from sojourn.types.name import SESSION_WORKFLOW
from sojourn.types.session import SessionInput, SessionResult, StopReason
from sojourn.types.session_error import RetryStatus
from sojourn.workflows import (
    ENTITIES,
    CheckSandboxWorkflow,
    DeploymentRunWorkflow,
    ExportWorkflow,
    SessionWorkflow,
    WorkWorkflow,
)

FOLDER = Path(__file__).parents[1] / "histories"
FILES = sorted(FOLDER.glob("*/*.json"))
SESSIONS = [path for path in FILES if path.name.startswith("session-")]


def _history(path: Path, change: Callable[[list[dict[str, Any]]], None] = lambda events: None) -> WorkflowHistory:
    loose = json.loads(path.read_text())
    change(loose["events"])
    return WorkflowHistory.from_json(loose["workflowId"], loose)


def _replayer(*workflows: type) -> Replayer:
    others = (ExportWorkflow, DeploymentRunWorkflow, CheckSandboxWorkflow, WorkWorkflow)
    return Replayer(
        workflows=workflows or (SessionWorkflow, *ENTITIES, *others),
        data_converter=data_converter,
        workflow_runner=UnsandboxedWorkflowRunner(),
    )


def _named(paths: list[Path]) -> list[Any]:
    return [pytest.param(path, id=f"{path.parent.name}-{path.stem}") for path in paths]


def test_there_are_recordings() -> None:
    assert len(SESSIONS) > 10
    assert len(FILES) > len(SESSIONS)


@pytest.mark.parametrize("path", _named(FILES))
async def test_a_recorded_history_replays(path: Path) -> None:
    await _replayer().replay_workflow(_history(path))


@pytest.mark.parametrize("path", _named(SESSIONS))
async def test_the_log_of_a_recorded_history_counts_as_the_workflow_did(path: Path) -> None:
    history = _history(path)
    decoder = RunDecoder(data_converter)
    stored = [found for event in history.events if (found := await decoder.decode(event)) is not None]
    cursor = decoder.cursor()
    events = [event for each in stored for event in cursor.number(each.record, at=each.at)]

    assert [event.seq for event in events] == list(range(cursor.seq - len(events) + 1, cursor.seq + 1))
    assert cursor.seq == await _counted(history)


async def _counted(history: WorkflowHistory) -> int:
    """What the workflow itself said at the end of the run."""
    last = history.events[-1]
    if last.HasField("workflow_execution_continued_as_new_event_attributes"):
        payloads = last.workflow_execution_continued_as_new_event_attributes.input.payloads
        following = (await data_converter.decode(payloads, [SessionInput]))[0]
        assert following.state is not None
        return int(following.state.seq)
    payloads = last.workflow_execution_completed_event_attributes.result.payloads
    result: SessionResult = (await data_converter.decode(payloads, [SessionResult]))[0]
    return result.seq


# --- every feature is in a recording -------------------------------------------------------------------------------

NEVER = {
    "user.define_outcome": "the client refuses it until outcomes exist",
}
"""What no recording can hold, and why."""


async def _recorded() -> set[str]:
    """Everything that a recording could show, by the names it has on the wire."""
    found: set[str] = set()
    for path in FILES:
        history = _history(path)
        decoder = RunDecoder(data_converter)
        for event in history.events:
            found |= set(_handled(event))
            if path in SESSIONS and (stored := await decoder.decode(event)) is not None:
                found |= {name for each in stored.record.events() for name in _told(each)}
    return found


def _handled(event: HistoryEvent) -> Iterator[str]:
    yield EventType.Name(event.event_type).removeprefix("EVENT_TYPE_").lower()
    yield event.activity_task_scheduled_event_attributes.activity_type.name
    yield event.workflow_execution_signaled_event_attributes.signal_name
    yield event.workflow_execution_update_accepted_event_attributes.accepted_request.input.name
    yield event.workflow_execution_started_event_attributes.workflow_type.name
    if event.workflow_task_started_event_attributes.target_worker_deployment_version_changed:
        yield "moved to another version"


def _told(event: SessionEvent) -> Iterator[str]:
    yield event.type
    match event:
        case SessionIdle():
            yield event.stop_reason.type
        case AgentToolResult():
            yield f"outcome {event.outcome}"
        case SessionErrorEvent():
            yield event.error.type
            yield f"retry {event.error.retry_status.type}"
        case SessionTerminated():
            yield f"ends {event.status}"


def _features() -> set[str]:
    """What the workflows can do, from the lists that they are written with."""
    kinds = ("_SIGNAL", "_UPDATE", "_ACTIVITY", "_WORKFLOW")
    names = {value for key, value in vars(wire_name).items() if key.endswith(kinds)}
    events = {_type(each) for each in (*_members(SaidEvent), *_members(UserEvent))}
    reasons = {_type(each) for each in _members(StopReason)}
    outcomes = {f"outcome {each}" for each in get_args(ToolOutcome)}
    retries = {f"retry {each}" for each in get_args(RetryStatus.model_fields["type"].annotation)}
    others = {"timer_fired", "ends archived", "ends failed", "moved to another version", "tool_use_limit_reached_error"}
    return names | events | reasons | outcomes | retries | others


def _members(union: Any) -> Iterator[type[Event]]:
    if isinstance(union, type):
        if union is not UnknownEvent:
            yield union
        return
    for each in get_args(union):
        # Unions are annotated, and annotations are among the arguments.
        if isinstance(each, type) or get_args(each):
            yield from _members(each)


def _type(event: type[Event]) -> str:
    return str(event.model_fields["type"].default)


async def test_every_feature_is_in_a_recording() -> None:
    """Add a play to `tests/histories/play.py` for what is missing, and run `make record-histories`."""
    missing = _features() - await _recorded()

    assert missing == NEVER.keys()


# --- the test can fail ---------------------------------------------------------------------------------------------


def _first(events: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(event for event in events if event["eventType"] == f"EVENT_TYPE_{kind}")


def _other_activity(events: list[dict[str, Any]]) -> None:
    attributes = _first(events, "ACTIVITY_TASK_SCHEDULED")["activityTaskScheduledEventAttributes"]
    attributes["activityType"]["name"] = "something_else"


def _other_activity_id(events: list[dict[str, Any]]) -> None:
    attributes = _first(events, "ACTIVITY_TASK_SCHEDULED")["activityTaskScheduledEventAttributes"]
    attributes["activityId"] = "sevt_other"


def _dropped_memo(events: list[dict[str, Any]]) -> None:
    place = events.index(_first(events, "WORKFLOW_PROPERTIES_MODIFIED"))
    del events[place]
    for event in events[place:]:
        event["eventId"] = str(int(event["eventId"]) - 1)
        for attributes in event.values():
            if isinstance(attributes, dict):
                _renumber(attributes, place)


def _renumber(attributes: dict[str, Any], place: int) -> None:
    for name in ("scheduledEventId", "startedEventId", "workflowTaskCompletedEventId"):
        if name in attributes and int(attributes[name]) > place:
            attributes[name] = str(int(attributes[name]) - 1)


def _reordered_commands(events: list[dict[str, Any]]) -> None:
    scheduled = _first(events, "ACTIVITY_TASK_SCHEDULED")
    place = events.index(scheduled)
    other = events[place + 1]
    assert other["eventType"] == "EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES"
    for key in [key for key in {*scheduled, *other} if key not in ("eventId", "eventTime", "taskId")]:
        scheduled[key], other[key] = other.get(key), scheduled.get(key)
    for event in (scheduled, other):
        for key in [key for key, value in event.items() if value is None]:
            del event[key]


@pytest.mark.parametrize(
    "change", [_other_activity, _other_activity_id, _dropped_memo, _reordered_commands], ids=lambda each: each.__name__
)
async def test_a_history_that_the_code_does_not_follow_fails(
    change: Callable[[list[dict[str, Any]]], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "temporalio")

    with pytest.raises(workflow.NondeterminismError):
        await _replayer().replay_workflow(_history(FOLDER / "0.1.0" / "session-turn.json", change))


@workflow.defn(name=SESSION_WORKFLOW)
class Changed(SessionWorkflow):
    """The session as somebody might change it without thinking of those that run."""

    @workflow.init
    def __init__(self, input: SessionInput) -> None:
        super().__init__(input)

    @workflow.run
    async def run(self, input: SessionInput) -> SessionResult:
        await workflow.sleep(1)
        return await super().run(input)


async def test_a_workflow_that_does_something_else_fails() -> None:
    with pytest.raises(workflow.NondeterminismError):
        await _replayer(Changed).replay_workflow(_history(FOLDER / "0.1.0" / "session-turn.json"))


def test_recordings_hold_nothing_of_the_machine_they_were_made_on() -> None:
    assert [path.name for path in FILES if "site-packages" in path.read_text() or ".py\\" in path.read_text()] == []
