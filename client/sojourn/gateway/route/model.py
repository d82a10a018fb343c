"""`/v1/models`: the models that are known by name. Any other model string works too."""

from typing import Annotated

from pydantic import Field

from sojourn.gateway.endpoint import Call, Endpoint
from sojourn.gateway.error import GatewayError
from sojourn.gateway.wire.catalog import Model, Models, catalog
from sojourn.types import InvalidRequestError
from sojourn.types.wire import Wire


class ModelsQuery(Wire):
    """Which part of the list."""

    limit: int = Field(default=20, ge=1, le=1000)
    after_id: Annotated[str | None, Field(max_length=256)] = None
    before_id: Annotated[str | None, Field(max_length=256)] = None


async def list_models(call: Call[None, ModelsQuery]) -> Models:
    query = call.query
    models = catalog(call.gateway.options.models)
    places = {model.id: place for place, model in enumerate(models)}
    for name in ("after_id", "before_id"):
        if (id := getattr(query, name)) is not None and id not in places:
            raise InvalidRequestError(f"{name}: no model {id!r} in the list", param=name)
    if query.before_id is not None:
        end = places[query.before_id]
        start = max(end - query.limit, 0)
        shown, more = models[start:end], start > 0
    else:
        start = places[query.after_id] + 1 if query.after_id is not None else 0
        shown, more = models[start : start + query.limit], start + query.limit < len(models)
    return Models(
        data=tuple(shown),
        first_id=shown[0].id if shown else None,
        last_id=shown[-1].id if shown else None,
        has_more=more,
    )


async def retrieve(call: Call[None, None]) -> Model:
    id = call.path["model_id"]
    found = next((model for model in catalog(call.gateway.options.models) if model.id == id), None)
    if found is None:
        raise GatewayError(404, f"model {id!r} is not in the list; agents can use it all the same")
    return found


ENDPOINTS = (
    Endpoint("GET", "/v1/models", "models.list", list_models, "read", "List models", None, ModelsQuery, Models),
    Endpoint("GET", "/v1/models/{model_id}", "models.retrieve", retrieve, "read", "Get a model", reply=Model),
)
