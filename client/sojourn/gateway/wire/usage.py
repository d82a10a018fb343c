"""Tokens on the wire."""

from sojourn.types.account import MICROCENTS_PER_CENT
from sojourn.types.usage import Usage
from sojourn.types.wire import Wire


class CacheCreation(Wire):
    """Tokens written to the provider's prompt cache, by how long it keeps them."""

    ephemeral_5m_input_tokens: int = 0
    ephemeral_1h_input_tokens: int = 0


class ServerToolUse(Wire):
    """Calls of web tools."""

    web_search_requests: int = 0
    web_fetch_requests: int = 0


class Money(Wire):
    """An amount in the smallest unit of its currency."""

    amount: str
    currency: str = "USD"


class CumulativeUsage(Wire):
    """What a session or a thread has used (Managed Agents API §1.3)."""

    input_tokens: int = 0
    """Without those that were read from the cache or written to it, as in the Messages API."""
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation: CacheCreation = CacheCreation()
    list_cost: Money | None = None
    """``None`` while it is not known."""
    active_seconds: float = 0
    server_tool_use: ServerToolUse = ServerToolUse()


class RequestUsage(Wire):
    """What one model request has used (§2.4)."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0


def cumulative(usage: Usage, *, cost_microcents: int | None, active_seconds: float) -> CumulativeUsage:
    """What a session has used, in the contract's shape; its cost in whole cents, rounded down."""
    cents = cost_microcents // MICROCENTS_PER_CENT if cost_microcents is not None else None
    return CumulativeUsage(
        input_tokens=_uncached(usage),
        output_tokens=usage.output_tokens,
        cache_read_input_tokens=usage.cache_read_input_tokens,
        # Providers do not tell for how long, and five minutes is what they do unless asked.
        cache_creation=CacheCreation(ephemeral_5m_input_tokens=usage.cache_creation_input_tokens),
        list_cost=Money(amount=str(cents)) if cents is not None else None,
        active_seconds=active_seconds,
    )


def of_request(usage: Usage) -> RequestUsage:
    """Tokens of one model request, in the contract's shape."""
    return RequestUsage(
        input_tokens=_uncached(usage),
        output_tokens=usage.output_tokens,
        cache_creation_input_tokens=usage.cache_creation_input_tokens,
        cache_read_input_tokens=usage.cache_read_input_tokens,
    )


def _uncached(usage: Usage) -> int:
    """Ours counts all tokens that the model read; the contract's counters do not overlap."""
    return max(usage.input_tokens - usage.cache_read_input_tokens - usage.cache_creation_input_tokens, 0)
