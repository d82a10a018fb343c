"""A gateway on a port of its own, on the runtime of the stage, with keys from a table."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx
import httpx2
import pytest
import uvicorn

from sojourn.gateway import Gateway, GatewayOptions, create_app
from sojourn.gateway.error import GatewayError
from sojourn.gateway.principal import SCOPES, Principal
from sojourn.types.environment import EnvironmentDefinition


class TableAuthenticator:
    """Keys from a table. Every key that nobody has put there is refused."""

    def __init__(self, table: Mapping[str, Principal]) -> None:
        self.table = dict(table)

    async def authenticate(self, headers: Mapping[str, str]) -> Principal:
        given = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        if given not in self.table:
            raise GatewayError(401, "unknown key")
        return self.table[given]


@dataclass
class ServedGateway:
    """A gateway that listens, and clients of it."""

    url: str
    stage: Any
    gateway: Gateway
    http: httpx.AsyncClient
    """With the key ``ada``."""
    sdk: anthropic.AsyncAnthropic
    """The official SDK, with the key ``ada`` and without retries of its own."""
    environment: str
    """Id of an environment."""

    def client(self, key: str) -> httpx.AsyncClient:
        """Another client, which its user closes; ``ada`` and ``eve`` have workspaces of their own."""
        return _client(self.url, key)


def _client(url: str, key: str) -> httpx.AsyncClient:
    # Without certificates, whose reading takes longer than most tests.
    return httpx.AsyncClient(base_url=url, headers={"x-api-key": key}, timeout=60, verify=False)


def _principal(key: str, workspace: str, user: str, *scopes: str) -> Principal:
    return Principal(key_id=f"key_{key}", workspace=workspace, user=user, scopes=frozenset(scopes or SCOPES))


@asynccontextmanager
async def served(stage: Any, options: GatewayOptions | None = None) -> AsyncGenerator[ServedGateway, None]:
    """Serve the stage's runtime until the block ends."""
    workspace = stage.owner.workspace
    table = {
        "ada": _principal("ada", workspace, stage.owner.user),
        "bob": _principal("bob", workspace, "bob"),
        "eve": _principal("eve", f"{workspace}-eve", "eve"),
        "worker": _principal("worker", workspace, "worker"),
        "reader": _principal("reader", workspace, stage.owner.user, "read"),
    }
    gateway = Gateway(stage.runtime, TableAuthenticator(table), options or GatewayOptions())
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(gateway), log_config=None, lifespan="off", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve([listener]))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        async with (
            _client(url, "ada") as http,
            anthropic.AsyncAnthropic(
                base_url=url,
                api_key="ada",
                max_retries=0,
                http_client=httpx2.AsyncClient(timeout=60, verify=False),
            ) as sdk,
        ):
            environment = await stage.runtime.create_environment(EnvironmentDefinition(name=f"test {url}"))
            yield ServedGateway(url, stage, gateway, http, sdk, environment.id)
    finally:
        server.should_exit = True
        await task
        listener.close()


@pytest.fixture
async def gateway(stage: Any) -> AsyncGenerator[ServedGateway, None]:
    """A gateway on the stage's runtime. Keys: ``ada`` (the stage's owner), ``bob`` (another user), ``eve`` (another
    workspace), ``reader`` (may only read)."""
    async with served(stage) as gateway:
        yield gateway


@pytest.fixture
def serve(stage: Any) -> Any:
    """Serves the stage's runtime with options of the test's own: ``async with serve(GatewayOptions(…)) as gateway``."""
    return lambda options=None: served(stage, options)
