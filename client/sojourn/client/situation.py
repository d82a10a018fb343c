"""All that the server knows of one session at this moment. Needs no worker."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pydantic import JsonValue
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, TaskQueueType, WorkerStatus
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    DescribeTaskQueueResponse,
    DescribeWorkflowExecutionRequest,
    DescribeWorkflowExecutionResponse,
    ListWorkersRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError

from sojourn.client.answer import OpenCalls
from sojourn.client.listing import quote
from sojourn.client.session import Located
from sojourn.types.account import SessionAccount
from sojourn.types.described import memo
from sojourn.types.event import (
    SessionErrorEvent,
    SessionEvent,
    SessionIdle,
    SessionPaused,
    SessionRunning,
    UserMessage,
)
from sojourn.types.history import RunDecoder
from sojourn.types.id import EventId
from sojourn.types.log import LogCursor
from sojourn.types.mcp import ELICITATION, McpOutcome
from sojourn.types.name import ACCOUNT_MEMO, CALL_MODEL_ACTIVITY, RUN_TOOL_ACTIVITY
from sojourn.types.preview import ModelPreview, ToolPreview
from sojourn.types.record import CallModelInput, CallModelResult, Record, RunToolResult
from sojourn.types.session import PendingAction, SessionInput
from sojourn.types.session_error import ErrorDetail

_AT_ONCE = timedelta(seconds=5)


@dataclass
class Asked:
    """A tool call as far as its session's current run tells."""

    name: str
    input: dict[str, JsonValue] | None
    """``None`` if an earlier run holds the arguments."""
    at: datetime | None
    timeout: timedelta | None
    """The call's own; ``None`` takes the agent's limit."""


@dataclass
class RunStory:
    """What the history of the session's current run tells, folded."""

    start: SessionInput | None = None
    calls: dict[EventId, Asked] = field(default_factory=dict)
    pending: list[PendingAction] = field(default_factory=list)
    queue: list[EventId] = field(default_factory=list)
    error: ErrorDetail | None = None
    """Of the turn in progress, or of the last one."""
    attempt: int = 0
    """Of the last model step."""
    paused_at: datetime | None = None
    idle_at: datetime | None = None
    timer_ends: datetime | None = None
    task_failure: str | None = None
    """Why the last workflow task failed; ``None`` if it did not."""
    task_failed_at: datetime | None = None
    ended_by: str | None = None
    """What ended the workflow from outside."""


@dataclass
class Situation:
    """A session as the server describes it."""

    located: Located
    described: DescribeWorkflowExecutionResponse
    account: SessionAccount
    story: RunStory
    pollers: DescribeTaskQueueResponse | None
    """Who asks for workflow tasks; ``None`` if the server does not tell."""
    gone: frozenset[tuple[str, str]]
    """Pollers that have stopped in order, as identity and build id: the server lists them on for minutes."""
    previews: dict[str, ModelPreview | ToolPreview]
    """What the pending activities have told last, by activity id."""
    task_queue: str
    now: datetime


async def look(client: Client, located: Located) -> Situation:
    """Ask the server.

    Raises:
        RPCError: As the server says.
    """
    execution = WorkflowExecution(workflow_id=located.workflow_id, run_id=located.run_id)
    described = await client.workflow_service.describe_workflow_execution(
        DescribeWorkflowExecutionRequest(namespace=client.namespace, execution=execution), retry=True, timeout=_AT_ONCE
    )
    task_queue = described.execution_config.task_queue.name
    return Situation(
        located=located,
        described=described,
        account=await memo(client, described.workflow_execution_info, ACCOUNT_MEMO, SessionAccount) or SessionAccount(),
        story=await _story(client, located),
        pollers=await _pollers(client, task_queue),
        gone=await _gone(client, task_queue),
        previews=await _previews(client, described.pending_activities),
        task_queue=task_queue,
        now=datetime.now(UTC),
    )


async def _pollers(client: Client, task_queue: str) -> DescribeTaskQueueResponse | None:
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=task_queue),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    )
    try:
        return await client.workflow_service.describe_task_queue(request, retry=True, timeout=_AT_ONCE)
    except RPCError:
        return None


async def _gone(client: Client, task_queue: str) -> frozenset[tuple[str, str]]:
    request = ListWorkersRequest(namespace=client.namespace, query=f"TaskQueue={quote(task_queue)}")
    try:
        listed = await client.workflow_service.list_workers(request, retry=True, timeout=_AT_ONCE)
    except RPCError:
        # Older servers do not know their workers.
        return frozenset()
    running: dict[tuple[str, str], bool] = {}
    for each in listed.workers:
        version = each.deployment_version
        key = each.worker_identity, version.build_id if version.deployment_name else ""
        running[key] = running.get(key, False) or each.status == WorkerStatus.WORKER_STATUS_RUNNING
    return frozenset(key for key, runs in running.items() if not runs)


