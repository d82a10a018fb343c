"""The models that are known by name (Managed Agents API §1.11). Any other model string works too."""

from collections.abc import Iterable, Mapping
from typing import Literal

from sojourn.types import ModelRef
from sojourn.types.wire import Wire

_PROVIDERS = {"anthropic": "anthropic", "openai": "openai", "google": "google"}
"""Those that workers can reach, by their name in the table of prices."""


class Model(Wire):
    """A model."""

    type: Literal["model"] = "model"
    id: str
    display_name: str
    created_at: str = "1970-01-01T00:00:00Z"
    """Not known; the contract wants a time."""


class Models(Wire):
    """A page of models."""

    data: tuple[Model, ...]
    first_id: str | None
    last_id: str | None
    has_more: bool


def catalog(configured: Mapping[str, ModelRef]) -> list[Model]:
    """The operator's models, then those whose prices are known. Scripted models are for tests, and left out."""
    own = [Model(id=name, display_name=name) for name, ref in configured.items() if ref.provider != "scripted"]
    names = {model.id for model in own}
    return own + [model for model in _priced() if model.id not in names]


def _priced() -> Iterable[Model]:
    try:
        # Here, because a gateway without a worker beside it need not have the table.
        from genai_prices.data import providers
    except ImportError:
        return
    for provider in providers:
        if prefix := _PROVIDERS.get(provider.id):
            for model in provider.models:
                if not model.deprecated:
                    yield Model(id=_name(prefix, model.id), display_name=model.name or model.id)


def _name(provider: str, model: str) -> str:
    """Bare where the name tells the provider."""
    try:
        bare = ModelRef.of(model).provider == provider
    except ValueError:
        bare = False
    return model if bare else f"{provider}:{model}"
