"""The numbering of a session's events, shared by the workflow, which counts, and every reader."""

from base64 import b64encode
from collections import OrderedDict
from collections.abc import Iterable
from datetime import datetime
from hashlib import blake2b
from typing import TypeVar

from sojourn.types.event import Event, SessionEvent, UserEvent
from sojourn.types.id import EventId, SessionId, derived_event_id
from sojourn.types.record import Record, UserEvents

E = TypeVar("E", bound=Event)

SEEN_LIMIT = 500
"""How many client event ids are remembered to drop repeats; the server drops repeats of a whole signal itself."""


def digest(id: EventId) -> str:
    """What is remembered of an id: the whole ids would be a fifth of the bytes of a long session."""
    return b64encode(blake2b(id.encode(), digest_size=8).digest()).decode().rstrip("=")


class LogCursor:
    """A place in a session's log: how many events came before, and which client ids have been seen.

    Feed it the records of history in order. The same records give the same numbers everywhere.
    """

    def __init__(self, session_id: SessionId, *, seq: int = 0, user_events: int = 0, seen: Iterable[str] = ()) -> None:
        self.session_id = session_id
        self.seq = seq
        self.user_events = user_events
        self._seen: OrderedDict[str, None] = OrderedDict.fromkeys(seen)

    @property
    def seen(self) -> tuple[str, ...]:
        """Digests of the remembered client ids, oldest first."""
        return tuple(self._seen)

    def accept(self, record: UserEvents) -> list[UserEvent]:
        """The events of a signal that are new, each with an id. Counts them."""
        fresh = [named for event in record.sent if (named := self._named(event)) is not None]
        self.seq += len(fresh)
        return fresh

    def count(self, record: Record) -> None:
        """Count a record's events without making them readable."""
        if isinstance(record, UserEvents):
            self.accept(record)
        else:
            self.seq += sum(1 for _ in record.events())

    def number(self, record: Record, *, at: datetime | None) -> list[SessionEvent]:
        """The record's events as the log shows them: numbered, with ids and the time they were stored."""
        start = self.seq
        if isinstance(record, UserEvents):
            events: list[SessionEvent] = list(self.accept(record))
        else:
            events = list(record.events())
            self.seq += len(events)
        return [self._stamped(event, start + place, at) for place, event in enumerate(events, 1)]

    def _named(self, event: UserEvent) -> UserEvent | None:
        key = digest(event.id)
        if event.id and key in self._seen:
            return None
        self.user_events += 1
        if event.id:
            self._seen[key] = None
            if len(self._seen) > SEEN_LIMIT:
                self._seen.popitem(last=False)
            return event
        return _with(event, id=derived_event_id(self.session_id, f"u{self.user_events}"))

    def _stamped(self, event: SessionEvent, seq: int, at: datetime | None) -> SessionEvent:
        return _with(event, id=event.id or derived_event_id(self.session_id, str(seq)), seq=seq, processed_at=at)


def _with(event: E, **fields: object) -> E:
    return event.model_copy(update=fields)
