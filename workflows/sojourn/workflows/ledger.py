"""What the session has used, what that cost and how long it worked: counted here, shown with each idle."""

from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from sojourn.types.account import MICROCENTS_PER_CENT, Budget, SessionAccount
    from sojourn.types.error import InvalidRequestError
    from sojourn.types.event import SessionUsage
    from sojourn.types.session import SessionInput, SessionStatus, UpdateSessionInput
    from sojourn.types.usage import Usage

_AT_WORK = (SessionStatus.RUNNING, SessionStatus.RESCHEDULING)


class Ledger:
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
        return round((self._active + self._since_work_began()).total_seconds(), 3)

    def usage_event(self, usage: Usage, *, turn: Usage) -> SessionUsage:
        """What is said right before an idle."""
        return SessionUsage(
            usage=usage,
            turn=turn,
            cost_microcents=self._cost,
            active_seconds=self.active_seconds,
            budget=self.budget,
        )

    def check(self, change: UpdateSessionInput) -> None:
        """Whether the budget may change so.

        Raises:
            InvalidRequestError: There is none, or the new one is used up already. Its ``code`` tells which.
        """
        if change.budget is None:
            return
        if change.remove_budget:
            raise InvalidRequestError(
                "budget: it cannot be replaced and removed at once; say one of both", param="budget"
            )
        if self.budget is None:
            text = "budget: this session has none, and can get none; start a new session with a budget"
            raise InvalidRequestError(text, param="budget", code="budget_create_only")
        if self._cost is None:
            text = (
                "budget: what the session has cost is not known, because a model has no known price; remove the budget"
            )
            raise InvalidRequestError(text, param="budget", code="model_not_budgetable")
        if self._cost >= change.budget.max_microcents:
            spent = self._cost / MICROCENTS_PER_CENT
            text = (
                f"budget: {change.budget.max_list_cost_cents} cents, of which {spent:.2f} are spent already; allow more"
            )
            raise InvalidRequestError(text, param="budget", code="budget_not_raised")

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
            self._active += self._since_work_began()
            self._working_since = None

    def _since_work_began(self) -> timedelta:
        # The clock of another server, which a later task may be from, may be behind.
        since = self._working_since
        return timedelta(0) if since is None else max(workflow.now() - since, timedelta(0))

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
