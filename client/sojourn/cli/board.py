"""What a chat knows of its session, folded from the events."""

from collections.abc import Iterable

from sojourn.types import (
    AgentCustomToolUse,
    AgentMcpToolUse,
    AgentToolUse,
    ErrorDetail,
    EventId,
    RequiresAction,
    SessionErrorEvent,
    SessionEvent,
    SessionIdle,
    SessionPaused,
    SessionRescheduled,
    SessionResumed,
    SessionRunning,
    SessionStatus,
    SessionTerminated,
    UserMessage,
)

Call = AgentToolUse | AgentCustomToolUse | AgentMcpToolUse


class Board:
    """Tells whose move it is: the person's or the session's."""

    def __init__(self) -> None:
        self.seq = 0
        self.status = SessionStatus.QUEUED
        self.failure: ErrorDetail | None = None
        """Why the last turn ended without an answer; ``None`` if it has one."""
        self._error: ErrorDetail | None = None
        self._queued: set[EventId] = set()
        self._calls: dict[EventId, Call] = {}
        self._waiting: tuple[EventId, ...] = ()
        self._answered: set[EventId] = set()

    @property
    def waiting(self) -> list[Call]:
        """The tool calls that wait for the person."""
        return [self._calls[id] for id in self._waiting if id in self._calls and id not in self._answered]

    @property
    def is_our_move(self) -> bool:
        """Whether the session does nothing until the person does."""
        if self.status.is_terminal or self.status is SessionStatus.PAUSED:
            return True
        if self.status is SessionStatus.IDLE and self._waiting:
            return bool(self.waiting)
        return self.status in (SessionStatus.IDLE, SessionStatus.QUEUED) and not self._queued

    def sent(self, message_id: EventId) -> None:
        """A message of the person is stored and will be in the log."""
        self._queued.add(message_id)

    def answered(self, calls: Iterable[Call]) -> None:
        """The person has answered these calls, or their turn was interrupted; the session moves next."""
        self._answered |= {call.id for call in calls}

    def expect(self) -> None:
        """The person has asked for a change of status that the log will show."""
        self.status = SessionStatus.RUNNING

    def feed(self, event: SessionEvent) -> None:
        """Take the next event of the log."""
        self.seq = max(self.seq, event.seq)
        match event:
            case UserMessage():
                self._queued.add(event.id)
            case AgentToolUse() | AgentCustomToolUse() | AgentMcpToolUse():
                self._calls[event.id] = event
            case SessionErrorEvent():
                self._error = event.error
            case SessionRunning():
                self._running(event)
            case SessionIdle():
                self._idle(event)
            case SessionPaused():
                self.status = SessionStatus.PAUSED
            case SessionRescheduled():
                self.status = SessionStatus.RESCHEDULING
            case SessionResumed() | SessionTerminated():
                self.status = event.status

    def _running(self, event: SessionRunning) -> None:
        self.status, self._waiting = SessionStatus.RUNNING, ()
        if event.user_event_id is not None:
            self._queued.discard(event.user_event_id)
            self._error = None

    def _idle(self, event: SessionIdle) -> None:
        self.status = SessionStatus.IDLE
        self._waiting = event.stop_reason.event_ids if isinstance(event.stop_reason, RequiresAction) else ()
        self.failure = self._error if event.stop_reason.type == "retries_exhausted" else None