async def _previews(client: Client, activities: Iterable[PendingActivityInfo]) -> dict[str, ModelPreview | ToolPreview]:
    kinds: dict[str, type[ModelPreview | ToolPreview]] = {
        CALL_MODEL_ACTIVITY: ModelPreview,
        RUN_TOOL_ACTIVITY: ToolPreview,
    }
    found = {}
    for each in activities:
        if each.heartbeat_details.payloads and (kind := kinds.get(each.activity_type.name)) is not None:
            (found[each.activity_id],) = await client.data_converter.decode(each.heartbeat_details.payloads[:1], [kind])
    return found


async def _story(client: Client, located: Located) -> RunStory:
    handle = client.get_workflow_handle(located.workflow_id, run_id=located.run_id)
    teller = _Teller(client)
    async for event in handle.fetch_history_events(skip_archival=True, rpc_timeout=_AT_ONCE):
        await teller.feed(event)
    teller.story.pending = teller.open_calls.pending
    return teller.story


class _Teller:
    """Folds the history of one run."""

    def __init__(self, client: Client) -> None:
        self.story = RunStory()
        self.open_calls = OpenCalls()
        self._decoder = RunDecoder(client.data_converter)
        self._cursor: LogCursor | None = None
        self._timers: dict[int, datetime] = {}

    async def feed(self, event: HistoryEvent) -> None:
        stored = await self._decoder.decode(event)
        if self._decoder.start is not None and self._cursor is None:
            self._begin(self._decoder.start)
        if stored is not None and self._cursor is not None:
            self.open_calls.feed(stored.record)
            self._take(stored.record, stored.at)
            for each in self._cursor.number(stored.record, at=stored.at):
                self._tell(each)
        self._look_below(event)

    def _begin(self, start: SessionInput) -> None:
        self.story.start = start
        self.open_calls.begin(start)
        self._cursor = self._decoder.cursor()
        if start.state is not None:
            self.story.queue = list(start.state.queue)
            for call in start.state.turn.calls if start.state.turn else ():
                self.story.calls[call.id] = Asked(call.name, None, call.asked_at, call.timeout)

    def _take(self, record: Record, at: datetime) -> None:
        match record:
            case CallModelInput():
                self.story.attempt = max(record.attempt, 1)
            case CallModelResult():
                self.story.error = None
                self.story.calls = {call.id: Asked(call.name, call.input, at, call.timeout) for call in record.calls}
            case RunToolResult(mcp=McpOutcome(questions=questions)):
                self.story.calls |= {each.id: Asked(ELICITATION, each.input, at, None) for each in questions}
            case _:
                pass

    def _tell(self, event: SessionEvent) -> None:
        story = self.story
        match event:
            case UserMessage():
                story.queue.append(event.id)
            case SessionRunning() if event.user_event_id is not None:
                story.queue = [id for id in story.queue if id != event.user_event_id]
                story.error = None
            case SessionErrorEvent():
                story.error = event.error
            case SessionPaused():
                story.paused_at = event.processed_at
            case SessionIdle():
                story.idle_at = event.processed_at
            case _:
                pass

    def _look_below(self, event: HistoryEvent) -> None:
        """What history tells beside the session's own events."""
        story, at = self.story, event.event_time.ToDatetime(tzinfo=UTC)
        match event.event_type:
            case EventType.EVENT_TYPE_TIMER_STARTED:
                length = event.timer_started_event_attributes.start_to_fire_timeout.ToTimedelta()
                self._timers[event.event_id] = at + length
            case EventType.EVENT_TYPE_TIMER_FIRED:
                self._timers.pop(event.timer_fired_event_attributes.started_event_id, None)
            case EventType.EVENT_TYPE_TIMER_CANCELED:
                self._timers.pop(event.timer_canceled_event_attributes.started_event_id, None)
            case EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                story.task_failure = story.task_failed_at = None
            case EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
                story.task_failure = _words(event.workflow_task_failed_event_attributes.failure)
                story.task_failed_at = at
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED:
                ended = event.workflow_execution_terminated_event_attributes
                story.ended_by = f"terminated by {ended.identity or 'somebody'}: {ended.reason or 'no reason given'}"
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED:
                story.ended_by = "canceled in Temporal"
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT:
                story.ended_by = "its workflow's execution timeout passed"
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
                story.ended_by = (
                    f"its workflow failed: {_words(event.workflow_execution_failed_event_attributes.failure)}"
                )
            case _:
                pass
        story.timer_ends = min(self._timers.values(), default=None)


def _words(failure: Failure) -> str:
    """A failure in one line, its causes included."""
    said = " ".join(failure.message.split())
    kind = failure.application_failure_info.type
    text = f"{kind}: {said}" if kind and kind not in said else said
    if failure.HasField("cause"):
        text = f"{text}; caused by {_words(failure.cause)}"
    return text if len(text) <= 400 else f"{text[:399]}…"
