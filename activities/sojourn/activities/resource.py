"""Mounting a session's resources into its workspace: files from the store, repositories by git."""

import asyncio
import os
import shutil
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from pydantic import ValidationError

from sojourn.activities.workspace import Report
from sojourn.activities.workspace_folder import WorkspaceFolder
from sojourn.sandbox.address import NONE, PrivateHosts
from sojourn.sandbox.repository import DEFAULT_LIMITS, CloneError, CloneLimits, Source, clone
from sojourn.sandbox.slot import write_whole
from sojourn.sandbox.spot import Spot, TakenError, give_all, spot
from sojourn.types.file_error import FileExpiredError, FileMissingError
from sojourn.types.file_store import FileStore
from sojourn.types.id import ResourceId, workflow_id
from sojourn.types.resource import (
    UPLOADS,
    WORKSPACE,
    FileResource,
    RepositoryResource,
    Resource,
    token_context,
    token_path,
)
from sojourn.types.seal import Sealer
from sojourn.types.session import Owner, SessionInput
from sojourn.types.session_error import ErrorDetail, RetryStatus
from sojourn.types.store import Store
from sojourn.types.vault_error import SecretError
from sojourn.types.wire import Wire

_RECORD = "mounts.json"
_STAGING = "staging"


class Mounted(Wire):
    """What was mounted, and where."""

    mount_path: str
    digest: str = ""
    """Of what was mounted; empty where that is not known any more."""


class MountRecord(Wire):
    """What is mounted in a workspace, by the ids of the resources. The agent cannot reach it."""

    mounted: dict[ResourceId, Mounted] = {}


class MountError(Exception):
    """Something could not be mounted; the text is for everybody."""


class Mounting:
    """Brings workspaces up to date with the resources of their sessions; see `Preparation`.

    What was mounted once is left to the agent. What is mounted no more is removed, unless it has been changed.

    Args:
        store: Where files and sealed tokens are; ``None`` without an object store.
        owner: To whom files of the sandbox must belong; ``None`` where the worker's own will do.
        private: Hosts that may have private addresses.
        sealer: Opens tokens; by default with the keys of ``SOJOURN_VAULT_KEYS``.
        limits: Bounds of one clone.
    """

    def __init__(
        self,
        store: Store | None,
        *,
        owner: tuple[int, int] | None = None,
        private: PrivateHosts = NONE,
        sealer: Sealer | None = None,
        limits: CloneLimits = DEFAULT_LIMITS,
    ) -> None:
        self._store = store
        self._files = FileStore(store, clock=lambda: datetime.now(UTC)) if store is not None else None
        self._owner = owner
        self._private = private
        self._sealer = sealer
        self._limits = limits

    async def prepare(
        self, start: SessionInput, folder: WorkspaceFolder, generation: int, report: Report
    ) -> tuple[ErrorDetail, ...]:
        """See `Preparation`. What fails is tried again the next time.

        Raises:
            StoreUnavailableError: The store cannot be reached or refuses.
        """
        found = await asyncio.to_thread(_read, folder)
        if found is None and not start.resources:
            return ()
        record = found or MountRecord()
        record = await self._unmount(start, folder, record)
        errors: list[ErrorDetail] = []
        for each in start.resources:
            if each.id in record.mounted:
                continue
            try:
                mounted = await self._mounted(each, start, folder, report, fresh=found is None)
            except (MountError, CloneError, OSError) as error:
                errors.append(_detail(each, error))
                continue
            record = MountRecord(mounted={**record.mounted, each.id: mounted})
            await asyncio.to_thread(_write, folder, record)
        await asyncio.to_thread(_write, folder, record)
        return tuple(errors)

    async def _unmount(self, start: SessionInput, folder: WorkspaceFolder, record: MountRecord) -> MountRecord:
        wanted = {each.id for each in start.resources}
        gone = {id: each for id, each in record.mounted.items() if id not in wanted}
        if not gone:
            return record
        for each in gone.values():
            await asyncio.to_thread(_remove_unchanged, folder, each)
        record = MountRecord(mounted={id: each for id, each in record.mounted.items() if id in wanted})
        await asyncio.to_thread(_write, folder, record)
        return record

    async def _mounted(
        self, resource: Resource, start: SessionInput, folder: WorkspaceFolder, report: Report, *, fresh: bool
    ) -> Mounted:
        root, path = _place(folder, resource.mount_path)
        if fresh and await asyncio.to_thread(_is_taken, root, path):
            # It came with the checkpoint.
            return Mounted(mount_path=resource.mount_path)
        async with _staging(folder) as staging:
            if isinstance(resource, FileResource):
                source = await self._downloaded(resource, start.owner, staging, writable=root == folder.workspace)
            else:
                source = await self._cloned(resource, start, staging, report)
            if self._owner is not None:
                await asyncio.to_thread(give_all, source, self._owner)
            owner = self._owner if root == folder.workspace else None
            try:
                digest = await asyncio.to_thread(_put, root, path, source, owner)
            except TakenError:
                raise MountError("something else is there already; remove it or choose another path") from None
        return Mounted(mount_path=resource.mount_path, digest=digest)

    async def _downloaded(self, resource: FileResource, owner: Owner, staging: Path, *, writable: bool) -> Path:
        if self._files is None:
            raise MountError("the worker has no object store; set SOJOURN_STORE_URL for it")
        target, seen = staging / "file", sha256()
        try:
            meta = await self._files.find(resource.file_id, owner=owner)
            with await asyncio.to_thread(target.open, "wb") as file:
                async for chunk in self._files.read(meta, owner=owner):
                    seen.update(chunk)
                    await asyncio.to_thread(file.write, chunk)
        except (FileMissingError, FileExpiredError) as error:
            raise MountError(str(error)) from None
        if seen.hexdigest() != meta.sha256:
            raise MountError(f"file {meta.id!r} is damaged in the store; upload it again")
        target.chmod(0o644 if writable else 0o444)
        return target

    async def _cloned(self, resource: RepositoryResource, start: SessionInput, staging: Path, report: Report) -> Path:
        token = await self._token(resource, workflow_id(start.owner.workspace, start.session_id))
        source = Source(resource.url, resource.checkout, token)
        return await clone(source, staging, private=self._private, limits=self._limits, report=report)

    async def _token(self, resource: RepositoryResource, owned_by: str) -> str | None:
        if not resource.has_token:
            return None
        sealed = await self._store.get(token_path(owned_by, resource.id)) if self._store is not None else None
        try:
            sealer = self._sealer or Sealer.from_environment()
            if sealed is None or sealer is None:
                what = "its token is not in the store" if sealer else "the worker has no vault key (SOJOURN_VAULT_KEYS)"
                raise CloneError("authentication", what)
            return sealer.open(sealed.decode(), context=token_context(owned_by, resource.id))
        except SecretError as error:
            raise CloneError("authentication", str(error)) from None


