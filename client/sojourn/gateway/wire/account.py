"""Money, tokens and time of a session (Managed Agents API §1.3, §3.5)."""

from typing import Annotated, Literal

from pydantic import Field

from sojourn.types import Budget, SessionAccount
from sojourn.types.account import MICROCENTS_PER_CENT
from sojourn.types.wire import Wire


class MaxCost(Wire):
    """An amount in whole US cents."""

    amount: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,9}$")]
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


class CacheCreation(Wire):
    """Tokens written to the provider's cache, by how long they stay."""

    ephemeral_5m_input_tokens: int = 0
    ephemeral_1h_input_tokens: int = 0


class ListCost(Wire):
    """An amount in whole US cents, rounded down."""

    amount: str
    currency: Literal["USD"] = "USD"


class ServerToolUse(Wire):
    """Calls of web tools."""

    web_search_requests: int = 0
    web_fetch_requests: int = 0


class SessionUsage(Wire):
    """What a session has used."""

    input_tokens: int
    """Without those read from the cache or written to it."""
    output_tokens: int
    cache_read_input_tokens: int
    cache_creation: CacheCreation
    list_cost: ListCost | None
    """``None`` if it is not known."""
    active_seconds: float
    server_tool_use: ServerToolUse = ServerToolUse()


def wire_usage(account: SessionAccount) -> SessionUsage:
    """An account's tokens as replies show them."""
    usage = account.usage
    cached = usage.cache_read_input_tokens + usage.cache_creation_input_tokens
    cost = account.cost_microcents
    return SessionUsage(
        input_tokens=max(usage.input_tokens - cached, 0),
        output_tokens=usage.output_tokens,
        cache_read_input_tokens=usage.cache_read_input_tokens,
        cache_creation=CacheCreation(ephemeral_5m_input_tokens=usage.cache_creation_input_tokens),
        list_cost=ListCost(amount=str(cost // MICROCENTS_PER_CENT)) if cost is not None else None,
        active_seconds=account.active_seconds,
    )
