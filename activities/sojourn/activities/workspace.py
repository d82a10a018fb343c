"""Workspaces on a worker: where they lie, and the sandboxes that run in them."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from sojourn.activities.outfit import Network, Stock, WayOut, spec_of
from sojourn.activities.workspace_folder import FolderRecord, WorkspaceFolder, folder_name
from sojourn.sandbox import tree
from sojourn.sandbox.guest_client import Guest
from sojourn.sandbox.protocol import Sandbox, SandboxLimits
from sojourn.types.error import SandboxError
from sojourn.types.session import SessionInput
from sojourn.types.session_error import ErrorDetail

logger = logging.getLogger("sojourn.worker")


class WorkspaceLostError(Exception):
    """The workspace is not, or no longer, on this worker. Nothing has run."""


class WorkspaceHandle(Protocol):
    """A session's workspace, for the tools that run in it."""

    @property
    def folder(self) -> WorkspaceFolder:
        """Its files on the worker. The agent may have put links anywhere; see `sojourn.sandbox.tree`."""
        ...

    async def guest(self) -> Guest:
        """The running sandbox; started if need be.

        Raises:
            SandboxError: It could not be started.
        """
        ...


Report = Callable[[str], None]
"""Tells people how far something is."""


class Preparation(Protocol):
    """Puts something into workspaces, such as the session's files."""

    async def prepare(
        self, start: SessionInput, folder: WorkspaceFolder, generation: int, report: Report
    ) -> tuple[ErrorDetail, ...]:
        """Bring a workspace up to date; also one that was prepared before.

        Nothing runs in the workspace meanwhile that the worker knows of; programs that the agent left running may.

        Returns:
            What is missing.
        """
        ...


class Harvest(Protocol):
    """Takes something out of workspaces, such as the outputs."""

    async def harvest(self, start: SessionInput, folder: WorkspaceFolder) -> tuple[ErrorDetail, ...]:
        """Look through a workspace after a turn; what could not be taken."""
        ...


@dataclass(frozen=True)
class Equipment:
    """What the workspaces of a worker are made with."""

    sandbox: Sandbox
    network: Network | None = None
    """``None`` is no network for anybody."""
    stock: Stock | None = None
    preparations: Sequence[Preparation] = ()
    harvests: Sequence[Harvest] = ()
    limits: SandboxLimits = field(default_factory=SandboxLimits)
    max_sandboxes: int = 64
    """Running at the same time; past it the one that was idle longest ends, and else the next one waits."""
    idle: timedelta = timedelta(minutes=15)
    """After so long without a call a sandbox ends, and with it what the agent left running."""


class Workspace:
    """One workspace on this worker."""

    def __init__(self, workflow_id: str, folder: WorkspaceFolder) -> None:
        self.workflow_id = workflow_id
        self.folder = folder
        self.lock = asyncio.Lock()
        """Held while it is opened, stored or removed, and while a call begins."""
        self.record: FolderRecord | None = None
        self.calls = 0
        self.used_at = 0.0
        self.guest: Guest | None = None
        self.way_out: WayOut | None = None
        self.starting = asyncio.Lock()
        self.closed_because = ""

    @property
    def lives(self) -> bool:
        """Whether its sandbox runs."""
        return self.guest is not None and self.guest.ended is None

    async def write(self, record: FolderRecord) -> None:
        """Note what the folder is."""
        await asyncio.to_thread(self.folder.write, record)
        self.record = record

    async def end(self, because: str) -> None:
        """End its sandbox."""
        guest, self.guest = self.guest, None
        way_out, self.way_out = self.way_out, None
        if guest is not None:
            self.closed_because = because
            with suppress(SandboxError):
                await guest.close()
        if way_out is not None:
            await way_out.close()


