"""What a session has used, what that cost, and what it may cost."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from sojourn.types.usage import Usage
from sojourn.types.wire import Omitted, Unset, Wire

MICROCENTS_PER_CENT = 1_000_000
"""Costs are counted in millionths of a US cent: a token of the cheapest models costs a few of them."""


ActiveSeconds = Annotated[float, Omitted, Field(ge=0, le=1e10)]
"""Time that turns have taken, waits for the client not included."""


class Budget(Wire):
    """The most that a session may cost at list price.

    Looked at before each model request, so the last one may go over it. What counts is tokens at the list price of
    their model; unlike Managed Agents we charge no running time, because the machines are the operator's own.
    """

    max_list_cost_cents: int = Field(ge=1, le=1_000_000_000)
    """In whole US cents."""

    @property
    def max_microcents(self) -> int:
        """The same in the unit in which costs are counted."""
        return self.max_list_cost_cents * MICROCENTS_PER_CENT


class SessionAccount(Wire):
    """What a session has used and done, as of its last idle or update. Kept where a description of it shows it."""

    usage: Usage = Usage()
    """The whole session, the turn in progress included."""
    cost_microcents: Annotated[int | None, Unset] = None
    """Tokens at list price, in millionths of a US cent; ``None`` if a model without a known price was used."""
    budget: Annotated[Budget | None, Omitted] = None
    active_seconds: ActiveSeconds = 0
    turns: Annotated[int, Omitted] = 0
    updated_at: Annotated[datetime | None, Omitted] = None
    """``None`` before the first idle or update."""

    @property
    def is_exhausted(self) -> bool:
        """Whether the budget admits no further model request. An unknown cost counts as too much."""
        if self.budget is None:
            return False
        return self.cost_microcents is None or self.cost_microcents >= self.budget.max_microcents
