"""Reading records out of Temporal history. A dumb decoder: what a record means is the record's business."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.converter import DataConverter

from sojourn.types.log import LogCursor
from sojourn.types.mcp import ListMcpToolsInput, ListMcpToolsResult
from sojourn.types.name import (
    CALL_MODEL_ACTIVITY,
    COMPACT_CONTEXT_ACTIVITY,
    LIST_MCP_TOOLS_ACTIVITY,
    LOG_MEMO,
    RUN_TOOL_ACTIVITY,
    USER_EVENTS_SIGNAL,
)
from sojourn.types.record import (
    ActivityInput,
    ActivityResult,
    CallModelInput,
    CallModelResult,
    CompactContextInput,
    CompactContextResult,
    Record,
    RunToolInput,
    RunToolResult,
    Said,
    UserEvents,
)
from sojourn.types.session import SessionInput

R = TypeVar("R")

_INPUTS: dict[str, type[ActivityInput]] = {
    CALL_MODEL_ACTIVITY: CallModelInput,
    RUN_TOOL_ACTIVITY: RunToolInput,
    COMPACT_CONTEXT_ACTIVITY: CompactContextInput,
    LIST_MCP_TOOLS_ACTIVITY: ListMcpToolsInput,
}
_RESULTS: dict[str, type[ActivityResult]] = {
    CALL_MODEL_ACTIVITY: CallModelResult,
    RUN_TOOL_ACTIVITY: RunToolResult,
    COMPACT_CONTEXT_ACTIVITY: CompactContextResult,
    LIST_MCP_TOOLS_ACTIVITY: ListMcpToolsResult,
}


@dataclass
class Stored:
    """One record and when the server stored it."""

    record: Record
    at: datetime


def cursor_at(start: SessionInput) -> LogCursor:
    """The place in the log at which a run begins that started from this."""
    state = start.state
    if state is None:
        return LogCursor(start.session_id)
    return LogCursor(start.session_id, seq=state.seq, user_events=state.user_events, seen=state.seen)


class RunDecoder:
    """Decodes the history of one run, event by event, in order. Feeding events again gives the same again.

    Attributes:
        start: The run's input, once its first event has been fed.
        first_run_id: The run with which the chain began.
        previous_run_id: The run it continues, or ``""``.
        next_run_id: The run that continues it, or ``""``.
        closed: Whether the chain has ended with this run.
    """

    def __init__(self, converter: DataConverter) -> None:
        self.start: SessionInput | None = None
        self.first_run_id = ""
        self.previous_run_id = ""
        self.next_run_id = ""
        self.closed = False
        self._converter = converter
        self._scheduled: dict[int, str] = {}

    @property
    def ended(self) -> bool:
        """Whether the run takes no more events."""
        return self.closed or bool(self.next_run_id)

    def cursor(self) -> LogCursor:
        """The place in the log at which the run begins."""
        assert self.start is not None, "feed the run's first event before asking for its cursor"
        return cursor_at(self.start)

    async def decode(self, event: HistoryEvent) -> Stored | None:
        """The record that the event carries, if it carries one."""
        record = await self._record(event)
        return None if record is None else Stored(record, event.event_time.ToDatetime(tzinfo=UTC))

    async def _record(self, event: HistoryEvent) -> Record | None:
        reader = _READERS.get(event.event_type)
        return None if reader is None else await reader(self, event)

    async def _started(self, event: HistoryEvent) -> None:
        started = event.workflow_execution_started_event_attributes
        self.first_run_id = started.first_execution_run_id
        self.previous_run_id = started.continued_execution_run_id
        self.start = await self._read(SessionInput, started.input)

    async def _continued(self, event: HistoryEvent) -> None:
        self.next_run_id = event.workflow_execution_continued_as_new_event_attributes.new_execution_run_id

    async def _ended(self, event: HistoryEvent) -> None:
        self.closed = True

    async def _said(self, event: HistoryEvent) -> Record | None:
        fields = event.workflow_properties_modified_event_attributes.upserted_memo.fields
        return await self._read(Said, fields[LOG_MEMO]) if LOG_MEMO in fields else None

    async def _signaled(self, event: HistoryEvent) -> Record | None:
        attributes = event.workflow_execution_signaled_event_attributes
        if attributes.signal_name != USER_EVENTS_SIGNAL or len(attributes.input.payloads) != 1:
            return None
        try:
            record: object = await self._read(UserEvents, attributes.input)
        except (LookupError, RuntimeError, ValueError):
            # The workflow drops a signal that it cannot decode, so the log must not show it either.
            return None
        return record if isinstance(record, UserEvents) else None

    async def _activity_scheduled(self, event: HistoryEvent) -> Record | None:
        attributes = event.activity_task_scheduled_event_attributes
        name = attributes.activity_type.name
        if name not in _INPUTS:
            return None
        self._scheduled[event.event_id] = name
        return await self._read(_INPUTS[name], attributes.input)

    async def _activity_completed(self, event: HistoryEvent) -> Record | None:
        attributes = event.activity_task_completed_event_attributes
        name = self._scheduled.get(attributes.scheduled_event_id)
        return None if name is None else await self._read(_RESULTS[name], attributes.result)

    async def _read(self, kind: type[R], payload: Payloads | Payload) -> R:
        payloads = [payload] if isinstance(payload, Payload) else payload.payloads
        found: R = (await self._converter.decode(payloads, [kind]))[0]
        return found


_READERS: dict[int, Callable[[RunDecoder, HistoryEvent], Awaitable[Record | None]]] = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED: RunDecoder._started,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED: RunDecoder._signaled,
    EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED: RunDecoder._activity_scheduled,
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: RunDecoder._activity_completed,
    EventType.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED: RunDecoder._said,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW: RunDecoder._continued,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: RunDecoder._ended,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: RunDecoder._ended,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: RunDecoder._ended,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: RunDecoder._ended,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: RunDecoder._ended,
}
"""What the decoder looks at; other events tell nothing about a session."""