class Workspaces:
    """The workspaces that this worker holds.

    Args:
        root: Folder of the worker's slot.
        queue: The worker's own task queue.
        equipment: What they are made with.
    """

    def __init__(self, root: Path, queue: str, equipment: Equipment) -> None:
        self.root = root
        self.queue = queue
        self.equipment = equipment
        self._known: dict[str, Workspace] = {}
        self._room = asyncio.Condition()
        self._launching: set[Workspace] = set()
        self._sweeper: asyncio.Task[None] | None = None

    def at(self, workflow_id: str) -> Workspace:
        """The workspace of a session, whether it is there or not."""
        if (found := self._known.get(workflow_id)) is None:
            folder = WorkspaceFolder(self.root / folder_name(workflow_id))
            found = self._known[workflow_id] = Workspace(workflow_id, folder)
        return found

    @asynccontextmanager
    async def using(
        self, workflow_id: str, generation: int, start: SessionInput
    ) -> AsyncGenerator["WorkspaceInUse", None]:
        """An open workspace while the block runs.

        Raises:
            WorkspaceLostError: It is not on this worker, or of another generation.
        """
        workspace = self.at(workflow_id)
        async with workspace.lock:
            if workspace.record is None or not workspace.folder.path.exists():
                workspace.record = await asyncio.to_thread(workspace.folder.record)
            record = workspace.record
            if record is None or record.generation != generation:
                here = f"generation {record.generation}" if record else "nothing"
                raise WorkspaceLostError(f"generation {generation} of the workspace is not here; {here} is")
            workspace.record = record
            if not record.used:
                await workspace.write(record.model_copy(update={"used": True}))
            workspace.calls += 1
        try:
            yield WorkspaceInUse(self, workspace, start)
        finally:
            workspace.calls -= 1
            workspace.used_at = _now()
            async with self._room:
                self._room.notify_all()

    async def start(self, workspace: Workspace, start: SessionInput) -> Guest:
        """The workspace's sandbox, started if it does not run. The caller is one of its calls.

        Raises:
            SandboxError: It could not be started.
        """
        async with workspace.starting:
            if workspace.guest is not None and workspace.guest.ended is None:
                return workspace.guest
            if workspace.guest is not None:
                await workspace.end(workspace.guest.ended or "")
            await self._make_room(workspace)
            try:
                guest = workspace.guest = await self._launch(workspace, start)
            finally:
                self._launching.discard(workspace)
            record = workspace.record
            if record is not None and not record.started:
                await workspace.write(record.model_copy(update={"started": True}))
            return guest

    async def _launch(self, workspace: Workspace, start: SessionInput) -> Guest:
        equipment, owner = self.equipment, self.equipment.sandbox.owner
        mounts, env = await equipment.stock.mounts(start) if equipment.stock else ((), {})
        way_out = await equipment.network.open(start, owner=owner) if equipment.network else None
        try:
            spec = await asyncio.to_thread(
                lambda: spec_of(
                    start,
                    workspace.folder,
                    owner=owner,
                    way_out=way_out,
                    mounts=mounts,
                    env=env,
                    limits=equipment.limits,
                )
            )
            guest = await Guest.start(equipment.sandbox, spec)
        except BaseException:
            if way_out is not None:
                await way_out.close()
            raise
        workspace.way_out = way_out
        return guest

    async def _make_room(self, wanted: Workspace) -> None:
        """Wait until one more sandbox may run, and take its place."""
        async with self._room:
            while True:
                living = [each for each in self._known.values() if each.lives]
                if len(living) + len(self._launching) < self.equipment.max_sandboxes:
                    self._launching.add(wanted)
                    return
                idle = [each for each in living if not each.calls and not each.lock.locked()]
                if idle:
                    oldest = min(idle, key=lambda each: each.used_at)
                    await oldest.end("another session needed its place on the worker")
                else:
                    await self._room.wait()

    async def remove(self, workspace: Workspace) -> None:
        """Remove everything about a workspace that is not wanted any more. The caller holds its lock."""
        workspace.record = None
        await workspace.end("the session is over")
        await asyncio.to_thread(tree.remove, workspace.folder.path)

    # --- the worker's life -----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin to end sandboxes that nobody uses."""
        self._sweeper = asyncio.create_task(self._sweep())

    async def close(self) -> None:
        """End all sandboxes; the files stay."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.wait({self._sweeper})
        await asyncio.gather(*(each.end("the worker was stopped") for each in self._known.values()))

    async def _sweep(self) -> None:
        limit = self.equipment.idle.total_seconds()
        while True:
            await asyncio.sleep(min(30.0, limit))
            for each in list(self._known.values()):
                if each.calls or each.lock.locked() or each.starting.locked():
                    continue
                if each.lives and _now() - each.used_at > limit:
                    await each.end(f"no tool was called for {limit / 60:g} minutes")
                elif each.guest is None and _now() - each.used_at > limit:
                    self._known.pop(each.workflow_id, None)


class WorkspaceInUse:
    """A workspace while a call runs in it."""

    def __init__(self, workspaces: Workspaces, workspace: Workspace, start: SessionInput) -> None:
        self._workspaces = workspaces
        self._workspace = workspace
        self._start = start
        self._notice = ""

    @property
    def folder(self) -> WorkspaceFolder:
        """See `WorkspaceHandle`."""
        return self._workspace.folder

    async def guest(self) -> Guest:
        """See `WorkspaceHandle`."""
        workspace = self._workspace
        if workspace.lives and workspace.guest is not None:
            return workspace.guest
        before = workspace.record is not None and workspace.record.started
        if workspace.guest is not None:
            workspace.closed_because = workspace.guest.ended or ""
        guest = await self._workspaces.start(workspace, self._start)
        if before:
            why = workspace.closed_because or "the worker was restarted"
            self._notice = (
                f"[Note: the sandbox was started anew ({why}). Files are as they were; processes that ran in it, and "
                "the shell's variables and directory, are gone.]"
            )
            workspace.closed_because = ""
        return guest

    def notice(self) -> str:
        """What the model is to know before the result; empty as a rule."""
        notice, self._notice = self._notice, ""
        return notice


def _now() -> float:
    return asyncio.get_running_loop().time()
