"""The budget of long polls that one process keeps to.

A Temporal frontend admits a limited number of long-running calls per namespace, the workers' own pollers included
(``frontend.namespaceCount``, 1,200 by default). Past it workers starve. So readers share a fixed number of long polls,
running sessions first; the rest looks by short polls that back off and take turns (design.md §3).
"""

from datetime import timedelta
from typing import Protocol

from sojourn.types.chain import LONG_POLL

SHORT_POLL = timedelta(milliseconds=100)
LONGEST_PAUSE = timedelta(seconds=2)

LONG_POLLS = 300
"""For a process among several, at a server with its default limits."""

SHORT_POLLS_PER_SECOND = 200
"""All readers of a process together. A frontend takes 2,400 requests a second for a namespace
(``frontend.namespaceRPS``), and refuses what workers and clients ask beyond that."""


class Poller(Protocol):
    """A reader of one session."""

    @property
    def running(self) -> bool:
        """Whether a turn is in progress, so that events are to be expected."""
        ...

    def yield_poll(self) -> None:
        """Give up the long poll it holds: somebody else needs it more."""
        ...


class PollBudget:
    """Hands out long polls."""

    def __init__(self, limit: int = LONG_POLLS) -> None:
        """Make a budget.

        Args:
            limit: Long polls at the same time. Keep the sum over all processes well under the server's limit.
        """
        self._limit = limit
        self._holders: dict[Poller, None] = {}
        self._next_short = 0.0

    @property
    def held(self) -> int:
        """Long polls in use."""
        return len(self._holders)

    def holds(self, poller: Poller) -> bool:
        """Whether the reader has a long poll."""
        return poller in self._holders

    def wait_for(self, poller: Poller) -> timedelta:
        """How long the next poll of this reader may last; it holds a long poll until `release`."""
        if poller in self._holders or len(self._holders) < self._limit or self._preempt(poller):
            self._holders[poller] = None
            return LONG_POLL
        return SHORT_POLL

    def delay(self, *, now: float) -> timedelta:
        """How long a short poll that is wanted now must wait for its turn; each call takes one turn.

        Args:
            now: Seconds on a clock that never goes back.
        """
        turn = max(now, self._next_short)
        self._next_short = turn + 1 / SHORT_POLLS_PER_SECOND
        return timedelta(seconds=turn - now)

    def release(self, poller: Poller) -> None:
        """Take back the long poll, if the reader holds one."""
        self._holders.pop(poller, None)

    def _preempt(self, poller: Poller) -> bool:
        """Take the long poll of an idle session for a running one."""
        victim = next((holder for holder in self._holders if not holder.running), None) if poller.running else None
        if victim is None:
            return False
        self.release(victim)
        victim.yield_poll()
        return True
