"""Removes workspaces of sessions that are over, from this worker and from those of the machine that are gone."""

import asyncio
import logging
import os
import uuid
from datetime import timedelta
from pathlib import Path

from temporalio.client import Client
from temporalio.service import RPCError

from sojourn.activities.checkpoint import Checkpoints
from sojourn.activities.workspace import Workspaces
from sojourn.activities.workspace_folder import FolderRecord, WorkspaceFolder
from sojourn.sandbox import tree
from sojourn.sandbox.slot import try_lock
from sojourn.types.chain import described_run
from sojourn.types.described import is_open
from sojourn.types.error import StoreUnavailableError

logger = logging.getLogger("sojourn.worker")

EVERY = timedelta(minutes=1)


class Janitor:
    """Looks through the workspaces of a machine, at the worker's start and again and again.

    Args:
        client: The worker's.
        workspaces: Those that it holds.
        checkpoints: Where they are stored; ``None`` without an object store.
        every: How often.
    """

    def __init__(
        self, client: Client, workspaces: Workspaces, checkpoints: Checkpoints | None, *, every: timedelta = EVERY
    ) -> None:
        self._client = client
        self._workspaces = workspaces
        self._checkpoints = checkpoints
        self._every = every

    async def run(self) -> None:
        """Go on until cancelled. A server or store that is away is tried again at the next round."""
        while True:
            try:
                await self.clean()
            except (RPCError, StoreUnavailableError, OSError) as error:
                logger.warning("workspaces of sessions that are over could not be removed yet: %s", error)
            await asyncio.sleep(self._every.total_seconds())

    async def clean(self) -> None:
        """One round.

        Raises:
            RPCError: The server cannot be reached or refuses.
            StoreUnavailableError: The store cannot be reached or refuses.
            OSError: Something cannot be removed.
        """
        own = self._workspaces.root
        for slot in await asyncio.to_thread(lambda: sorted(own.parent.iterdir())):
            for folder, record in await asyncio.to_thread(_records, slot):
                if await self._is_wanted(record):
                    continue
                if slot == own:
                    await self._remove_own(record)
                else:
                    await asyncio.to_thread(_remove_foreign, slot, folder, record)

    async def _is_wanted(self, record: FolderRecord) -> bool:
        """Whether the session goes on. What was stored of one that was deleted is removed, should that be left."""
        info = await described_run(self._client, record.workflow_id)
        if info is not None and info.first_run_id == record.first_run_id:
            return is_open(info)
        if self._checkpoints is not None:
            await self._checkpoints.forget(record.workflow_id, record.first_run_id)
        return False

    async def _remove_own(self, record: FolderRecord) -> None:
        workspace = self._workspaces.at(record.workflow_id)
        async with workspace.lock:
            # Another session of the same id may have come meanwhile.
            found = await asyncio.to_thread(workspace.folder.record)
            if found is not None and found.first_run_id == record.first_run_id:
                await self._workspaces.remove(workspace)


def _records(slot: Path) -> list[tuple[WorkspaceFolder, FolderRecord]]:
    found = []
    try:
        names = sorted(os.listdir(slot))
    except (NotADirectoryError, FileNotFoundError):
        return []
    for name in names:
        folder = WorkspaceFolder(slot / name)
        if folder.path.is_dir() and (record := folder.record()) is not None:
            found.append((folder, record))
    return found


def _remove_foreign(slot: Path, folder: WorkspaceFolder, record: FolderRecord) -> None:
    """Remove a folder of a worker that does not live. The slot is held for a moment only: its worker may come back."""
    if (lock := try_lock(slot)) is None:
        return
    gone = slot / f"gone-{uuid.uuid4().hex}"
    try:
        if folder.record() == record:
            folder.path.rename(gone)
    finally:
        os.close(lock)
    tree.remove(gone)
