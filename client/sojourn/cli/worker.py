"""`sojourn worker`: a process that serves sessions until it is told to stop."""

import os
import sys
from collections.abc import Mapping
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from sojourn.cli.command import Cli, command
from sojourn.cli.log import Format, Level, LogFormat, configure
from sojourn.cli.stop import LAST_WORDS, signals
from sojourn.client import missing_search_attributes
from sojourn.client.deployment import current_version
from sojourn.types import InvalidRequestError, SojournError

if TYPE_CHECKING:
    from temporalio.client import Client
    from temporalio.worker import WorkerDeploymentConfig

    from sojourn.testing import Script
    from sojourn.worker import SojournWorker, Versioning

Tools = Annotated[
    list[str] | None,
    typer.Option("--tools", metavar="MODULE", help="Module with @tool functions, found from here; repeat for more."),
]
HookModules = Annotated[
    list[str] | None,
    typer.Option("--hooks", metavar="MODULE", help="Module with @hook functions, found from here; repeat for more."),
]
Mcp = Annotated[
    list[str] | None,
    typer.Option("--mcp", metavar="NAME=COMMAND", help="A local MCP server that agents may use; repeat for more."),
]
Scripts = Annotated[
    str | None,
    typer.Option("--scripts", metavar="MODULE", help="Module with SCRIPTS: scripted models by name, for trying out."),
]
Metrics = Annotated[
    str | None,
    typer.Option("--metrics", metavar="HOST:PORT", help="Where Prometheus finds /metrics.", envvar="SOJOURN_METRICS"),
]


Sandbox = Annotated[
    str,
    typer.Option(
        metavar="KIND",
        envvar="SOJOURN_SANDBOX",
        help="Where agents' commands run: auto, bubblewrap, docker, none; local protects nothing.",
    ),
]
Workspaces = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        envvar="SOJOURN_WORKSPACES",
        help="Where the files of sessions are; by default in the user's data folder.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "worker")(worker)


async def worker(
    cli: Cli,
    tools: Tools = None,
    hooks: HookModules = None,
    mcp: Mcp = None,
    scripts: Scripts = None,
    log_level: Level = "info",
    log_format: Format = LogFormat.TEXT,
    metrics: Metrics = None,
    sandbox: Sandbox = "auto",
    workspaces: Workspaces = None,
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
    from sojourn.worker import McpOptions, SojournWorker, WorkerOptions, open_telemetry

    prepare(log_level, log_format)
    options = WorkerOptions(
        task_queue=cli.connection.task_queue,
        graceful_shutdown=timedelta(seconds=drain),
        deployment=_versioned(deployment, build_id, versioning),
        sandbox=sandbox,
        workspaces=workspaces,
        mcp=McpOptions.read(mcp or ()),
    )
    with signals(at_most=timedelta(seconds=drain) + LAST_WORDS) as stop:
        async with (
            open_telemetry(prometheus=metrics) as telemetry,
            cli.runtime(plugins=telemetry.plugins, sdk_runtime=telemetry.runtime) as runtime,
        ):
            await _warn_of_setup(cli, runtime.client)
            async with SojournWorker(
                runtime.client, tools=tools or (), hooks=hooks or (), scripts=scripts_of(scripts), options=options
            ) as serving:
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
    told |= {"sandbox": serving.sandbox}
    lines.append(sandbox_line(serving))
    if (config := serving.options.deployment) is not None:
        name, build_id = config.version.deployment_name, config.version.build_id
        told |= {"deployment": name, "build_id": build_id}
        lines.append(f"version {build_id!r} of deployment {name!r}")
        if await current_version(client, name) != build_id:
            cli.out.note(f"it gets no work before `sojourn deployments set-current {name} {build_id}`")
    cli.out.result(told, *lines)


def sandbox_line(serving: "SojournWorker") -> str:
    """What people are told of the worker's sandbox."""
    match serving.sandbox:
        case None:
            why = f" ({serving.no_sandbox})" if serving.no_sandbox else ""
            return f"sandbox: none{why}; sessions that need one are refused"
        case "local":
            return "sandbox: local, WHICH PROTECTS NOTHING: agents' commands run as this user, on this machine's files"
        case name:
            return f"sandbox: {name}"


def prepare(log_level: str, log_format: LogFormat) -> None:
    """Set up the log, and let modules be found from where the program is started."""
    configure(log_level, log_format)
    # The installed program has its own folder on the path, not the one it is started in.
    sys.path.insert(0, os.getcwd())


def scripts_of(module: str | None) -> "Mapping[str, Script] | None":
    """The scripted models that a module brings as ``SCRIPTS``.

    Raises:
        InvalidRequestError: It cannot be imported or has none.
    """
    if module is None:
        return None
    try:
        found = getattr(import_module(module), "SCRIPTS", None)
    except ImportError as error:
        raise InvalidRequestError(f"module {module!r} cannot be imported ({error}); name one with --scripts") from error
    if not isinstance(found, Mapping):
        raise InvalidRequestError(f'module {module!r} has no SCRIPTS; write SCRIPTS = {{"name": [ScriptedTurn(…)]}}')
    return found


async def _warn_of_setup(cli: Cli, client: "Client") -> None:
    """Say what is missing on the server; one that refuses to tell may have it all the same."""
    try:
        missing = await missing_search_attributes(client)
    except SojournError as error:
        cli.out.note(f"the search attributes could not be checked: {error}")
        return
    if missing:
        cli.out.note(f"the namespace lacks {', '.join(missing)}: run `sojourn setup`")
