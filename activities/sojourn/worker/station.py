"""What a worker with a sandbox has beside its sessions: a slot on its machine, workspaces, a janitor."""

import asyncio
import os
import shutil
import uuid
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from tempfile import gettempdir

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from sojourn.activities.checkpoint import Checkpoints
from sojourn.activities.egress import Egress, Variables, vault_variables
from sojourn.activities.janitor import Janitor
from sojourn.activities.output import Outputs
from sojourn.activities.resource import Mounting
from sojourn.activities.stock import PackageStock, path_in
from sojourn.activities.vault import VaultReader
from sojourn.activities.workspace import Equipment, Harvest, Preparation, Workspaces
from sojourn.sandbox.address import PrivateHosts
from sojourn.sandbox.choice import SandboxChoice, choose_sandbox
from sojourn.sandbox.egress import Authority
from sojourn.sandbox.guest_client import Guest
from sojourn.sandbox.packages import PackageStore
from sojourn.sandbox.protocol import Sandbox
from sojourn.sandbox.slot import Slot
from sojourn.types.error import SandboxError
from sojourn.types.payload import store_of
from sojourn.worker.option import WorkerOptions

_LONGEST_FOLDER = 85
"""Bytes; with the name of a socket in it, a path may have 107 (``sun_path`` of Linux)."""


@dataclass(frozen=True)
class Station:
    """A worker's own part of its machine."""

    queue: str
    """The worker's own task queue."""
    workspaces: Workspaces | None = None
    """``None`` without a sandbox."""
    checkpoints: Checkpoints | None = None
    """``None`` without a sandbox or an object store."""
    lacking: str = ""
    """Why there is no sandbox, where one was wanted."""


@asynccontextmanager
async def open_station(
    client: Client,
    options: WorkerOptions,
    *,
    vaults: VaultReader,
    preparations: Sequence[Preparation] = (),
    harvests: Sequence[Harvest] = (),
) -> AsyncGenerator[Station, None]:
    """The station while the block runs.

    Args:
        client: The worker's.
        options: Which sandbox, and where its workspaces are.
        vaults: Where the secrets of sessions are.
        preparations: What else is put into workspaces.
        harvests: What else is taken out of them.

    Raises:
        InvalidRequestError: `SOJOURN_PRIVATE_HOSTS` cannot be read.
        SandboxError: The sandbox does not work here, or there is no place for workspaces.
    """
    choice, slot = await _settled(client, options)
    if choice.sandbox is None or slot is None:
        yield Station(own_queue(options.task_queue, uuid.uuid4().hex), lacking=choice.reason or "")
        return
    queue, root = own_queue(options.task_queue, slot.id), slot.folder.parent
    with slot, _scratch(slot) as scratch:
        store, private = store_of(client), PrivateHosts.from_environment()
        variables = vault_variables(vaults)
        equipment = await _equipment(choice.sandbox, root, scratch, private, variables)
        mounting = Mounting(store, owner=choice.sandbox.owner, private=private, sealer=options.sealer)
        equipment = replace(
            equipment,
            preparations=(*equipment.preparations, mounting, *preparations),
            harvests=(Outputs(client), *harvests),
        )
        workspaces = Workspaces(slot.folder, queue, equipment)
        checkpoints = Checkpoints(store, slot.folder) if store is not None else None
        janitor = Janitor(client, workspaces, checkpoints, every=options.cleaning_interval)
        async with _at_work(janitor, workspaces):
            yield Station(queue, workspaces=workspaces, checkpoints=checkpoints)


@contextmanager
def _scratch(slot: Slot) -> Iterator[Path]:
    """A folder for the sockets and certificates of a slot. What a killed worker has left there is removed.

    Raises:
        SandboxError: Sockets cannot be made there.
    """
    # The id is nobody else's to guess: it stands in the slot's folder, which only its user can read.
    folder = Path(gettempdir()) / f"sojourn-{slot.id[:12]}"
    if len(os.fsencode(folder)) > _LONGEST_FOLDER:
        text = f"sockets cannot be made in {str(folder)!r}, whose path is too long; name a shorter folder in TMPDIR"
        raise SandboxError(text)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise SandboxError(f"sockets cannot be made in {str(folder)!r} ({error.strerror}); remove it") from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _equipment(
    sandbox: Sandbox, root: Path, scratch: Path, private: PrivateHosts, variables: Variables
) -> Equipment:
    """Network and packages of a worker's sandboxes."""
    authority = await asyncio.to_thread(Authority, scratch)
    packages = PackageStore(
        root.parent / "packages",
        sandbox,
        start=Guest.start,
        authority=authority,
        private=private,
        path=path_in(sandbox),
    )
    stock = PackageStock(packages, sandbox)
    network = Egress(
        scratch,
        authority=authority,
        private=private,
        registries=packages.registries,
        variables=variables,
        isolates=sandbox.isolates,
    )
    return Equipment(sandbox, network=network, stock=stock, preparations=(stock,))


@asynccontextmanager
async def _at_work(janitor: Janitor, workspaces: Workspaces) -> AsyncGenerator[None, None]:
    cleaning = asyncio.create_task(janitor.run())
    workspaces.begin()
    try:
        yield
    finally:
        cleaning.cancel()
        await asyncio.wait({cleaning})
        await workspaces.close()


async def _settled(client: Client, options: WorkerOptions) -> tuple[SandboxChoice, Slot | None]:
    """The worker's sandbox, and its place. Who leaves the choice to us gets a worker in any case."""
    wanted = options.sandbox
    if wanted is None or wanted == "none":
        return SandboxChoice(None), None
    choice = await choose_sandbox() if wanted == "auto" else None
    if choice is not None and choice.sandbox is None:
        return choice, None
    try:
        slot = await asyncio.to_thread(Slot.claim, await _root(client, options))
    except SandboxError as error:
        if choice is None:
            raise
        return SandboxChoice(None, str(error)), None
    try:
        if isinstance(wanted, str):
            choice = choice or await choose_sandbox(wanted, worker=slot.id)
        else:
            await wanted.check()
            choice = SandboxChoice(wanted)
    except BaseException:
        slot.release()
        raise
    return choice, slot


def own_queue(task_queue: str, id: str) -> str:
    """The task queue of one worker among those that share a task queue."""
    return f"sojourn-{task_queue}-{id}"


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
