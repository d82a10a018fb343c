"""The files of workspaces in the object store."""

import asyncio
import os
import tempfile
import uuid
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from threading import Event
from typing import BinaryIO, TypeVar, cast

from sojourn.activities.workspace_folder import WorkspaceFolder
from sojourn.sandbox.bundle import BundleError, pack, unpack
from sojourn.types.error import CheckpointError
from sojourn.types.payload import checkpoint_folder
from sojourn.types.store import Store
from sojourn.types.workspace import Checkpoint

T = TypeVar("T")

LIMIT_BYTES = 8 * 1024**3
"""Of the files of one workspace together, before they are compressed."""

_CHUNK = 1024 * 1024


class Checkpoints:
    """Stores and restores workspaces, one object each time. Only a part of it is ever in memory.

    Args:
        store: Where to.
        scratch: Folder on the worker's disk for what is on its way.
        limit_bytes: Of the files of one workspace together.
    """

    def __init__(self, store: Store, scratch: Path, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._store = store
        self._scratch = scratch
        self._limit_bytes = limit_bytes

    async def write(
        self, folder: WorkspaceFolder, workflow_id: str, first_run_id: str, generation: int
    ) -> tuple[Checkpoint, list[str]]:
        """Store a workspace.

        Returns:
            What was stored, and what could not be read.

        Raises:
            BundleTooLargeError: There is more than the limit.
            StoreUnavailableError: The store cannot be reached or refuses.
        """
        now = datetime.now(UTC)
        # In the order of time within the order of generations: what comes before the last known one is not wanted.
        name = f"{generation:08d}-{int(now.timestamp() * 1000):013d}-{uuid.uuid4().hex[:8]}.tar.gz"
        key = f"{checkpoint_folder(workflow_id, first_run_id)}/{name}"
        with self._file() as file:
            digest, skipped = await in_thread(
                lambda stop: pack(folder.stored, file, limit_bytes=self._limit_bytes, stop=stop)
            )
            await asyncio.to_thread(file.flush)
            size = os.fstat(file.fileno()).st_size
            await self._store.put_stream(key, _chunks(file))
        return Checkpoint(key=key, size_bytes=size, digest=digest, at=now), skipped

    async def restore(self, checkpoint: Checkpoint, folder: WorkspaceFolder, *, owner: tuple[int, int] | None) -> None:
        """Fill an empty workspace.

        Raises:
            CheckpointError: It is gone or damaged.
            StoreUnavailableError: The store cannot be reached or refuses.
        """
        seen = sha256()
        with self._file() as file:
            async for chunk in self._store.get_stream(checkpoint.key):
                seen.update(chunk)
                await asyncio.to_thread(file.write, chunk)
            if file.tell() == 0:
                raise CheckpointError(f"{checkpoint.key!r} is not in the store {self._store.url!r} any more")
            if seen.hexdigest() != checkpoint.digest:
                raise CheckpointError(f"{checkpoint.key!r} in the store {self._store.url!r} is damaged")
            file.seek(0)
            try:
                await in_thread(lambda stop: unpack(file, folder.stored, owner=owner, stop=stop))
            except BundleError as error:
                raise CheckpointError(f"{checkpoint.key!r} is no workspace: {error}") from None

    async def forget_before(self, known: Checkpoint) -> None:
        """Remove what was stored before a checkpoint that the workflow knows.

        Raises:
            StoreUnavailableError: The store cannot be reached or refuses.
        """
        folder = known.key.rpartition("/")[0]
        await self._store.delete(*[path async for path in self._store.paths(folder) if path < known.key])

    async def forget(self, workflow_id: str, first_run_id: str) -> None:
        """Remove all checkpoints of a session.

        Raises:
            StoreUnavailableError: The store cannot be reached or refuses.
        """
        await self._store.delete_folder(checkpoint_folder(workflow_id, first_run_id))

    def _file(self) -> BinaryIO:
        return cast("BinaryIO", tempfile.TemporaryFile(dir=self._scratch))


async def _chunks(file: BinaryIO) -> AsyncGenerator[bytes, None]:
    file.seek(0)
    while chunk := await asyncio.to_thread(file.read, _CHUNK):
        yield chunk


async def in_thread(work: Callable[[Event], T]) -> T:
    """Run something that blocks. When this is cancelled it is told to stop, and waited for."""
    stop = Event()
    running = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait({running})
        if not running.cancelled():
            running.exception()
        raise
