"""Money, tokens and time of a session (Managed Agents API §1.3, §3.5)."""

from typing import Annotated, Literal

from pydantic import Field

from sojourn.gateway.wire.usage import CumulativeUsage, cumulative
from sojourn.types import Budget, SessionAccount
from sojourn.types.wire import Wire


class MaxCost(Wire):
    """An amount in whole US cents, up to the most that a `Budget` may be."""

    amount: Annotated[str, Field(pattern=r"^(?:[1-9][0-9]{0,8}|1000000000)$")]
    currency: Literal["USD"]


class BudgetLimit(Wire):
    """The most that a session may cost at list price."""

    type: Literal["limit"]
    max_list_cost: MaxCost

    def stored(self) -> Budget:
        return Budget(max_list_cost_cents=int(self.max_list_cost.amount))


def wire_budget(budget: Budget | None) -> BudgetLimit | None:
    """A budget as replies show it."""
    if budget is None:
        return None
    cost = MaxCost(amount=str(budget.max_list_cost_cents), currency="USD")
    return BudgetLimit(type="limit", max_list_cost=cost)


def wire_usage(account: SessionAccount) -> CumulativeUsage:
    """What a session has used, as replies show it."""
    seconds = account.active_seconds
    return cumulative(account.usage, cost_microcents=account.cost_microcents, active_seconds=seconds)
