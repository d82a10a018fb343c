"""Reading a session's log: from any place, in order, once, and on as it grows."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

from temporalio.client import Client, WorkflowHistoryEventFilterType

from sojourn.client.outcome import SILENCE, Check
from sojourn.client.poll import PollBudget
from sojourn.client.preview import PreviewCursor
from sojourn.client.tail import SessionTail
from sojourn.types.chain import ChainReader, described_run, run_start
from sojourn.types.event import SessionEvent
from sojourn.types.preview import Preview

LINGER = timedelta(seconds=5)
"""How long a tail goes on after its last follower has left; the next one finds it warm."""

_AT_ONCE = timedelta(seconds=10)
_MISSES = 3
"""How often a page that does not come is asked for again."""

_DELETION = "Delete workflow execution"
"""The reason a server gives when it terminates what it was asked to delete."""


class SessionLogs:
    """The logs that this process watches. All followers of a session share one tail."""

    def __init__(self, client: Client, budget: PollBudget) -> None:
        self._client = client
        self._budget = budget
        self._tails: dict[str, SessionTail] = {}
        self._followers: dict[str, int] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def poke(self, workflow_id: str) -> None:
        """Tell the session's tail, if there is one, that something was sent."""
        if (tail := self._tails.get(workflow_id)) is not None:
            tail.poke()

    async def close(self) -> None:
        """Stop all tails."""
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        for tail in self._tails.values():
            await tail.close()
        self._tails.clear()

    async def read(self, workflow_id: str, run_id: str, *, after: int = 0) -> AsyncGenerator[SessionEvent, None]:
        """The events that exist now and come after this number, oldest first.

        Args:
            workflow_id: The session's workflow.
            run_id: Its latest run.
            after: Number of the last event that is not wanted.

        Raises:
            CheckpointError: A part of the log is neither on the server nor in the archive.
            RPCError: ``NOT_FOUND`` when the session has been deleted.
        """
        described = await described_run(self._client, workflow_id, run_id)
        last_event_id = described.history_length if described is not None else 0
        reader = ChainReader(self._client, workflow_id, await self._run_before(workflow_id, run_id, after))
        cursor = None
        reading, missed = "", 0
        while not reader.ended and not (reading == run_id and _is_past(reader, run_id, last_event_id)):
            run, reading = reader.run, reader.run_id
            page = await reader.read(wait=_AT_ONCE)
            if page is None:
                # The server ends its connections now and then, and is late at times.
                missed += 1
                if missed > _MISSES:
                    return
                continue
            cursor = cursor or run.cursor()
            for stored in page:
                for event in cursor.number(stored.record, at=stored.at):
                    if event.seq > after:
                        yield event

    @asynccontextmanager
    async def follow(
        self, workflow_id: str, run_id: str, *, history_length: int, from_seq: int | None, previews: bool
    ) -> AsyncGenerator["Follower", None]:
        """Follow a session. Whatever is sent after the block was entered will be seen.

        Args:
            workflow_id: The session's workflow.
            run_id: Its latest run.
            history_length: How many history events that run has at least.
            from_seq: Number of the last event that is not wanted; ``None`` wants only what comes from now on.
            previews: Whether previews of unfinished text are wanted too.
        """
        tail = self._enter(workflow_id, run_id)
        tail.previews.want(int(previews))
        try:
            if from_seq is None:
                await tail.caught_up(run_id, history_length)
                from_seq = tail.seq
            yield Follower(self, tail, workflow_id, position=max(from_seq, 0), previews=previews)
        finally:
            tail.previews.want(-int(previews))
            self._leave(workflow_id)

    async def is_leaving(self, workflow_id: str, run_id: str) -> bool:
        """Whether the server has ended this run only to delete it.

        Raises:
            RPCError: ``NOT_FOUND`` when that is done.
        """
        handle = self._client.get_workflow_handle(workflow_id, run_id=run_id)
        filter = WorkflowHistoryEventFilterType.CLOSE_EVENT
        async for event in handle.fetch_history_events(event_filter_type=filter):
            return event.workflow_execution_terminated_event_attributes.reason == _DELETION
        return False

    async def _run_before(self, workflow_id: str, run_id: str, seq: int) -> str:
        """The latest run that begins at or before this number."""
        while True:
            run = await run_start(self._client, workflow_id, run_id)
            if not run.previous_run_id or run.cursor().seq <= seq:
                return run_id
            run_id = run.previous_run_id if seq > 0 else run.first_run_id

    def _enter(self, workflow_id: str, run_id: str) -> SessionTail:
        tail = self._tails.get(workflow_id)
        # One that ended with another run belongs to a deleted session whose id is used again.
        if tail is None or tail.failed or (tail.ended and tail.run_id != run_id):
            tail = self._tails[workflow_id] = SessionTail(self._client, workflow_id, run_id, self._budget)
        self._followers[workflow_id] = self._followers.get(workflow_id, 0) + 1
        return tail

    def _leave(self, workflow_id: str) -> None:
        self._followers[workflow_id] -= 1
        if not self._followers[workflow_id]:
            task = asyncio.create_task(self._close_later(workflow_id))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _close_later(self, workflow_id: str) -> None:
        await asyncio.sleep(LINGER.total_seconds())
        if not self._followers.get(workflow_id):
            self._followers.pop(workflow_id, None)
            if (tail := self._tails.pop(workflow_id, None)) is not None:
                await tail.close()


class Follower:
    """One who follows a session: iterate to get every event after the place it began at, in order, once."""

    def __init__(
        self, logs: SessionLogs, tail: SessionTail, workflow_id: str, *, position: int, previews: bool
    ) -> None:
        self._logs = logs
        self._tail = tail
        self._workflow_id = workflow_id
        self._position = position
        self._previews = PreviewCursor() if previews else None

    async def __aiter__(self) -> AsyncGenerator[SessionEvent | Preview, None]:
        """Yield until the log is complete. Previews come between the events they belong to.

        Raises:
            RPCError: The session was deleted, or reading it failed for good.
        """
        while True:
            change = self._tail.change
            batch = self._tail.after(self._position)
            if batch is None:
                async for event in self._reread():
                    yield self._passed(event)
                continue
            for event in batch:
                yield self._passed(event)
            if change.is_set():
                continue
            if self._tail.ended:
                return
            for preview in self._fresh_previews():
                yield preview
            await change.wait()

    async def settled(self, check: Check) -> bool:
        """Wait until nothing that was sent waits to be taken up and no turn is in progress.

        Args:
            check: Called when nothing has happened for a while; raises if nothing ever will.

        Returns:
            Whether the session has ended.
        """
        while True:
            change = self._tail.change
            self._tail.after(self._tail.seq)
            if self._tail.ended or self._tail.settled:
                return self._tail.ended
            try:
                async with asyncio.timeout(SILENCE.total_seconds()):
                    await change.wait()
            except TimeoutError:
                await check()

    def _fresh_previews(self) -> list[Preview]:
        return list(self._previews.advance(self._tail.previews.latest)) if self._previews else []

    def _passed(self, event: SessionEvent) -> SessionEvent:
        self._position = event.seq
        if self._previews:
            self._previews.settle(event)
        return event

    async def _reread(self) -> AsyncGenerator[SessionEvent, None]:
        """What the tail does not keep any more, read again."""
        end = self._tail.seq
        async for event in self._logs.read(self._workflow_id, self._tail.run_id, after=self._position):
            yield event
            if event.seq >= end:
                return


def _is_past(reader: ChainReader, run_id: str, event_id: int) -> bool:
    return reader.run_id != run_id or reader.event_id >= event_id
