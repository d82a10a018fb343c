"""What the workflow itself says, and the count of everything in the log.

What is said rides in the input of an activity scheduled in the same stretch of code; what is left goes into a memo
before the workflow task ends (design.md §3). Either way it becomes one more record of history.
"""

import asyncio
from collections.abc import Callable

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from sojourn.types.account import SessionAccount
    from sojourn.types.event import SaidEvent, SessionIdle, SessionTerminated, UserEvent
    from sojourn.types.log import LogCursor
    from sojourn.types.name import ACCOUNT_MEMO, LOG_MEMO
    from sojourn.types.record import Record, Said, UserEvents

# A memo over 2 KiB makes the SDK warn. Events are a few ids and kinds, about 150 bytes each.
_EVENTS_PER_MEMO = 10

_RESTS = (SessionIdle, SessionTerminated)
"""Events beside which the account is stored: it costs no history event where a memo is written anyway."""


class Journal:
    """Writes the workflow's own events and keeps the count of the log."""

    def __init__(self, cursor: LogCursor, account: Callable[[], SessionAccount]) -> None:
        """Take the end of the log so far, and what tells the account that is stored beside each idle."""
        self._cursor = cursor
        self._account = account
        self._pending: list[SaidEvent] = []

    @property
    def cursor(self) -> LogCursor:
        """The end of the log, as far as it has been handed to the server."""
        return self._cursor

    def accept(self, record: UserEvents) -> list[UserEvent]:
        """Count a signal and return its events without repeats."""
        return self._cursor.accept(record)

    def count(self, record: Record) -> None:
        """Count a record that history holds."""
        self._cursor.count(record)

    def say(self, *events: SaidEvent) -> None:
        """Add events to the log, in order."""
        if not self._pending:
            asyncio.get_running_loop().call_soon(self.flush)
        self._pending += events

    def take(self) -> tuple[SaidEvent, ...]:
        """What has been said and not stored, for the input of an activity; the caller counts that input."""
        taken, self._pending = tuple(self._pending), []
        return taken

    def flush(self) -> None:
        """Store what is left in memos."""
        said = self.take()
        for start in range(0, len(said), _EVENTS_PER_MEMO):
            record = Said(said=said[start : start + _EVENTS_PER_MEMO])
            self._cursor.count(record)
            memo: dict[str, object] = {LOG_MEMO: record}
            if any(isinstance(event, _RESTS) for event in record.said):
                memo[ACCOUNT_MEMO] = self._account()
            workflow.upsert_memo(memo)
