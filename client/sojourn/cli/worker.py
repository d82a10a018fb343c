"""`sojourn up` and `sojourn worker`: processes that serve until they are told to stop."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from sojourn.cli import leave
from sojourn.cli.command import Cli, command
from sojourn.cli.failure import ExitCode
from sojourn.cli.folder import claim, free_port
from sojourn.cli.log import Format, Level, LogFormat, configure
from sojourn.client import missing_search_attributes
from sojourn.client.deployment import current_version
from sojourn.types import InvalidRequestError, SojournError
from sojourn.types.store import STORE_VARIABLE

if TYPE_CHECKING:
    from temporalio.client import Client
    from temporalio.worker import WorkerDeploymentConfig

    from sojourn.worker import EmbeddedServer, SojournWorker, Versioning

Tools = Annotated[
    list[str] | None,
    typer.Option("--tools", metavar="MODULE", help="Module with @tool functions, found from here; repeat for more."),
]
_LAST_WORDS = timedelta(seconds=1.5)
"""For what has been cancelled to say so, and for connections to close."""

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
    drain: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long running work may finish.")] = 10,
    deployment: Annotated[
        str | None,
        typer.Option(metavar="NAME", envvar="SOJOURN_DEPLOYMENT", help="Temporal's worker versioning: which fleet."),
    ] = None,
    build_id: Annotated[
        str | None,
        typer.Option(metavar="ID", envvar="SOJOURN_BUILD_ID", help="Which version of it; default: release and code."),
    ] = None,
    versioning: Annotated[
        str,
        typer.Option(metavar="KIND", envvar="SOJOURN_VERSIONING", help="How sessions change it: pinned, auto-upgrade."),
    ] = "pinned",
) -> None:
    """Serve sessions: run their workflows, call models, run tools.

    Start as many as you like. SIGTERM and Ctrl-C stop it in order, within --drain and two seconds: no new work, running
    work may finish, what does not is attempted by another worker or reported as lost. A second signal ends it at once.
    OTEL_EXPORTER_OTLP_ENDPOINT and its like send traces and metrics.
    """
    from sojourn.worker import SojournWorker, WorkerOptions, open_telemetry

    _prepare(log_level, log_format)
    options = WorkerOptions(
        task_queue=cli.connection.task_queue,
        graceful_shutdown=timedelta(seconds=drain),
        deployment=_versioned(deployment, build_id, versioning),
    )
    with _signals(at_most=timedelta(seconds=drain) + _LAST_WORDS) as stop:
        async with (
            open_telemetry(prometheus=metrics) as telemetry,
            cli.runtime(plugins=telemetry.plugins, sdk_runtime=telemetry.runtime) as runtime,
        ):
            await _warn_of_setup(cli, runtime.client)
            async with SojournWorker(runtime.client, tools=tools or (), options=options) as serving:
                await _announce(cli, runtime.client, serving)
                await stop.wait()
                cli.out.note(f"stopping; running work gets {drain:g} s, a second signal ends it at once")


def _versioned(deployment: str | None, build_id: str | None, versioning: str) -> "WorkerDeploymentConfig | None":
    from sojourn.worker import deployment_config

    if deployment is not None:
        return deployment_config(deployment, build_id=build_id, versioning=cast("Versioning", versioning))
    if build_id is not None:
        raise InvalidRequestError(f"build id {build_id!r} belongs to a deployment; name it with --deployment")
    return None


async def _announce(cli: Cli, client: "Client", serving: "SojournWorker") -> None:
    queue, names = serving.options.task_queue, serving.tools.names
    told: dict[str, object] = {"task_queue": queue, "tools": list(names), "pid": os.getpid()}
    lines = [f"worker serves task queue {queue!r}; tools: {', '.join(names) or 'none'}; Ctrl-C stops it"]
    if (config := serving.options.deployment) is not None:
        name, build_id = config.version.deployment_name, config.version.build_id
        told |= {"deployment": name, "build_id": build_id}
        lines.append(f"version {build_id!r} of deployment {name!r}")
        if await current_version(client, name) != build_id:
            cli.out.note(f"it gets no work before `sojourn deployments set-current {name} {build_id}`")
    cli.out.result(told, *lines)


def _prepare(log_level: str, log_format: LogFormat) -> None:
    configure(log_level, log_format)
    # The installed program has its own folder on the path, not the one it is started in.
    sys.path.insert(0, os.getcwd())


@contextmanager
def _signals(*, at_most: timedelta | None = None) -> Generator[asyncio.Event, None, None]:
    """An event that Ctrl-C, SIGTERM or a closed terminal sets. A second signal cuts the orderly stop short.

    The process ends with the block: asyncio's own end would wait for tools that hold on to their cancellation.

    Args:
        at_most: Time from the first signal after which the process ends whatever still runs; ``None`` sets no limit.
    """
    stop, task = asyncio.Event(), asyncio.current_task()

    def told() -> None:
        if stop.is_set():
            if at_most is not None:
                leave(ExitCode.INTERRUPTED)
            if task is not None:
                task.cancel()
        elif at_most is not None:
            # A thread, because a tool may block the loop.
            limit = threading.Timer(at_most.total_seconds(), leave, (ExitCode.OK,))
            limit.daemon = True
            limit.start()
        stop.set()

    # Windows has no such handlers; there Ctrl-C cancels the task at once.
    if sys.platform != "win32":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, told)
    try:
        yield stop
    except asyncio.CancelledError:
        leave(ExitCode.INTERRUPTED)
    leave(ExitCode.OK)


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
