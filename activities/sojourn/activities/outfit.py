"""What the sandbox of a session is like."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from sojourn.activities.workspace_folder import WorkspaceFolder
from sojourn.sandbox import tree
from sojourn.sandbox.protocol import HOME, OUTPUTS, UPLOADS, WORKSPACE, Mount, SandboxLimits, SandboxSpec
from sojourn.types.error import SandboxError
from sojourn.types.session import SessionInput


class WayOut(Protocol):
    """The way out of one sandbox."""

    @property
    def socket(self) -> Path:
        """Unix socket of the proxy."""
        ...

    @property
    def env(self) -> Mapping[str, str]:
        """Variables that tell programs of it."""
        ...

    @property
    def mounts(self) -> Sequence[Mount]:
        """What programs need to see for it."""
        ...

    async def close(self) -> None:
        """Shut it. Safe to repeat."""
        ...


class Network(Protocol):
    """Makes the ways out of sandboxes."""

    async def open(self, start: SessionInput, *, owner: tuple[int, int] | None) -> WayOut | None:
        """The way out that a session's environment allows; ``None`` is no network.

        Args:
            start: What the session's run started from.
            owner: Who must be able to connect; ``None`` where that is the worker itself.
        """
        ...


class Stock(Protocol):
    """Brings what an environment has installed."""

    async def mounts(self, start: SessionInput) -> tuple[tuple[Mount, ...], Mapping[str, str]]:
        """What is to be mounted, and variables that make programs find it.

        Raises:
            SandboxError: It could not be installed.
        """
        ...


def spec_of(
    start: SessionInput,
    folder: WorkspaceFolder,
    *,
    owner: tuple[int, int] | None,
    way_out: WayOut | None,
    mounts: tuple[Mount, ...] = (),
    env: Mapping[str, str] | None = None,
    limits: SandboxLimits,
) -> SandboxSpec:
    """The sandbox of a session. Its working directory is made if it is not there. Blocks.

    Raises:
        SandboxError: The working directory cannot be made.
    """
    own = {
        WORKSPACE: Mount(folder.workspace, WORKSPACE, writable=True),
        UPLOADS: Mount(folder.uploads, UPLOADS),
        OUTPUTS: Mount(folder.outputs, OUTPUTS, writable=True),
        HOME: Mount(folder.home, HOME, writable=True),
    }
    working_dir = working_dir_of(start.environment.working_dir)
    for target, mount in own.items():
        if mount.writable and working_dir.is_relative_to(target) and working_dir != target:
            _make(mount.source, working_dir.relative_to(target), owner)
    return SandboxSpec(
        key=folder.path.name,
        mounts=(*own.values(), *mounts, *(way_out.mounts if way_out else ())),
        # The session's own variables go over those of packages, and the way out over all.
        env={**(env or {}), **start.environment.env_vars, **(way_out.env if way_out else {})},
        working_dir=working_dir,
        proxy=way_out.socket if way_out else None,
        limits=limits,
    )


def working_dir_of(given: str | None) -> PurePosixPath:
    """Where the agent begins: as the client gave it, below the workspace if it is relative."""
    return WORKSPACE / given if given else WORKSPACE


def _make(root: Path, below: PurePosixPath, owner: tuple[int, int] | None) -> None:
    try:
        tree.make_folders(root, str(below), owner=owner)
    except OSError as error:
        raise SandboxError(f"environment.working_dir {str(below)!r} cannot be made: {error.strerror}") from None
