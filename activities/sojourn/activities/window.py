"""How large a model's window is, as far as anybody has written it down."""

import asyncio
from importlib import import_module

from sojourn.types.agent import AgentDefinition
from sojourn.types.model import ModelRef, Provider

DEFAULT_WINDOW_TOKENS = 128_000
"""For models that nobody knows: what most of today's models have at least."""

# How genai-prices names those providers whose windows it knows.
_KNOWN: dict[Provider, str] = {"anthropic": "anthropic", "google": "google", "openai": "openai"}

_MOST_MODELS = 1000

_found: dict[ModelRef, int] = {}


async def window_of(definition: AgentDefinition) -> int:
    """The window of the definition's model in tokens: as configured, as known, or `DEFAULT_WINDOW_TOKENS`."""
    if definition.compaction.window_tokens is not None:
        return definition.compaction.window_tokens
    ref = definition.model.model_copy(update={"settings": None, "api_key": None})
    if ref.provider not in _KNOWN and ref.base_url is None:
        return DEFAULT_WINDOW_TOKENS
    if ref not in _found:
        if len(_found) >= _MOST_MODELS:
            _found.clear()
        # In a thread, because the first look-up imports the table of all models.
        _found[ref] = await asyncio.to_thread(_look_up, ref)
    return _found[ref]


def _look_up(ref: ModelRef) -> int:
    provider = _KNOWN.get(ref.provider)
    try:
        snapshot = import_module("genai_prices.data_snapshot").get_snapshot()
        _, model = snapshot.find_provider_model(ref.model, None, provider, ref.base_url if provider is None else None)
    except (ImportError, LookupError):
        return DEFAULT_WINDOW_TOKENS
    return int(model.context_window or DEFAULT_WINDOW_TOKENS)
