"""`sojourn up`: everything on this machine in one process, and the Temporal server beside it."""

from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sojourn.cli.command import Cli, command
from sojourn.cli.folder import bind, claim, free_port
from sojourn.cli.gateway import Models, Served, development
from sojourn.cli.log import Format, Level, LogFormat
from sojourn.cli.stop import signals
from sojourn.cli.worker import (
    HookModules,
    Mcp,
    Metrics,
    Sandbox,
    Scripts,
    Tools,
    Workspaces,
    prepare,
    sandbox_line,
    scripts_of,
)
from sojourn.client.development import development_sealer
from sojourn.types import Sealer
from sojourn.types.store import STORE_VARIABLE

if TYPE_CHECKING:
    import socket

    from sojourn.worker import EmbeddedServer, SojournWorker


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "up", connects=False)(up)


async def up(
    cli: Cli,
    data: Annotated[Path, typer.Option(metavar="FOLDER", help="Where everything is kept.")] = Path(".sojourn"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the server; 0 takes a free one.")] = 7233,
    ui_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the Web UI; 0 takes a free one.")] = 8233,
    gateway: Annotated[bool, typer.Option("--gateway/--no-gateway", help="Serve the API over HTTP too.")] = True,
    gateway_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the HTTP gateway; 0 takes a free one.")
    ] = 8080,
    models: Models = None,
    store: Annotated[
        str | None,
        typer.Option(metavar="URL", envvar=STORE_VARIABLE, help="Object store; by default in the folder."),
    ] = None,
    tools: Tools = None,
    hooks: HookModules = None,
    mcp: Mcp = None,
    scripts: Scripts = None,
    sandbox: Sandbox = "auto",
    workspaces: Workspaces = None,
    log_level: Level = "warning",
    log_format: Format = LogFormat.TEXT,
    metrics: Metrics = None,
) -> None:
    """Start everything on this machine: a Temporal server with Web UI, a worker, the HTTP gateway. Ctrl-C stops it.

    Sessions are kept in the folder and go on at the next start. The gateway's development key is printed.
    """
    from sojourn.worker import McpOptions, SojournWorker, WorkerOptions, embedded_server, open_telemetry

    prepare(log_level, log_format)
    reached = McpOptions.read(mcp or ())
    with claim(data), signals() as stop:
        server_port, web_port = free_port(port, "--port"), free_port(ui_port, "--ui-port")
        listener = _listener(cli, gateway_port) if gateway else None
        sealer = Sealer.from_environment() or await development_sealer(data)
        async with AsyncExitStack() as stack:
            # A server that is stopped with its workers makes the SDK warn about each of their last calls.
            telemetry = await stack.enter_async_context(open_telemetry(prometheus=metrics, core_level="ERROR"))
            server = await stack.enter_async_context(
                embedded_server(
                    data=data,
                    store=store,
                    detached=True,
                    port=server_port,
                    ui_port=web_port,
                    plugins=telemetry.plugins,
                    runtime=telemetry.runtime,
                )
            )
            options = WorkerOptions(
                sandbox=sandbox, workspaces=workspaces or data / "workspaces", mcp=reached, sealer=sealer
            )
            worker = SojournWorker(
                server.client, tools=tools or (), hooks=hooks or (), scripts=scripts_of(scripts), options=options
            )
            serving = await stack.enter_async_context(worker)
            served = None
            if listener is not None:
                gate = development(server.client, data, listener, ui_url=server.ui_url, models=models, sealer=sealer)
                served = await stack.enter_async_context(gate)
            _greet(cli, server, data, serving, served)
            await stop.wait()
            cli.out.note("stopping; sessions go on at the next start")


def _listener(cli: Cli, port: int) -> "socket.socket | None":
    """Taken before anything starts, so that a taken port is told at once."""
    if find_spec("uvicorn") is None:
        cli.out.note('the HTTP gateway is not installed; pip install "sojourn[gateway]" brings it')
        return None
    return bind("127.0.0.1", port, "--gateway-port")


def _greet(cli: Cli, server: "EmbeddedServer", data: Path, serving: "SojournWorker", served: "Served | None") -> None:
    tools = serving.tools.names
    address = f"--address {server.address}" if not server.address.endswith(":7233") else ""
    told: dict[str, object] = {
        "address": server.address,
        "ui_url": server.ui_url,
        "data": str(data.resolve()),
        "tools": list(tools),
        "sandbox": serving.sandbox,
    }
    if served is not None:
        told |= {"gateway_url": served.url, "api_key": served.key}
    cli.out.result(told, "sojourn is up; Ctrl-C stops it, and sessions go on at the next start")
    if not cli.out.as_json:
        cli.out.fields(
            {
                "  Web UI": server.ui_url,
                "  address": server.address,
                "  gateway": served and served.url,
                "  API key": served and served.key,
                "  data": data,
                "  tools": ", ".join(tools),
                "  sandbox": sandbox_line(serving).removeprefix("sandbox: "),
                "  talk": f"sojourn chat {address}",
            }
        )
