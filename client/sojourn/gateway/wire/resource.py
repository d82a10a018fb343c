"""What is mounted into sessions, on the wire (Managed Agents API §1.5)."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, RootModel
from pydantic_core import PydanticCustomError

from sojourn.types.resource import (
    MAX_RESOURCES,
    Checkout,
    FileMount,
    FileResource,
    Resource,
    ResourceMount,
)
from sojourn.types.wire import Wire


def _no_memory(value: Any) -> Any:
    if isinstance(value, dict) and value.get("type") == "memory_store":
        raise PydanticCustomError("not_supported", "memory stores are not supported yet; leave it out")
    return value


Mount = Annotated[ResourceMount, BeforeValidator(_no_memory, json_schema_input_type=ResourceMount)]
Mounts = Annotated[tuple[Mount, ...], Field(max_length=MAX_RESOURCES)]


class AddResource(FileMount):
    """A file to mount. Repositories are mounted when a session is created."""


class RotateToken(Wire):
    """Another token for a repository."""

    authorization_token: Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[!-~]+$", repr=False)]


class WireFileResource(Wire):
    """A file in a session's workspace."""

    id: str
    type: Literal["file"] = "file"
    file_id: str
    mount_path: str
    created_at: datetime
    updated_at: datetime


class WireRepositoryResource(Wire):
    """A repository in a session's workspace. Its token is never shown."""

    id: str
    type: Literal["github_repository"] = "github_repository"
    url: str
    checkout: Checkout | None
    mount_path: str
    created_at: datetime
    updated_at: datetime


WireResource = Annotated[WireFileResource | WireRepositoryResource, Field(discriminator="type")]


class ResourceReply(RootModel[WireResource]):
    """One resource, of either kind."""


class ResourcePage(Wire):
    """One page of resources."""

    data: tuple[WireResource, ...]
    next_page: str | None


class DeletedResource(Wire):
    """What is left of a resource."""

    id: str
    type: Literal["session_resource_deleted"] = "session_resource_deleted"


def wire_resource(found: Resource) -> WireFileResource | WireRepositoryResource:
    """A resource as replies show it."""
    if isinstance(found, FileResource):
        return WireFileResource.model_validate(dict(found))
    return WireRepositoryResource.model_validate({name: value for name, value in found if name != "has_token"})
