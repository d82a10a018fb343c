"""What is being written right now, read from the heartbeats of pending activities."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.service import RPCError

from sojourn.types.content import TextBlock
from sojourn.types.event import AgentMcpToolResult, AgentMessage, AgentThinking, AgentToolResult, SessionEvent
from sojourn.types.id import EventId
from sojourn.types.name import CALL_MODEL_ACTIVITY, RUN_TOOL_ACTIVITY
from sojourn.types.preview import (
    ContentDelta,
    EventDelta,
    EventStart,
    ModelPreview,
    PartPreview,
    Preview,
    PreviewedEvent,
    ToolPreview,
    ToolProgress,
)

INTERVAL = timedelta(milliseconds=100)


class PreviewWatch:
    """Polls the pending activities of one session while somebody wants previews and a turn is in progress.

    Attributes:
        latest: What the heartbeats said last.
    """

    def __init__(self, client: Client, workflow_id: str, notify: Callable[[], None]) -> None:
        self.latest: tuple[ModelPreview | ToolPreview, ...] = ()
        self._client = client
        self._workflow_id = workflow_id
        self._notify = notify
        self._wanted = 0
        self._in_flight = False
        self._generation = 0
        self._awake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def want(self, change: int) -> None:
        """Count one more or one less who wants previews."""
        self._wanted += change
        self._update()

    def expect(self, in_flight: bool) -> None:
        """Say whether a turn is in progress."""
        self._in_flight = in_flight
        self._update()

    def clear(self) -> None:
        """Forget what was being written: it is in the log now."""
        self.latest = ()
        self._generation += 1

    async def close(self) -> None:
        """Stop polling."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def _update(self) -> None:
        if self._wanted and self._in_flight:
            self._awake.set()
            self._task = self._task or asyncio.create_task(self._watch())
        else:
            self._awake.clear()

    async def _watch(self) -> None:
        while True:
            await self._awake.wait()
            # A preview that cannot be had is left out; the log is what counts.
            with suppress(RPCError):
                generation = self._generation
                found = await self._look()
                if found != self.latest and generation == self._generation:
                    self.latest = found
                    self._notify()
            await asyncio.sleep(INTERVAL.total_seconds())

    async def _look(self) -> tuple[ModelPreview | ToolPreview, ...]:
        request = DescribeWorkflowExecutionRequest(
            namespace=self._client.namespace, execution=WorkflowExecution(workflow_id=self._workflow_id)
        )
        described = await self._client.workflow_service.describe_workflow_execution(
            request, timeout=timedelta(seconds=5)
        )
        found = [await self._decode(activity) for activity in described.pending_activities]
        return tuple(each for each in found if each is not None)

    async def _decode(self, activity: PendingActivityInfo) -> ModelPreview | ToolPreview | None:
        kinds: dict[str, type[ModelPreview | ToolPreview]] = {
            CALL_MODEL_ACTIVITY: ModelPreview,
            RUN_TOOL_ACTIVITY: ToolPreview,
        }
        kind = kinds.get(activity.activity_type.name)
        if kind is None or not activity.heartbeat_details.payloads:
            return None
        found: ModelPreview | ToolPreview
        found = (await self._client.data_converter.decode(activity.heartbeat_details.payloads[:1], [kind]))[0]
        return found


class PreviewCursor:
    """What one follower has been shown: turns cumulative previews into starts and deltas, never twice, never wrong."""

    def __init__(self) -> None:
        self._sent: dict[EventId, int] = {}
        self._progress: dict[EventId, str] = {}
        self._done: set[EventId] = set()

    def settle(self, event: SessionEvent) -> None:
        """The event itself has been shown: no more previews of it."""
        match event:
            case AgentMessage() | AgentThinking():
                self._done.add(event.id)
                self._sent.pop(event.id, None)
            case AgentToolResult() | AgentMcpToolResult():
                self._done.add(event.tool_use_id)
                self._progress.pop(event.tool_use_id, None)

    def advance(self, latest: tuple[ModelPreview | ToolPreview, ...]) -> Iterator[Preview]:
        """What is new in the latest previews."""
        for preview in latest:
            if isinstance(preview, ToolPreview):
                yield from self._tool(preview)
            else:
                for part in preview.parts:
                    yield from self._part(part)

    def _part(self, part: PartPreview) -> Iterator[Preview]:
        if part.id in self._done:
            return
        if part.id not in self._sent:
            self._sent[part.id] = 0
            yield EventStart(event=PreviewedEvent(type=part.type, id=part.id))
        sent = self._sent[part.id]
        # A window that begins after what was shown would leave a gap; the rest comes with the event.
        if part.type == "agent.message" and part.offset <= sent < part.offset + len(part.text):
            fresh = part.text[sent - part.offset :]
            self._sent[part.id] = sent + len(fresh)
            yield EventDelta(event_id=part.id, delta=ContentDelta(content=TextBlock(text=fresh)))

    def _tool(self, preview: ToolPreview) -> Iterator[Preview]:
        if preview.tool_use_id not in self._done and self._progress.get(preview.tool_use_id) != preview.progress:
            self._progress[preview.tool_use_id] = preview.progress
            yield ToolProgress(tool_use_id=preview.tool_use_id, text=preview.progress)
