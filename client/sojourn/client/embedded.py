"""Everything in one process. The one place from which the client reaches the worker, and only when asked to."""

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sojourn.testing import Script
from sojourn.worker import (  # noqa: TID251 (see above)
    EmbeddedServer,
    HookSource,
    SojournWorker,
    ToolSource,
    WorkerOptions,
    embedded_server,
)

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
    sandbox: str | None,
) -> AsyncGenerator[EmbeddedServer, None]:
    """A server and a worker while the block runs; see `AgentRuntime.embedded`."""
    with ExitStack() as stack:
        # What a server in memory forgets, nobody finds again.
        kept = data if data is not None else Path(stack.enter_context(_scratch()))
        options = WorkerOptions(sandbox=sandbox, workspaces=kept / "workspaces")
        async with (
            embedded_server(data=data, store=store, port=port, ui_port=ui_port) as server,
            SojournWorker(server.client, tools=tools, hooks=hooks, scripts=scripts, options=options),
        ):
            yield server


def _scratch() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="sojourn-", ignore_cleanup_errors=True)
