"""The end of one session's log, read once per process and shared by all who watch it."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from temporalio.client import Client
from temporalio.service import RPCError

from sojourn.client.answer import target
from sojourn.client.poll import LONGEST_PAUSE, SHORT_POLL, PollBudget
from sojourn.client.preview import PreviewWatch
from sojourn.types.chain import TRANSIENT, ChainReader
from sojourn.types.event import (
    AgentMcpToolResult,
    AgentMcpToolUse,
    AgentToolResult,
    AgentToolUse,
    ModelRequestEnd,
    ModelRequestStart,
    SessionErrorEvent,
    SessionEvent,
    SessionIdle,
    SessionRunning,
    UserCustomToolResult,
    UserMessage,
    UserToolConfirmation,
    UserToolResult,
)
from sojourn.types.history import Stored
from sojourn.types.id import EventId
from sojourn.types.log import LogCursor
from sojourn.types.session import RequiresAction, SessionInput, StopReason

logger = logging.getLogger("sojourn.client")

RING = 512
"""Events kept for followers; one that is further behind reads the log again by itself."""


class SessionTail:
    """Follows one session from the beginning of its latest run.

    Attributes:
        previews: What is being written right now, polled while somebody wants it.
    """

    def __init__(self, client: Client, workflow_id: str, run_id: str, budget: PollBudget) -> None:
        self.previews = PreviewWatch(client, workflow_id, self._notify)
        self._reader = ChainReader(client, workflow_id, run_id)
        self._budget = budget
        self._ring: deque[SessionEvent] = deque(maxlen=RING)
        self._cursor: LogCursor | None = None
        self._changed = asyncio.Event()
        self._poked = asyncio.Event()
        self._reading: asyncio.Future[list[Stored] | None] | None = None
        self._failure: BaseException | None = None
        self._running = False
        self._parked: set[EventId] = set()
        self._answered = False
        self._in_flight: set[EventId] = set()
        self._queue: dict[EventId, None] = {}
        self._ended = False
        self._left: set[str] = set()
        self._task = asyncio.create_task(self._follow())

    # --- for followers ---------------------------------------------------------------------------------------------

    @property
    def seq(self) -> int:
        """Number of the last event read."""
        return self._cursor.seq if self._cursor else 0

    @property
    def ended(self) -> bool:
        """Whether the log is complete and has been read to its end."""
        return self._ended

    @property
    def failed(self) -> bool:
        """Whether following failed for good."""
        return self._failure is not None

    @property
    def run_id(self) -> str:
        """The run being followed."""
        return self._reader.run_id

    @property
    def running(self) -> bool:
        """Whether events are to be expected: a turn is in progress, or what was sent is about to begin one."""
        return self._running or self._answered or (bool(self._queue) and not self._parked)

    @property
    def settled(self) -> bool:
        """Whether no turn is in progress and nothing sent waits to be taken up, or the session waits for an answer."""
        return not self._running and not self._answered and (bool(self._parked) or not self._queue)

    def after(self, seq: int) -> Sequence[SessionEvent] | None:
        """The events after this one that are at hand; ``None`` if some of them are not kept any more.

        Raises:
            RPCError: Following failed for good.
        """
        if self._failure is not None:
            raise self._failure
        if seq >= self.seq:
            return ()
        missing = self._ring[0].seq - 1 - seq if self._ring else self.seq - seq
        if missing > 0:
            return None
        return [event for event in self._ring if event.seq > seq]

    async def caught_up(self, run_id: str, event_id: int) -> None:
        """Wait until everything up to this event of history has been read.

        Raises:
            RPCError: Following failed for good.
        """
        while not self._is_past(run_id, event_id):
            if self._failure is not None:
                raise self._failure
            await self._changed.wait()

    @property
    def change(self) -> asyncio.Event:
        """Set at the next change: events, previews, the end, or a failure. Take it before looking, then wait."""
        return self._changed

    def poke(self) -> None:
        """Look at once, unless a long poll is waiting anyway: this process has just sent something."""
        if not self._budget.holds(self):
            self._poked.set()

    async def close(self) -> None:
        """Stop following."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await self.previews.close()
        self._budget.release(self)

    # --- for the budget --------------------------------------------------------------------------------------------

    def yield_poll(self) -> None:
        """Give up the long poll; the next one asks for a new one."""
        self._poked.set()
        if self._reading is not None:
            self._reading.cancel()

    # --- following -------------------------------------------------------------------------------------------------

    def _is_past(self, run_id: str, event_id: int) -> bool:
        if self._ended or self._cursor is None:
            return self._ended
        if run_id == self._reader.run_id:
            return self._reader.event_id >= event_id
        # Any other run is still to come, unless it was left behind, or was the latest just before this tail began.
        return run_id in self._left

    async def _follow(self) -> None:
        pause = SHORT_POLL
        try:
            while not self._reader.ended:
                fresh = await self._try_poll()
                pause = SHORT_POLL if fresh else min(pause * 2, LONGEST_PAUSE)
                if not fresh:
                    await self._rest(pause)
            self._ended = True
        except Exception as error:
            # Whatever it is, such as a record that cannot be read: followers raise it rather than wait for ever.
            self._failure = error
        finally:
            self._budget.release(self)
            self._notify()

    async def _try_poll(self) -> bool:
        try:
            return await self._poll()
        except RPCError as error:
            if error.status not in TRANSIENT:
                raise
            logger.warning("following a session failed and is tried again: %s", error.message)
            return False

    async def _poll(self) -> bool:
        """One poll. True if it brought something or waited long."""
        wait = self._budget.wait_for(self)
        if wait == SHORT_POLL:
            await self._rest(self._budget.delay(now=asyncio.get_running_loop().time()))
        self._poked.clear()
        run, run_id = self._reader.run, self._reader.run_id
        page = await self._read(wait)
        if run.start is not None and self._cursor is None:
            self._left.add(run.previous_run_id)
            self._begin(run.start, run.cursor())
        if self._reader.run is not run:
            self._left.add(run_id)
        if page is not None:
            self._take(page)
        return page is not None or wait > SHORT_POLL

    async def _read(self, wait: timedelta) -> list[Stored] | None:
        """Read, but let go when the long poll is taken away (`yield_poll`)."""
        self._reading = asyncio.ensure_future(self._reader.read(wait=wait))
        try:
            return await self._reading
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return None
        finally:
            self._reading = None

    async def _rest(self, pause: timedelta) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(pause.total_seconds()):
                await self._poked.wait()

    def _take(self, page: list[Stored]) -> None:
        assert self._cursor is not None
        for stored in page:
            for event in self._cursor.number(stored.record, at=stored.at):
                self._ring.append(event)
                self._observe(event)
        self._notify()

    def _begin(self, start: SessionInput, cursor: LogCursor) -> None:
        self._cursor = cursor
        if start.state is not None:
            self._queue = dict.fromkeys(start.state.queue)
            self._parked = _awaited(start.state.stop_reason)
            self._running = start.state.turn is not None and not self._parked

    def _observe(self, event: SessionEvent) -> None:
        match event:
            case UserMessage():
                self._queue[event.id] = None
            case UserToolConfirmation() | UserCustomToolResult() | UserToolResult():
                self._answered = self._answered or target(event) in self._parked
            case SessionErrorEvent():
                for refused in event.error.event_ids:
                    self._queue.pop(refused, None)
            case SessionRunning():
                self._running, self._answered, self._parked = True, False, set()
                if event.user_event_id is not None:
                    self._queue.pop(event.user_event_id, None)
            case SessionIdle():
                self._running, self._answered, self._parked = False, False, _awaited(event.stop_reason)
            case ModelRequestStart() | AgentToolUse() | AgentMcpToolUse():
                self._in_flight.add(event.id)
            case ModelRequestEnd():
                self._in_flight.discard(event.model_request_start_id)
                self.previews.clear()
            case AgentToolResult() | AgentMcpToolResult():
                self._in_flight.discard(event.tool_use_id)
        # An idle session runs nothing: what is still open waits for its client.
        self.previews.expect(self._running and bool(self._in_flight))

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _awaited(reason: StopReason | None) -> set[EventId]:
    """The calls whose answers the session waits for."""
    return set(reason.event_ids) if isinstance(reason, RequiresAction) else set()
