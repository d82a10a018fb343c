"""The models that are known by name (Managed Agents API §1.11). Any other model string works too."""

import re
from collections.abc import Iterable, Mapping
from typing import Literal

from sojourn.gateway.wire.model import ModelNames
from sojourn.types import ModelRef, Provider
from sojourn.types.wire import Wire

_PROVIDERS: dict[str, Provider] = {"anthropic": "anthropic", "openai": "openai", "google": "google"}
"""Those that workers can reach, by their name in the table of prices."""

_OTHER_USES = re.compile(r"embed|tts|whisper|dall-e|image|imagen|audio|realtime|moderation|transcribe|sora|veo|search")
"""Models in that table which no agent can talk with."""


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
        if (name := _PROVIDERS.get(provider.id)) is None:
            continue
        for model in provider.models:
            if not model.deprecated and not _OTHER_USES.search(model.id):
                id = ModelNames({}).name(ModelRef(provider=name, model=model.id))
                yield Model(id=id, display_name=model.name or model.id)
