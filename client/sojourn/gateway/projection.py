"""The log as clients of the gateway see it: a pure fold of our events into those of the contract.

Where the contract has an event that our log does not, it is made here, always the same way: the status of the primary
thread beside the session's, `session.usage` before every idle, and a client's message once more when it is taken up,
now with the time. So it does not matter who projects a log, and from where: a place in it always shows the same.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from sojourn.gateway.translation import idle_reason, thread_id, translated
from sojourn.gateway.wire import event as wire
from sojourn.types.error import InvalidRequestError
from sojourn.types.event import (
    ModelRequestStart,
    SessionErrorEvent,
    SessionEvent,
    SessionIdle,
    SessionRescheduled,
    SessionRunning,
    SessionTerminated,
    SessionUsage,
    SystemMessage,
    UserMessage,
)
from sojourn.types.id import EventId, SessionId, derived_event_id
from sojourn.types.preview import EventDelta, EventStart, Preview, ToolProgress
from sojourn.types.usage import Usage

_AFTER = 1
_BEFORE = 10
"""Parts of a place: what is made stands right after an event of the log, or, from the higher number on, right before
the next one."""


class Place(NamedTuple):
    """Where an event stands in the order of sending, which is its id in a stream (``id:`` of server-sent events)."""

    seq: int
    """Number of the event of the log at which it stands."""
    part: int = 0
    """0 for that event itself; more for what is made after it."""

    def __str__(self) -> str:
        return f"{self.seq}.{self.part}" if self.part else str(self.seq)

    @classmethod
    def parse(cls, text: str, *, param: str) -> "Place":
        """Read the id of a stream's event; a number of the log is one too.

        Raises:
            InvalidRequestError: It is none.
        """
        if not (found := re.fullmatch(r"(\d{1,18})(?:\.(\d{1,9}))?", text, re.ASCII)):
            raise InvalidRequestError(f"{param} {text[:40]!r} is no id of a stream's event, such as 41", param=param)
        return cls(int(found[1]), int(found[2] or 0))


@dataclass(frozen=True, slots=True)
class Shown:
    """An event on the wire."""

    place: Place
    event: wire.WireEvent
    since: int
    """Number of the event of the log with which it came to be shown."""
    original: int = 0
    """Of a message that is shown again: its number."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose log it is."""

    session_id: SessionId
    agent_name: str


