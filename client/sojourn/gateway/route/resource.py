"""`/v1/sessions/{id}/resources` (Managed Agents API §1.5)."""

from pydantic import Field

from sojourn.gateway.endpoint import Call, Endpoint
from sojourn.gateway.wire.cursor import bad_cursor, cursor, read_cursor
from sojourn.gateway.wire.resource import (
    AddResource,
    DeletedResource,
    ResourcePage,
    ResourceReply,
    RotateToken,
    WireFileResource,
    wire_resource,
)
from sojourn.types.wire import Wire


class ResourcesQuery(Wire):
    """Which resources."""

    limit: int | None = Field(default=None, ge=1, le=1000)
    """All of them if there is no limit."""
    page: str | None = None


async def list_resources(call: Call[None, ResourcesQuery]) -> ResourcePage:
    query = call.query
    found = await call.runtime.list_resources(call.path["session_id"], owner=call.owner)
    start = _start(query.page) if query.page else 0
    end = len(found) if query.limit is None else start + query.limit
    return ResourcePage(
        data=tuple(map(wire_resource, found[start:end])),
        next_page=cursor("resources", start=end) if end < len(found) else None,
    )


def _start(page: str) -> int:
    start = read_cursor("resources", page).get("start")
    if not isinstance(start, int) or start < 0:
        raise bad_cursor()
    return start


async def add(call: Call[AddResource, None]) -> WireFileResource:
    found = await call.runtime.add_resource(call.path["session_id"], call.body, owner=call.owner)
    made = wire_resource(found)
    assert isinstance(made, WireFileResource)
    return made


async def retrieve(call: Call[None, None]) -> ResourceReply:
    found = await call.runtime.get_resource(call.path["session_id"], call.path["resource_id"], owner=call.owner)
    return ResourceReply(wire_resource(found))


async def update(call: Call[RotateToken, None]) -> ResourceReply:
    found = await call.runtime.rotate_resource(
        call.path["session_id"], call.path["resource_id"], call.body.authorization_token, owner=call.owner
    )
    return ResourceReply(wire_resource(found))


async def delete(call: Call[None, None]) -> DeletedResource:
    id = call.path["resource_id"]
    await call.runtime.remove_resource(call.path["session_id"], id, owner=call.owner)
    return DeletedResource(id=id)


_ALL = "/v1/sessions/{session_id}/resources"
_ONE = "/v1/sessions/{session_id}/resources/{resource_id}"
_NAME = "sessions.resources"

ENDPOINTS = (
    Endpoint(
        "GET", _ALL, f"{_NAME}.list", list_resources, "read", "List resources", None, ResourcesQuery, ResourcePage
    ),
    Endpoint("POST", _ALL, f"{_NAME}.add", add, "write", "Mount a file", AddResource, reply=WireFileResource),
    Endpoint("GET", _ONE, f"{_NAME}.retrieve", retrieve, "read", "Get a resource", reply=ResourceReply),
    Endpoint("POST", _ONE, f"{_NAME}.update", update, "write", "Rotate a token", RotateToken, reply=ResourceReply),
    Endpoint("DELETE", _ONE, f"{_NAME}.delete", delete, "write", "Unmount a resource", reply=DeletedResource),
)
