"""`/v1/models`: the models that are known by name. Any other model string works too."""

from sojourn.gateway.endpoint import Call, Endpoint
from sojourn.types.wire import Wire


class Model(Wire):
    """A model."""

    type: str = "model"
    id: str
    display_name: str
    created_at: str = "1970-01-01T00:00:00Z"


class Models(Wire):
    """All models."""

    data: tuple[Model, ...]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


async def list_models(call: Call[None, None]) -> Models:
    """Placeholder of the skeleton; the helper `core` fills it."""
    return Models(data=())


ENDPOINTS = (Endpoint("GET", "/v1/models", "models.list", list_models, "read", "List models", reply=Models),)
