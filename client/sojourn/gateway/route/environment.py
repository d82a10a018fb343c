"""`/v1/environments` (Managed Agents API §1.2)."""

from pydantic import Field

from sojourn.gateway.endpoint import Call, Endpoint
from sojourn.gateway.idempotency import Creation, create_once
from sojourn.gateway.wire.cursor import bad_cursor, cursor, read_cursor
from sojourn.gateway.wire.environment import DeletedEnvironment, Environment, wire_environment
from sojourn.gateway.wire.page import ListPage
from sojourn.types.environment import Environment as StoredEnvironment
from sojourn.types.environment import EnvironmentChange, EnvironmentDefinition
from sojourn.types.error import EnvironmentExistsError
from sojourn.types.wire import Wire


class EnvironmentsQuery(Wire):
    """Which environments."""

    include_archived: bool = False
    limit: int = Field(default=20, ge=1, le=100)
    page: str | None = None


async def create(call: Call[EnvironmentDefinition, None]) -> Environment:
    async def make(id: str) -> StoredEnvironment:
        return await call.runtime.create_environment(call.body, environment_id=id, owner=call.owner)

    async def find(id: str) -> StoredEnvironment:
        return await call.runtime.get_environment(id, owner=call.owner)

    def same(found: StoredEnvironment) -> bool:
        return found.name == call.body.name

    made = await create_once(call, Creation("env_", make, find, EnvironmentExistsError, same))
    return wire_environment(made)


async def retrieve(call: Call[None, None]) -> Environment:
    return wire_environment(await call.runtime.get_environment(call.path["environment_id"], owner=call.owner))


async def update(call: Call[EnvironmentChange, None]) -> Environment:
    id = call.path["environment_id"]
    return wire_environment(await call.runtime.update_environment(id, call.body, owner=call.owner))


async def list_environments(call: Call[None, EnvironmentsQuery]) -> ListPage[Environment]:
    query = call.query
    found = await call.runtime.list_environments(
        include_archived=query.include_archived, limit=query.limit, page=_server_page(query.page), owner=call.owner
    )
    return ListPage(
        data=tuple(wire_environment(each) for each in found.data),
        next_page=cursor("environments", at=found.next_page) if found.next_page else None,
    )


def _server_page(page: str | None) -> str | None:
    if not page:
        return None
    at = read_cursor("environments", page).get("at")
    if not isinstance(at, str):
        raise bad_cursor()
    return at


async def archive(call: Call[None, None]) -> Environment:
    return wire_environment(await call.runtime.archive_environment(call.path["environment_id"], owner=call.owner))


async def delete(call: Call[None, None]) -> DeletedEnvironment:
    id = call.path["environment_id"]
    await call.runtime.delete_environment(id, owner=call.owner)
    return DeletedEnvironment(id=id)


_ALL = "/v1/environments"
_ONE = "/v1/environments/{environment_id}"

ENDPOINTS = (
    Endpoint(
        "POST",
        _ALL,
        "environments.create",
        create,
        "write",
        "Create an environment",
        EnvironmentDefinition,
        reply=Environment,
    ),
    Endpoint(
        "GET",
        _ALL,
        "environments.list",
        list_environments,
        "read",
        "List environments",
        None,
        EnvironmentsQuery,
        ListPage[Environment],
    ),
    Endpoint("GET", _ONE, "environments.retrieve", retrieve, "read", "Get an environment", reply=Environment),
    Endpoint(
        "POST",
        _ONE,
        "environments.update",
        update,
        "write",
        "Change an environment",
        EnvironmentChange,
        reply=Environment,
    ),
    Endpoint(
        "DELETE",
        _ONE,
        "environments.delete",
        delete,
        "control",
        "Delete an environment that no session refers to",
        reply=DeletedEnvironment,
    ),
    Endpoint(
        "POST",
        f"{_ONE}/archive",
        "environments.archive",
        archive,
        "control",
        "Archive an environment",
        reply=Environment,
    ),
)
