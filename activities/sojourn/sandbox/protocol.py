"""What a sandbox is: the place where an agent's commands run, and all that a worker needs to know of it.

A sandbox starts one program, the guest (`sojourn.sandbox.guest`), which then runs commands and touches files for the
worker. So the tools behave the same in every kind of sandbox, and a call costs no start. What the guest says is not to
be trusted: the agent's own programs run beside it and may take its place.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

WORKSPACE = PurePosixPath("/workspace")
"""The agent's working directory, where repositories are cloned to."""
UPLOADS = PurePosixPath("/mnt/session/uploads")
"""Mounted files; read-only."""
OUTPUTS = PurePosixPath("/mnt/session/outputs")
"""What the agent puts here becomes a file of the session."""
HOME = PurePosixPath("/home/agent")
PACKAGES = PurePosixPath("/opt/packages")
"""What the environment has installed; read-only."""
PROXY_PORT = 3128
"""Where, on the sandbox's own loopback, the guest offers the way out that `SandboxSpec.proxy` is."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of the worker's machine as the sandbox sees it."""

    source: Path
    target: PurePosixPath
    writable: bool = False


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """Bounds of everything that runs in one sandbox together."""

    memory_bytes: int = 2 * 1024**3
    processes: int = 256
    """Processes and threads."""
    open_files: int = 1024
    """Of each process."""
    file_bytes: int = 2 * 1024**3
    """Size of one file."""


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """What one sandbox is to be like."""

    key: str
    """Unique among the sandboxes of the machine, and fit for a file's name."""
    mounts: tuple[Mount, ...]
    """In order; a later one may lie inside an earlier one."""
    env: Mapping[str, str] = field(default_factory=dict)
    """All variables the agent's programs get. Nothing of the worker's own environment goes along."""
    working_dir: PurePosixPath = WORKSPACE
    proxy: Path | None = None
    """Unix socket of the egress proxy, the only way out; ``None`` is no network."""
    limits: SandboxLimits = SandboxLimits()


class SandboxProcess(Protocol):
    """A running sandbox: its guest, and all that the guest has started."""

    stdin: asyncio.StreamWriter
    """To the guest."""
    stdout: asyncio.StreamReader
    """From the guest. Its messages are lines of JSON (`sojourn.sandbox.guest.wire`)."""

    async def wait(self) -> str:
        """Wait for the end; why it ended, in one line for people and the model, such as "out of memory"."""
        ...

    async def kill(self) -> None:
        """End everything in it at once, and wait until it is gone. Safe to repeat."""
        ...


class Sandbox(Protocol):
    """A kind of sandbox, ready to be used on this machine. One for a worker."""

    name: str
    """``bubblewrap``, ``local`` or ``docker``."""
    isolates: bool
    """Whether the agent is kept from the worker and the machine. Where not, the worker says so at its start."""
    installs: frozenset[str]
    """Package managers that an environment's packages can be installed with."""
    owner: tuple[int, int] | None
    """User and group that files for the sandbox must belong to; ``None`` where the worker's own will do."""

    async def check(self) -> None:
        """Make sure that it works here.

        Raises:
            SandboxError: It does not; the text says what is missing and the way out.
        """
        ...

    async def start(self, spec: SandboxSpec) -> SandboxProcess:
        """Start a sandbox with the guest in it.

        Raises:
            SandboxError: It could not be started.
        """
        ...
