"""Endpoints as data: what a route takes and gives, from which both the routing and the OpenAPI document are made."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from sojourn.gateway.limit import RateLimiter
from sojourn.gateway.logbook import Logbooks
from sojourn.gateway.poller import Pollers
from sojourn.gateway.principal import Principal, Scope
from sojourn.gateway.recent import RecentRequests
from sojourn.gateway.sse import OpenStreams
from sojourn.gateway.wire.model import ModelNames
from sojourn.types import ModelRef, Owner
from sojourn.types.file import MAX_FILE_BYTES

if TYPE_CHECKING:
    from sojourn.client import AgentRuntime
    from sojourn.gateway.principal import Authenticator

B = TypeVar("B")
Q = TypeVar("Q")

MAX_BODY_BYTES = 32 * 1024 * 1024
"""Managed Agents API §4.5."""


@dataclass(frozen=True)
class GatewayOptions:
    """How a gateway behaves."""

    max_body_bytes: int = MAX_BODY_BYTES
    """Of everything but uploads."""
    max_file_bytes: int = MAX_FILE_BYTES
    """Of one upload."""
    ping: timedelta = timedelta(seconds=10)
    """How often an open stream shows that it lives; proxies cut silent ones after 16 to 60 s."""
    ui_url: str | None = None
    """Where people reach Temporal's Web UI; ``None`` shows no links to it."""
    models: Mapping[str, ModelRef] = field(default_factory=dict)
    """Models by names of the operator's. Only these can have an address: a caller cannot choose one."""


@dataclass(frozen=True)
class Gateway:
    """What all requests share."""

    runtime: "AgentRuntime"
    authenticator: "Authenticator"
    options: GatewayOptions = field(default_factory=GatewayOptions)
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server is told to stop; open streams then end."""
    limiter: RateLimiter = field(default_factory=RateLimiter)
    recent: RecentRequests = field(default_factory=RecentRequests)
    logbooks: Logbooks = field(default_factory=Logbooks)
    streams: OpenStreams = field(default_factory=OpenStreams)
    pollers: Pollers = field(default_factory=Pollers)


@dataclass(frozen=True)
class Call(Generic[B, Q]):
    """One request to an endpoint, checked."""

    gateway: Gateway
    request: Request
    principal: Principal
    path: Mapping[str, str]
    """Values of the path's variables."""
    body: B
    query: Q
    request_id: str
    body_digest: str = ""
    """SHA-256 of the body as it was sent."""

    @property
    def owner(self) -> Owner:
        """Whose things the caller sees."""
        return self.principal.owner

    @property
    def runtime(self) -> "AgentRuntime":
        """The Python client, which does the work."""
        return self.gateway.runtime

    @property
    def models(self) -> ModelNames:
        """What models are called over the wire."""
        return ModelNames(self.gateway.options.models)


Handler = Callable[[Call[Any, Any]], Awaitable[BaseModel | Response]]


@dataclass(frozen=True)
class Endpoint:
    """One operation.

    Attributes:
        method: HTTP method.
        path: Template, such as ``/v1/agents/{agent_id}``.
        operation: Unique name, such as ``agents.create``.
        handler: Does it; a `BaseModel` is sent as JSON with status 200.
        scope: What the caller's key must allow.
        summary: One line for the OpenAPI document.
        body: Shape of the JSON body; ``None`` takes none.
        query: Shape of the query; unknown parameters are ignored, because old SDKs add ``beta=true`` to every call.
        reply: Shape of the answer; ``None`` for a stream.
        for_workers: Whether the key of a self-hosted environment opens it too, for its own queue and sessions.
        form: Shape of a body that is a form, which the handler reads itself.
        binary: Whether the answer is a file.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    operation: str
    handler: Handler
    scope: Scope
    summary: str
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    reply: type[BaseModel] | None = None
    for_workers: bool = False
    form: type[BaseModel] | None = None
    binary: bool = False
