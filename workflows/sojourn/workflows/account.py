"""What the session has used, what that cost and how long it worked: counted here, shown with each idle."""

from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from sojourn.types.account import Budget, SessionAccount
    from sojourn.types.session import SessionInput, SessionStatus
    from sojourn.types.usage import Usage

_AT_WORK = (SessionStatus.RUNNING, SessionStatus.RESCHEDULING)


class Account:
    """Counts cost and working time of a session across its runs.

    Attributes:
        budget: What the session may cost; ``None`` sets no limit.
    """

    def __init__(self, input: SessionInput) -> None:
        carried = _carried(input)
        self.budget: Budget | None = input.budget
        self._cost = carried.cost_microcents
        self._active = timedelta(seconds=carried.active_seconds)
        self._updated_at = carried.updated_at
        self._working_since: datetime | None = None
        if input.state is not None:
            self.observe(SessionStatus.PAUSED if input.state.paused else input.state.status)

    @property
    def cost_microcents(self) -> int | None:
        """Tokens at list price; ``None`` if a model without a known price was used."""
        return self._cost

    @property
    def is_exhausted(self) -> bool:
        """Whether the budget admits no further model request."""
        return SessionAccount(cost_microcents=self._cost, budget=self.budget).is_exhausted

    @property
    def active_seconds(self) -> float:
        """Time that turns have taken, up to now."""
        since, now = self._working_since, workflow.now()
        worked = self._active if since is None else self._active + (now - since)
        return round(worked.total_seconds(), 3)

    def charge(self, cost_microcents: int | None) -> None:
        """Add what a model request cost; ``None`` if nobody knows."""
        known = self._cost is not None and cost_microcents is not None
        self._cost = (self._cost or 0) + (cost_microcents or 0) if known else None

    def observe(self, status: SessionStatus) -> None:
        """Take the status that the session has from now on."""
        if (status in _AT_WORK) is (self._working_since is not None):
            return
        if self._working_since is None:
            self._working_since = workflow.now()
        else:
            self._active += workflow.now() - self._working_since
            self._working_since = None

    def touch(self) -> None:
        """What is shown of the session changes now."""
        self._updated_at = workflow.now()

    def shown(self, usage: Usage, *, turns: int) -> SessionAccount:
        """The account as it stands."""
        return SessionAccount(
            usage=usage,
            cost_microcents=self._cost,
            budget=self.budget,
            active_seconds=self.active_seconds,
            turns=turns,
            updated_at=self._updated_at,
        )


def _carried(input: SessionInput) -> SessionAccount:
    """What the run before has left. An earlier release left no account: what its steps cost is not known."""
    if input.state is None:
        return SessionAccount(cost_microcents=0)
    return input.state.account or SessionAccount(cost_microcents=None if input.state.turns else 0)
