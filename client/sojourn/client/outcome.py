"""Waiting for a turn: what it came to, as a value or an error."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

from sojourn.types.error import (
    ActionRequiredError,
    BudgetReachedError,
    ProviderError,
    SessionClosedError,
    SojournError,
    TurnInterruptedError,
    rebuild,
)
from sojourn.types.event import (
    AgentMessage,
    SessionErrorEvent,
    SessionEvent,
    SessionIdle,
    SessionRunning,
    SessionTerminated,
    UserInterrupt,
)
from sojourn.types.id import EventId, SessionId
from sojourn.types.preview import Preview
from sojourn.types.session import BudgetReached, RequiresAction, SessionStatus
from sojourn.types.session_error import ErrorDetail

SILENCE = timedelta(seconds=5)
"""After so long without an event a waiting caller asks whether there is a worker at all."""

Check = Callable[[], Awaitable[None]]


class TurnWatch:
    """Watches the log for the turn of one message."""

    def __init__(self, session_id: SessionId, message_id: EventId) -> None:
        self._session_id = session_id
        self._message_id = message_id
        self._begun = False
        self._said: AgentMessage | None = None
        self._error: ErrorDetail | None = None
        self._interrupted = False

    async def result(
        self, events: AsyncGenerator[SessionEvent | Preview, None], check: Check, *, timeout: timedelta | None
    ) -> AgentMessage:
        """The last message of the turn.

        Args:
            events: The log from before the message on.
            check: Called when nothing has happened for a while; raises if nothing ever will.
            timeout: Longest wait; ``None`` means no limit.

        Raises:
            SojournError: The turn came to something else; see `AgentRuntime.send_and_wait`.
            TimeoutError: ``timeout`` passed first.
        """
        async with asyncio.timeout(timeout.total_seconds() if timeout is not None else None):
            async for event in patiently(events, check):
                if (message := self._observe(event)) is not None:
                    return message
        raise SessionClosedError(self._session_id, status=SessionStatus.FAILED)

    def _observe(self, event: SessionEvent | Preview) -> AgentMessage | None:
        if isinstance(event, SessionTerminated):
            if self._error is not None and event.status is SessionStatus.FAILED:
                raise _error(self._error)
            raise SessionClosedError(self._session_id, status=event.status)
        if isinstance(event, SessionRunning) and event.user_event_id == self._message_id:
            self._begun = True
        if not self._begun:
            return None
        match event:
            case AgentMessage():
                self._said = event
            case SessionErrorEvent():
                self._error = event.error
            case UserInterrupt():
                self._interrupted = True
            case SessionIdle():
                return self._ended(event)
        return None

    def _ended(self, event: SessionIdle) -> AgentMessage:
        if isinstance(event.stop_reason, RequiresAction):
            raise ActionRequiredError([str(id) for id in event.stop_reason.event_ids])
        if isinstance(event.stop_reason, BudgetReached):
            raise BudgetReachedError(self._session_id)
        if self._interrupted:
            raise TurnInterruptedError("the turn was interrupted; what it said so far is in the log")
        refused = self._error is not None and self._error.type == "prompt_denied_error"
        if self._error is not None and (refused or event.stop_reason.type == "retries_exhausted"):
            raise _error(self._error)
        if event.stop_reason.type == "refusal":
            raise ProviderError("the model refused to answer", category="refusal")
        return self._said or AgentMessage(content=())


def _error(detail: ErrorDetail) -> SojournError:
    if detail.error_class is not None:
        return rebuild(detail.error_class, detail.message, {})
    return ProviderError(detail.message, category=detail.type)


async def patiently(
    events: AsyncGenerator[SessionEvent | Preview, None], check: Check, *, silence: timedelta = SILENCE
) -> AsyncGenerator[SessionEvent | Preview, None]:
    """The events, asking ``check`` whenever none has come for a while."""
    upcoming: asyncio.Task[SessionEvent | Preview] | None = None
    try:
        while True:
            upcoming = upcoming or asyncio.ensure_future(anext(events))
            done, _ = await asyncio.wait({upcoming}, timeout=silence.total_seconds())
            if not done:
                await check()
                continue
            try:
                event = upcoming.result()
            except StopAsyncIteration:
                return
            upcoming = None
            yield event
    finally:
        if upcoming is not None:
            upcoming.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration):
                await upcoming