def _place(folder: WorkspaceFolder, mount_path: str) -> tuple[Path, str]:
    """The folder on the worker, and the path in it."""
    for target, root in ((UPLOADS, folder.uploads), (WORKSPACE, folder.workspace)):
        if mount_path.startswith(f"{target}/"):
            return root, mount_path.removeprefix(f"{target}/")
    raise MountError(f"nothing is mounted at {mount_path!r}")


@asynccontextmanager
async def _staging(folder: WorkspaceFolder) -> AsyncGenerator[Path, None]:
    """An empty folder beside those that the agent sees, on the same disk, while the block runs."""
    staging = folder.path / f"{_STAGING}-{uuid.uuid4().hex}"
    await asyncio.to_thread(staging.mkdir, 0o700)
    try:
        yield staging
    finally:
        await asyncio.to_thread(shutil.rmtree, staging, ignore_errors=True)


def _put(root: Path, path: str, source: Path, owner: tuple[int, int] | None) -> str:
    with spot(root, path, owner=owner) as here:
        here.put(source)
        return here.digest()


def _at(root: Path, path: str, look: Callable[[Spot], bool]) -> bool:
    try:
        with spot(root, path, make=False) as here:
            return look(here)
    except OSError:
        return False


def _is_taken(root: Path, path: str) -> bool:
    return _at(root, path, lambda here: here.is_taken)


def _remove_unchanged(folder: WorkspaceFolder, mounted: Mounted) -> None:
    def remove(here: Spot) -> bool:
        if unchanged := bool(mounted.digest) and here.digest() == mounted.digest:
            here.remove()
        return unchanged

    try:
        root, path = _place(folder, mounted.mount_path)
    except MountError:
        return
    _at(root, path, remove)


def _read(folder: WorkspaceFolder) -> MountRecord | None:
    # What an attempt has left that was cut off.
    for left in folder.path.glob(f"{_STAGING}-*"):
        shutil.rmtree(left, ignore_errors=True)
    try:
        return MountRecord.model_validate_json((folder.path / _RECORD).read_bytes(), extra="ignore")
    except (FileNotFoundError, ValidationError):
        return None


def _write(folder: WorkspaceFolder, record: MountRecord) -> None:
    write_whole(folder.path / _RECORD, record.model_dump_json().encode())


def _detail(resource: Resource, error: Exception) -> ErrorDetail:
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    if isinstance(resource, FileResource):
        text = f"file {resource.file_id!r} could not be mounted at {resource.mount_path!r}: {reason}"
        return ErrorDetail(type="file_mount_error", message=text, retry_status=RetryStatus(type="retrying"))
    fault = error.fault if isinstance(error, CloneError) else "clone"
    return ErrorDetail(
        type=f"repository_{fault}_error",
        message=f"repository {resource.url!r} could not be cloned to {resource.mount_path!r}: {reason}",
        retry_status=RetryStatus(type="retrying"),
        repository_url=resource.url,
    )
