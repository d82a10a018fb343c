"""The logs of sessions as lists show them, kept in memory as far as there is room.

A log never changes below its end, so what is kept can only be too short. Nothing depends on its being kept: whoever
finds nothing here reads the log.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from sojourn.gateway.projection import Place, Projection, Shown, Subject
from sojourn.types.event import SessionEvent
from sojourn.types.id import SessionId
from sojourn.types.session import Owner

if TYPE_CHECKING:
    from sojourn.client import AgentRuntime
    from sojourn.client.session import LogEnd

LIMIT_BYTES = 64 * 1024 * 1024

_OVERHEAD_BYTES = 300
"""What an event costs in memory beside its JSON."""

_AT_A_TIME = 200
"""Events that are projected before others get a turn: some 10 ms."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as lists show it."""

    place: Place
    kind: str
    at: datetime | None
    # What is held back is shown with the next event of a log that grows, and at the end of one that does not.
    since: int = field(compare=False)
    original: int
    json: bytes

    @classmethod
    def of(cls, shown: Shown) -> "Entry":
        event = shown.event
        json = event.model_dump_json().encode()
        return cls(shown.place, event.kind, event.processed_at, shown.since, shown.original, json)


class Logbook:
    """The log of one session, as far as it has been read."""

    def __init__(self, subject: Subject, first_run_id: str) -> None:
        self.first_run_id = first_run_id
        self.seq = 0
        self.size_bytes = 0
        self.lock = asyncio.Lock()
        self.end: LogEnd | None = None
        """Where the log ended when it was read last."""
        self._projection = Projection(subject, from_start=True)
        self._entries: list[Entry] = []

    def add(self, event: SessionEvent) -> None:
        """Take the next event of the log."""
        fresh = [Entry.of(shown) for shown in self._projection.feed(event)]
        self._entries += fresh
        self.size_bytes += sum(len(entry.json) + _OVERHEAD_BYTES for entry in fresh)
        self.seq = event.seq

    def as_of(self, end: int) -> list[Entry]:
        """The list as it was when the log ended with this event: in the order in which things were processed.

        A message is there once, where it was taken up; those that wait come last. The same end gives the same list
        for ever, so a place in it is a number.
        """
        entries = [*self._entries, *map(Entry.of, self._projection.rest())]
        seen = [entry for entry in entries if entry.since <= end or entry.place == (end, 0)]
        taken = {entry.original for entry in seen if entry.original}
        processed = [entry for entry in seen if entry.at is not None]
        return processed + [entry for entry in seen if entry.at is None and entry.place.seq not in taken]


class Logbooks:
    """The logs that were listed last."""

    def __init__(self, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._books: OrderedDict[tuple[str, SessionId], Logbook] = OrderedDict()
        self._reading: dict[tuple[Owner, SessionId, int], asyncio.Task[list[SessionEvent]]] = {}

    @property
    def size_bytes(self) -> int:
        """About what is kept."""
        return sum(book.size_bytes for book in self._books.values())

    async def open(self, runtime: "AgentRuntime", session_id: SessionId, owner: Owner, *, until: int = 0) -> Logbook:
        """The log of a session.

        Args:
            runtime: Reads it.
            session_id: Which.
            owner: Whose.
            until: How far is enough; 0 wants all that there is now.

        Raises:
            CheckpointError: A part of the log is neither on the server nor in the archive.
            SessionNotFoundError: There is none, or it is another owner's.
        """
        end = await runtime.log_end(session_id, owner=owner)
        key = (owner.workspace, session_id)
        book = self._books.get(key)
        if book is None or book.first_run_id != end.first_run_id:
            book = Logbook(Subject(session_id, end.agent.name), end.first_run_id)
        self._books[key] = book
        self._books.move_to_end(key)
        async with book.lock:
            if until > book.seq or (not until and book.end != end):
                fresh = await runtime.list_events(session_id, from_seq=book.seq, owner=owner)
                await _fill(book, fresh)
                book.end = end
        self._make_room()
        return book

    async def past(
        self, runtime: "AgentRuntime", session_id: SessionId, owner: Owner, seq: int
    ) -> Iterable[SessionEvent]:
        """The events before a number. Streams of one session that need them at the same moment share one reading."""
        key = (owner, session_id, seq)
        if (reading := self._reading.get(key)) is None:
            wanted = runtime.list_events(session_id, limit=seq - 1, owner=owner)
            reading = self._reading[key] = asyncio.create_task(wanted)
            reading.add_done_callback(lambda done: self._reading.pop(key, None))
        return await asyncio.shield(reading)

    def _make_room(self) -> None:
        while self._books and self.size_bytes > self._limit_bytes:
            self._books.popitem(last=False)


async def _fill(book: Logbook, events: Iterable[SessionEvent]) -> None:
    for number, event in enumerate(events, 1):
        book.add(event)
        if number % _AT_A_TIME == 0:
            await asyncio.sleep(0)
