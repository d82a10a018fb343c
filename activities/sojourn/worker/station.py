"""What a worker with a sandbox has beside its sessions: a slot on its machine, workspaces, a janitor."""

import asyncio
import logging
import os
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from sojourn.activities.checkpoint import Checkpoints
from sojourn.activities.egress import Egress
from sojourn.activities.janitor import Janitor
from sojourn.activities.workspace import Equipment, Workspaces
from sojourn.sandbox.address import PrivateHosts
from sojourn.sandbox.bubblewrap import BubblewrapSandbox
from sojourn.sandbox.local import LocalSandbox
from sojourn.sandbox.protocol import Sandbox
from sojourn.sandbox.slot import Slot
from sojourn.types.payload import store_of
from sojourn.worker.option import WorkerOptions

logger = logging.getLogger("sojourn.worker")


@dataclass(frozen=True)
class Station:
    """A worker's own part of its machine."""

    queue: str
    """The worker's own task queue."""
    workspaces: Workspaces | None = None
    """``None`` without a sandbox."""
    checkpoints: Checkpoints | None = None
    """``None`` without a sandbox or an object store."""


@asynccontextmanager
async def open_station(client: Client, options: WorkerOptions) -> AsyncGenerator[Station, None]:
    """The station while the block runs.

    Raises:
        SandboxError: The sandbox does not work here, or there is no place for workspaces.
    """
    sandbox = await chosen(options.sandbox)
    if sandbox is None:
        yield Station(own_queue(options.task_queue, uuid.uuid4().hex))
        return
    if not sandbox.isolates:
        logger.warning("sandbox %r keeps agents from nothing: their commands run as this worker's user", sandbox.name)
    root = await _root(client, options)
    with (
        await asyncio.to_thread(Slot.claim, root) as slot,
        TemporaryDirectory(prefix="sojourn-", ignore_cleanup_errors=True) as sockets,
    ):
        network = Egress(Path(sockets), private=PrivateHosts.from_environment(), inside=sandbox.name != "local")
        store, queue = store_of(client), own_queue(options.task_queue, slot.id)
        workspaces = Workspaces(slot.folder, queue, Equipment(sandbox=sandbox, network=network))
        checkpoints = Checkpoints(store, slot.folder) if store is not None else None
        janitor = Janitor(client, workspaces, checkpoints, every=options.cleaning_interval)
        cleaning = asyncio.create_task(janitor.run())
        workspaces.begin()
        try:
            yield Station(queue, workspaces, checkpoints)
        finally:
            cleaning.cancel()
            await asyncio.wait({cleaning})
            await workspaces.close()


def own_queue(task_queue: str, id: str) -> str:
    """The task queue of one worker among those that share a task queue."""
    return f"sojourn-{task_queue}-{id}"


async def chosen(wanted: str | Sandbox | None) -> Sandbox | None:
    """The sandbox of that name, or the one given, which has been found to work.

    Raises:
        InvalidRequestError: There is no sandbox of that name.
        SandboxError: It does not work here.
    """
    if wanted is None or wanted == "none":
        return None
    sandbox = _SANDBOXES[wanted]() if isinstance(wanted, str) else wanted
    await sandbox.check()
    return sandbox


_SANDBOXES: dict[str, Callable[[], Sandbox]] = {"bubblewrap": BubblewrapSandbox, "local": LocalSandbox}


async def _root(client: Client, options: WorkerOptions) -> Path:
    """Where slots are: apart for each task queue of each namespace, whose workers must not take each other's."""
    named = options.workspaces or default_workspaces()
    try:
        request = DescribeNamespaceRequest(namespace=client.namespace)
        described = await client.workflow_service.describe_namespace(request, retry=True)
        namespace = described.namespace_info.id
    except RPCError:
        # Not told to everybody; the address is as good, as long as it stays.
        namespace = f"{client.service_client.config.target_host}/{client.namespace}"
    digest = sha256(f"{namespace}/{options.task_queue}".encode()).hexdigest()[:12]
    plain = "".join(each if each.isalnum() or each in "._-" else "-" for each in options.task_queue)
    return named.expanduser().absolute() / f"{plain[:60]}-{digest}"


def default_workspaces() -> Path:
    """Where workspaces are kept if nobody names a folder."""
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "sojourn" / "workspaces"
