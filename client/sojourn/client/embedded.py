"""Everything in one process. The one place from which the client reaches the worker, and only when asked to."""

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from sojourn.testing import Script
from sojourn.worker import EmbeddedServer, HookSource, SojournWorker, ToolSource, embedded_server  # noqa: TID251 (see above)

Tools = Iterable[ToolSource]
Hooks = Iterable[HookSource]
Scripts = Mapping[str, Script]


@asynccontextmanager
async def embedded(
    *,
    tools: Tools,
    hooks: Hooks,
    scripts: Scripts | None,
    data: Path | None,
    store: str | None,
    port: int | None,
    ui_port: int | None,
) -> AsyncGenerator[EmbeddedServer, None]:
    """A server and a worker while the block runs; see `AgentRuntime.embedded`."""
    async with (
        embedded_server(data=data, store=store, port=port, ui_port=ui_port) as server,
        SojournWorker(server.client, tools=tools, hooks=hooks, scripts=scripts),
    ):
        yield server
