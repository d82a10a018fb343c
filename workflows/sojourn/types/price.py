"""What model requests cost at list price, as far as anybody has written it down. Not for workflow code."""

from decimal import Decimal

from sojourn.types.account import MICROCENTS_PER_CENT
from sojourn.types.model import ModelRef, Provider
from sojourn.types.usage import Usage

# How genai-prices names the providers it knows; any other is looked up by its URL.
_KNOWN: dict[Provider, str] = {"anthropic": "anthropic", "google": "google", "openai": "openai"}

_MICROCENTS_PER_DOLLAR = 100 * MICROCENTS_PER_CENT


def list_cost(model: ModelRef, usage: Usage) -> int | None:
    """What so many tokens of the model cost, in millionths of a US cent; ``None`` if the price is not known.

    The first call imports the table of all models, which takes a moment. Without the package ``genai-prices``, which
    the extras ``worker`` and ``gateway`` bring, no price is known.
    """
    if model.provider not in _KNOWN and model.base_url is None:
        return None
    try:
        from genai_prices import Usage as Tokens
        from genai_prices import calc_price
    except ImportError:
        return None
    tokens = Tokens(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_input_tokens,
        cache_write_tokens=usage.cache_creation_input_tokens,
    )
    provider = _KNOWN.get(model.provider)
    try:
        if provider is not None:
            found = calc_price(tokens, model.model, provider_id=provider)
        else:
            found = calc_price(tokens, model.model, provider_api_url=model.base_url)
    except (LookupError, ValueError):
        return None
    return round(Decimal(found.total_price) * _MICROCENTS_PER_DOLLAR)


def has_price(model: ModelRef) -> bool | None:
    """Whether the model's price is known; ``None`` if only the worker can tell."""
    if model.provider == "scripted":
        return None
    try:
        import genai_prices  # noqa: F401 (only whether it is there)
    except ImportError:
        return None
    return list_cost(model, Usage(input_tokens=1, output_tokens=1)) is not None