class Projection:
    """Turns the events of one session, fed in order, into those on the wire.

    It may begin anywhere. Then it `lacks` what came before for a few events, and must be told (`recall`) first.
    """

    def __init__(self, subject: Subject, *, from_start: bool) -> None:
        """Begin.

        Args:
            subject: Whose log.
            from_start: Whether the first event to be fed is the first of the log.
        """
        self._subject = subject
        self._complete = from_start
        self._waiting: dict[EventId, UserMessage | SystemMessage] = {}
        self._taken: set[EventId] = set()
        self._usage: SessionUsage | None = None
        self._held: SessionUsage | None = None

    def lacks(self, event: SessionEvent) -> bool:
        """Whether the event needs something said before the place where this began."""
        if self._complete:
            return False
        match event:
            case SessionRunning():
                return event.user_event_id is not None and event.user_event_id not in self._waiting
            case ModelRequestStart():
                return any(id not in self._waiting and id not in self._taken for id in event.consumed_event_ids)
            case SessionErrorEvent():
                return any(id not in self._waiting for id in event.error.event_ids)
            case SessionIdle():
                return self._usage is None
        return False

    def recall(self, past: Iterable[SessionEvent]) -> None:
        """Learn everything that came before the next event, from the first event on."""
        self._waiting, self._taken, self._usage, self._held = {}, set(), None, None
        for event in past:
            self.note(event)
        self._complete = True

    def note(self, event: SessionEvent) -> None:
        """Take an event without showing it."""
        self._held = None
        match event:
            case UserMessage() | SystemMessage():
                self._waiting[event.id] = event
            case SessionRunning() if event.user_event_id is not None:
                self._waiting.pop(event.user_event_id, None)
                self._taken.add(event.user_event_id)
            case ModelRequestStart():
                for id in event.consumed_event_ids:
                    self._waiting.pop(id, None)
                    self._taken.discard(id)
            case SessionErrorEvent():
                for id in event.error.event_ids:
                    self._waiting.pop(id, None)
            case SessionUsage():
                self._usage = self._held = event

    def feed(self, event: SessionEvent) -> list[Shown]:
        """What the next event of the log shows. `session.usage` is held back until what follows it is known."""
        assert not self.lacks(event), "recall what came before first"
        shown = [] if isinstance(event, SessionIdle) else self.rest()
        if not isinstance(event, SessionUsage):
            shown += self._before(event)
            shown.append(self._itself(event, event))
            shown += self._after(event)
        self.note(event)
        return shown

    def rest(self) -> list[Shown]:
        """What is held back, where nothing follows it."""
        return [self._itself(self._held, self._held)] if self._held is not None else []

    def _before(self, event: SessionEvent) -> list[Shown]:
        match event:
            case SessionIdle():
                return self._before_idle(event)
            case SessionRunning() if event.user_event_id is not None:
                return self._again((event.user_event_id,), event)
            case ModelRequestStart():
                return self._again(event.consumed_event_ids, event)
            case SessionErrorEvent():
                # Dealt with too, though in another way: they get no turn.
                return self._again(event.error.event_ids, event)
            case SessionRescheduled():
                return [Shown(Place(event.seq - 1, _BEFORE), self._thread(wire.ThreadRescheduled, event), event.seq)]
            case SessionTerminated():
                return [Shown(Place(event.seq - 1, _BEFORE), self._thread(wire.ThreadTerminated, event), event.seq)]
        return []

    def _after(self, event: SessionEvent) -> list[Shown]:
        if isinstance(event, SessionRunning):
            return [Shown(Place(event.seq, _AFTER), self._thread(wire.ThreadRunning, event), event.seq)]
        return []

    def _before_idle(self, event: SessionIdle) -> list[Shown]:
        """The thread's idle and the usage. An interrupt of an idle session leaves an idle alone in the log."""
        first = self._held or event
        seq, at = first.seq - 1, first.processed_at
        reason, details = idle_reason(event)
        thread = self._thread(wire.ThreadIdle, event, processed_at=at, stop_reason=reason, stop_details=details)
        shown = [Shown(Place(seq, _BEFORE), thread, event.seq)]
        if self._held is not None:
            return [*shown, self._itself(self._held, event)]
        usage = self._usage or SessionUsage(usage=Usage(), turn=Usage())
        made = {"id": self._made_id(event, "usage"), "processed_at": event.processed_at}
        return [*shown, Shown(Place(seq, _BEFORE + 1), translated(usage.model_copy(update=made)), event.seq)]

    def _again(self, ids: Iterable[EventId], event: SessionEvent) -> list[Shown]:
        """Messages of the client that the event deals with, now with its time."""
        messages = [message for id in ids if (message := self._waiting.get(id)) is not None]
        time = {"processed_at": event.processed_at}
        return [
            Shown(Place(event.seq - 1, part), translated(each).model_copy(update=time), event.seq, original=each.seq)
            for part, each in enumerate(messages, _BEFORE)
        ]

    def _itself(self, event: SessionEvent, cause: SessionEvent) -> Shown:
        return Shown(Place(event.seq), translated(event), cause.seq)

    def _thread(self, kind: type[wire.ThreadEvent], event: SessionEvent, **more: object) -> wire.ThreadEvent:
        return kind.model_validate(
            {
                "id": self._made_id(event, "thread"),
                "processed_at": event.processed_at,
                "session_thread_id": thread_id(self._subject.session_id),
                "agent_name": self._subject.agent_name,
                **more,
            }
        )

    def _made_id(self, event: SessionEvent, kind: str) -> EventId:
        return derived_event_id(self._subject.session_id, f"{event.seq}/{kind}")


def reading_from(after: Place | None) -> int | None:
    """From where the log must be read to show what comes after a place: ``from_seq`` of the Python client."""
    # One event more than what is shown at the place itself, because it may be the usage that an idle goes with.
    return None if after is None else max(after.seq - 2, 0)


async def shown_after(
    after: Place | None,
    events: AsyncIterable[SessionEvent | Preview],
    subject: Subject,
    past: Callable[[int], Awaitable[Iterable[SessionEvent]]],
) -> AsyncGenerator[Shown | Preview, None]:
    """What a log shows after a place; previews go through as they are.

    Args:
        after: The place; ``None`` shows everything that is new with the events.
        events: The log, as read from `reading_from`.
        subject: Whose log.
        past: Gives the events before a number, from the first one on. Hardly ever needed.
    """
    projection = Projection(subject, from_start=reading_from(after) == 0)
    begin: int | None = None
    async for event in events:
        if isinstance(event, EventStart | EventDelta | ToolProgress):
            yield event
        elif after is not None and event.seq < after.seq:
            projection.note(event)
        else:
            begin = begin or event.seq
            if projection.lacks(event):
                projection.recall(await past(event.seq))
            for shown in projection.feed(event):
                if shown.place > after if after is not None else shown.since >= begin:
                    yield shown
    for shown in projection.rest():
        if after is None or shown.place > after:
            yield shown
