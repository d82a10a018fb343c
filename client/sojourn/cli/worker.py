"""`sojourn up` and `sojourn worker`: processes that serve until they are told to stop."""

import asyncio
import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sojourn.cli.command import Cli, command
from sojourn.cli.folder import claim, free_port
from sojourn.cli.log import Format, Level, LogFormat, configure
from sojourn.client import missing_search_attributes
from sojourn.types import SojournError
from sojourn.types.store import STORE_VARIABLE

if TYPE_CHECKING:
    from temporalio.client import Client

    from sojourn.worker import EmbeddedServer

Tools = Annotated[
    list[str] | None,
    typer.Option("--tools", metavar="MODULE", help="Module with @tool functions, found from here; repeat for more."),
]
Metrics = Annotated[
    str | None,
    typer.Option("--metrics", metavar="HOST:PORT", help="Where Prometheus finds /metrics.", envvar="SOJOURN_METRICS"),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "up", connects=False)(up)
    command(app, "worker")(worker)


async def up(
    cli: Cli,
    data: Annotated[Path, typer.Option(metavar="FOLDER", help="Where everything is kept.")] = Path(".sojourn"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the server; 0 takes a free one.")] = 7233,
    ui_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the Web UI; 0 takes a free one.")] = 8233,
    store: Annotated[
        str | None,
        typer.Option(metavar="URL", envvar=STORE_VARIABLE, help="Object store; by default in the folder."),
    ] = None,
    tools: Tools = None,
    log_level: Level = "warning",
    log_format: Format = LogFormat.TEXT,
    metrics: Metrics = None,
) -> None:
    """Start everything on this machine: a Temporal server with Web UI, and a worker. Ctrl-C stops it in order.

    Sessions are kept in the folder and go on at the next start.
    """
    from sojourn.worker import SojournWorker, embedded_server, open_telemetry

    _prepare(log_level, log_format)
    with claim(data), _signals() as stop:
        server_port, web_port = free_port(port, "--port"), free_port(ui_port, "--ui-port")
        async with (
            # A server that is stopped with its workers makes the SDK warn about each of their last calls.
            open_telemetry(prometheus=metrics, core_level="ERROR") as telemetry,
            embedded_server(
                data=data,
                store=store,
                detached=True,
                port=server_port,
                ui_port=web_port,
                plugins=telemetry.plugins,
                runtime=telemetry.runtime,
            ) as server,
            SojournWorker(server.client, tools=tools or ()) as serving,
        ):
            _greet(cli, server, data, serving.tools.names)
            await stop.wait()
            cli.out.note("stopping; sessions go on at the next start")


async def worker(
    cli: Cli,
    tools: Tools = None,
    log_level: Level = "info",
    log_format: Format = LogFormat.TEXT,
    metrics: Metrics = None,
) -> None:
    """Serve sessions: run their workflows, call models, run tools.

    Start as many as you like. SIGTERM and Ctrl-C stop it in order: running work gets ten seconds to finish.
    OTEL_EXPORTER_OTLP_ENDPOINT and its like send traces and metrics.
    """
    from sojourn.worker import SojournWorker, WorkerOptions, open_telemetry

    _prepare(log_level, log_format)
    options = WorkerOptions(task_queue=cli.connection.task_queue)
    with _signals() as stop:
        async with (
            open_telemetry(prometheus=metrics) as telemetry,
            cli.runtime(plugins=telemetry.plugins, sdk_runtime=telemetry.runtime) as runtime,
        ):
            await _warn_of_setup(cli, runtime.client)
            async with SojournWorker(runtime.client, tools=tools or (), options=options) as serving:
                names = ", ".join(serving.tools.names) or "none"
                cli.out.result(
                    {"task_queue": options.task_queue, "tools": list(serving.tools.names), "pid": os.getpid()},
                    f"worker serves task queue {options.task_queue!r}; tools: {names}; Ctrl-C stops it",
                )
                await stop.wait()
                cli.out.note("stopping; running work gets ten seconds")


def _prepare(log_level: str, log_format: LogFormat) -> None:
    configure(log_level, log_format)
    # The installed program has its own folder on the path, not the one it is started in.
    sys.path.insert(0, os.getcwd())


@contextmanager
def _signals() -> Generator[asyncio.Event, None, None]:
    """An event that Ctrl-C, SIGTERM or a closed terminal sets. A second signal cuts the orderly stop short."""
    stop, task = asyncio.Event(), asyncio.current_task()

    def told() -> None:
        if stop.is_set() and task is not None:
            task.cancel()
        stop.set()

    # Windows has no such handlers; there Ctrl-C cancels the task at once.
    if sys.platform != "win32":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, told)
    try:
        yield stop
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _warn_of_setup(cli: Cli, client: "Client") -> None:
    """Say what is missing on the server; one that refuses to tell may have it all the same."""
    try:
        missing = await missing_search_attributes(client)
    except SojournError as error:
        cli.out.note(f"the search attributes could not be checked: {error}")
        return
    if missing:
        cli.out.note(f"the namespace lacks {', '.join(missing)}: run `sojourn setup`")


def _greet(cli: Cli, server: "EmbeddedServer", data: Path, tools: tuple[str, ...]) -> None:
    address = f"--address {server.address}" if not server.address.endswith(":7233") else ""
    told = {"address": server.address, "ui_url": server.ui_url, "data": str(data.resolve()), "tools": list(tools)}
    cli.out.result(told, "sojourn is up; Ctrl-C stops it, and sessions go on at the next start")
    if not cli.out.as_json:
        cli.out.fields(
            {
                "  Web UI": server.ui_url,
                "  address": server.address,
                "  data": data,
                "  tools": ", ".join(tools),
                "  talk": f"sojourn chat {address}",
            }
        )
