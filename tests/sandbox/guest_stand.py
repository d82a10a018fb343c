"""The real guest as a plain process, in a folder that stands for the agent's: a sandbox without walls."""

import asyncio
import json
import os
import sys
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from sojourn.sandbox import Mount, SandboxSpec
from sojourn.sandbox.guest_client import Guest

PROGRAM = Path(__file__).parents[2] / "activities" / "sojourn" / "sandbox" / "guest" / "__main__.py"
PATIENCE_SECONDS = 60
"""Bound on every wait; what is waited for comes at once."""


class PlainProcess:
    """A process that stands for a sandbox."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.stdin = process.stdin
        self.stdout = process.stdout
        self.process = process

    async def wait(self) -> str:
        return f"exit code {await self.process.wait()}"

    async def kill(self) -> None:
        self.stdin.close()
        try:
            # At the end of its input the guest ends what it has started.
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


class PlainSandbox:
    """Starts the guest, or a program in its place."""

    name = "plain"
    isolates = False
    installs: frozenset[str] = frozenset()
    owner: tuple[int, int] | None = None

    def __init__(self, argv: Sequence[str] = (sys.executable, "-I", "-B", str(PROGRAM))) -> None:
        self.argv = argv
        self.started: list[PlainProcess] = []

    async def check(self) -> None:
        """It works everywhere."""

    async def start(self, spec: SandboxSpec) -> PlainProcess:
        mounts = [[str(mount.target), str(mount.source)] for mount in spec.mounts]
        env = {**spec.env, "SOJOURN_MOUNTS": json.dumps(mounts)}
        if spec.proxy is not None:
            env["SOJOURN_PROXY"] = str(spec.proxy)
        pipe = asyncio.subprocess.PIPE
        cwd = next((mount.source for mount in spec.mounts if mount.target == spec.working_dir), None)
        started = PlainProcess(
            await asyncio.create_subprocess_exec(*self.argv, stdin=pipe, stdout=pipe, cwd=cwd, env=env)
        )
        self.started.append(started)
        return started


class Sandboxed:
    """A running guest and the folders it works in."""

    def __init__(self, folder: Path) -> None:
        self.workspace = folder / "workspace"
        self.outputs = folder / "outputs"
        self.workspace.mkdir()
        self.outputs.mkdir()
        self.sandbox = PlainSandbox()
        # Seconds to sleep that no other test sleeps: by them a test tells its processes from those of others.
        self.mark = f"1000.{uuid.uuid4().int % 10**9:09}"
        self.spec = SandboxSpec(
            key="test",
            mounts=(
                Mount(self.workspace, PurePosixPath("/workspace"), writable=True),
                Mount(self.outputs, PurePosixPath("/mnt/session/outputs"), writable=True),
            ),
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "HTTP_PROXY": "http://127.0.0.1:3128",
                "MARK": self.mark,
            },
        )
        self._guest: Guest | None = None

    @property
    def guest(self) -> Guest:
        assert self._guest is not None
        return self._guest

    def with_path(self, folder: Path, *, alone: bool = False) -> SandboxSpec:
        """The spec with a folder for programs before the others, or as the only one."""
        rest = [] if alone else [os.environ["PATH"]]
        return replace(self.spec, env={**self.spec.env, "PATH": os.pathsep.join([str(folder), *rest])})

    async def start(self) -> None:
        self._guest = await Guest.start(self.sandbox, self.spec)

    async def close(self) -> None:
        if self._guest is not None:
            await self._guest.close()

    async def call(self, op: str, *, progress: Callable[[str], None] | None = None, **arguments: Any) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.guest.call(op, arguments, progress=progress)

    async def bash(self, command: str, **arguments: Any) -> tuple[str, int | None]:
        """Output and exit code of a command that leaves the shell alive."""
        ran = await self.call("bash", command=command, **arguments)
        assert ran["ended"] is None, ran
        return ran["output"]["text"], ran["exit_code"]


@asynccontextmanager
async def sandboxed(folder: Path) -> AsyncGenerator[Sandboxed, None]:
    box = Sandboxed(folder)
    try:
        await box.start()
        yield box
    finally:
        await box.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so that gives no sign of it."""
    for _ in range(PATIENCE_SECONDS * 50):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"not within {PATIENCE_SECONDS} s")


def pids(mark: str) -> set[int]:
    """The processes that have a word in their command line."""
    found = set()
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit() and mark.encode() in (folder / "cmdline").read_bytes().split(b"\0"):
                found.add(int(folder.name))
    return found


def saying(*codes: str) -> PlainSandbox:
    """In the guest's place a program that says it is ready, and runs a line of code when it hears the next call."""
    code = "import json, sys; say = lambda **m: print(json.dumps(m), flush=True)\n"
    code += "say(ready={'python': '3.11.0', 'pid': 1})\n"
    code += "".join(f"sys.stdin.readline()\n{each}\n" for each in codes) + "sys.stdin.read()"
    return PlainSandbox((sys.executable, "-I", "-c", code))
