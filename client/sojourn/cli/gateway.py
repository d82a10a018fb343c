"""`sojourn gateway`: the Managed Agents API over HTTP."""

import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sojourn.cli.command import Cli, command
from sojourn.cli.folder import bind
from sojourn.cli.log import Format, Level, LogFormat
from sojourn.cli.stop import LAST_WORDS, signals
from sojourn.cli.worker import Metrics, prepare
from sojourn.client import AgentRuntime
from sojourn.client.development import development_key
from sojourn.client.key import KeyStore
from sojourn.types import InvalidRequestError, ModelRef, parse
from sojourn.types.file import MAX_FILE_BYTES

if TYPE_CHECKING:
    import socket

    from temporalio.client import Client

    from sojourn.gateway import Gateway
    from sojourn.types import Sealer
    from sojourn.worker.telemetry import Telemetry

_MEGABYTE = 1024 * 1024

Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="NAME=MODEL",
        help="A name for a model: NAME=PROVIDER:MODEL, with @BASE_URL for a server of your own; repeat for more.",
    ),
]


@dataclass(frozen=True)
class Served:
    """A gateway that is being served."""

    url: str
    key: str
    """The development key."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "gateway")(gateway)


async def gateway(
    cli: Cli,
    host: Annotated[str, typer.Option(metavar="HOST", help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8080,
    ui_url: Annotated[
        str | None,
        typer.Option(metavar="URL", envvar="SOJOURN_UI_URL", help="Temporal's Web UI, for links from the console."),
    ] = None,
    long_polls: Annotated[
        int, typer.Option(min=1, metavar="N", help="Long polls it may hold; the server's budget is for all processes.")
    ] = 300,
    models: Models = None,
    writes: Annotated[
        int,
        typer.Option("--writes-per-minute", min=0, metavar="N", help="Changes a minute for each key; 0: any number."),
    ] = 300,
    reads: Annotated[
        int, typer.Option("--reads-per-minute", min=0, metavar="N", help="Reads a minute for each key; 0: any number.")
    ] = 1200,
    max_file: Annotated[
        int, typer.Option("--max-file-mb", min=1, metavar="N", help="The largest file that may be uploaded, in MiB.")
    ] = MAX_FILE_BYTES // _MEGABYTE,
    drain: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long running requests may finish.")] = 5,
    access_log: Annotated[bool, typer.Option("--access-log", help="Log every request with its id.")] = False,
    log_level: Level = "info",
    log_format: Format = LogFormat.TEXT,
    metrics: Metrics = None,
) -> None:
    """Serve the Managed Agents API over HTTP, for the official SDKs: `sojourn keys create` makes their keys.

    Stateless: start as many as you like on the same namespace. SIGTERM and Ctrl-C stop it in order, within --drain and
    two seconds: streams end, running requests finish. A second signal ends it at once. /healthz and /readyz say how
    it is.
    """
    from sojourn.gateway import serving

    prepare(log_level, log_format)
    grace = timedelta(seconds=drain)
    with signals(at_most=grace + LAST_WORDS) as stop, bind(host, port, "--port") as listener:
        async with AsyncExitStack() as stack:
            telemetry = await stack.enter_async_context(_telemetry(metrics))
            runtime = await stack.enter_async_context(
                cli.runtime(
                    plugins=telemetry.plugins if telemetry else (),
                    sdk_runtime=telemetry.runtime if telemetry else None,
                    long_polls=long_polls,
                )
            )
            made = _made(
                runtime,
                ui_url,
                named_models(models),
                writes=writes or None,
                reads=reads or None,
                max_file_bytes=max_file * _MEGABYTE,
            )
            url = await stack.enter_async_context(serving(made, listener, grace=grace, access_log=access_log))
            told = {"gateway_url": url, "pid": os.getpid()}
            cli.out.result(told, f"gateway serves {url}; Ctrl-C stops it")
            await stop.wait()
            cli.out.note(f"stopping; running requests get {drain:g} s, a second signal ends it at once")


_EMBEDDED_LONG_POLLS = 5_000
"""The embedded server admits 20,000 for the namespace (``frontend.namespaceCount``)."""


@asynccontextmanager
async def development(
    client: "Client",
    folder: Path,
    listener: "socket.socket",
    *,
    ui_url: str | None,
    models: list[str] | None,
    sealer: "Sealer | None" = None,
) -> AsyncGenerator[Served, None]:
    """A gateway with the folder's development key, while the block runs."""
    from sojourn.gateway import serving

    runtime = AgentRuntime(client, long_polls=_EMBEDDED_LONG_POLLS, sealer=sealer)
    key = await development_key(client, folder)
    try:
        # One developer on one machine: nobody to share it with.
        made = _made(runtime, ui_url, named_models(models), writes=None, reads=None)
        async with serving(made, listener, grace=timedelta(seconds=1)) as url:
            yield Served(url, key)
    finally:
        await runtime.close()


def named_models(given: list[str] | None) -> dict[str, ModelRef]:
    """Models by the operator's names, from the command line.

    Raises:
        InvalidRequestError: One is not written as it should be.
    """
    found: dict[str, ModelRef] = {}
    for each in given or ():
        name, equals, where = each.partition("=")
        text, _, base_url = where.partition("@")
        provider, colon, model = text.partition(":")
        if not (name and equals and text):
            raise InvalidRequestError(
                f"--model {each!r}: write it as NAME=PROVIDER:MODEL or NAME=PROVIDER:MODEL@BASE_URL"
            )
        fields = {"provider": provider, "model": model, "base_url": base_url}
        found[name] = parse(ModelRef, fields) if base_url and colon else ModelRef.of(text)
    return found


def _made(
    runtime: AgentRuntime,
    ui_url: str | None,
    models: dict[str, ModelRef],
    *,
    writes: int | None,
    reads: int | None,
    max_file_bytes: int = MAX_FILE_BYTES,
) -> "Gateway":
    from sojourn.gateway import Gateway, GatewayOptions
    from sojourn.gateway.auth import KeyAuthenticator
    from sojourn.gateway.limit import RateLimiter, RateLimits
    from sojourn.gateway.verification import KeyCache

    keys = KeyCache(KeyStore(runtime.client, task_queue=runtime.task_queue))
    return Gateway(
        runtime,
        KeyAuthenticator(keys),
        GatewayOptions(ui_url=ui_url, models=models, max_file_bytes=max_file_bytes),
        limiter=RateLimiter(RateLimits(writes, reads)),
    )


@asynccontextmanager
async def _telemetry(metrics: str | None) -> "AsyncGenerator[Telemetry | None, None]":
    """Nothing unless it is asked for: it needs what only the worker's extra brings."""
    if metrics is None and not any(name.startswith("OTEL_") for name in os.environ):
        yield None
        return
    from sojourn.worker import open_telemetry

    async with open_telemetry(prometheus=metrics) as telemetry:
        yield telemetry
