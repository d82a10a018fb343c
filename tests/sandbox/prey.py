"""What attackers are after: a worker's secrets, files, processes and sockets, and a sandbox beside them."""

import asyncio
import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tests.sandbox.attack import program

from sojourn.sandbox import view
from sojourn.sandbox.bubblewrap import BubblewrapProcess, BubblewrapSandbox
from sojourn.sandbox.protocol import OUTPUTS, UPLOADS, WORKSPACE, Mount, SandboxLimits, SandboxProcess, SandboxSpec

PATIENCE = 60
"""Seconds that anything here may take."""

LIMITS = SandboxLimits(memory_bytes=256 * 1024**2, processes=64)
STAND_IN = Path(__file__).with_name("stand_in.py")

_DECOY = """
import ctypes, sys
ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)
print("here", flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Answer:
    """What a program in a sandbox has said."""

    status: int | None
    out: str
    err: str

    @property
    def refused(self) -> bool:
        """Whether it went on to its end, or to an error of the system: a mistake of its own proves nothing."""
        told = self.err.strip().splitlines()
        return self.status == 0 or (bool(told) and told[-1].partition(":")[0] in _ERRORS)


_ERRORS = {
    "ConnectionRefusedError",
    "FileNotFoundError",
    "OSError",
    "PermissionError",
    "ProcessLookupError",
    "TimeoutError",
} | {
    "ValueError",  # what Python makes of a limit that may not be raised
}


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what nobody tells of."""
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether there is such a process, be it a zombie."""
    return Path("/proc", str(pid)).exists()


async def ask(sandbox: SandboxProcess, *argv: str, timeout: float = PATIENCE) -> Answer:
    """Let the stand-in for the guest run a program."""
    request = {"argv": argv, "timeout": timeout}
    sandbox.stdin.write(json.dumps(request).encode() + b"\n")
    async with asyncio.timeout(PATIENCE + timeout):
        line = await sandbox.stdout.readline()
    return Answer(**json.loads(line)) if line else Answer(None, "", "the sandbox is gone")


async def ready(sandbox: SandboxProcess) -> None:
    """Wait until the stand-in runs."""
    async with asyncio.timeout(PATIENCE):
        line = await sandbox.stdout.readline()
    assert line, await sandbox.wait()


@dataclass
class Prey:
    """Everything in one place."""

    sandbox: BubblewrapSandbox
    folder: Path
    aim: dict[str, str | int] = field(default_factory=dict)

    def spec(self, *, limits: SandboxLimits = LIMITS, key: str = "prey") -> SandboxSpec:
        mounts = (
            Mount(self.folder / "workspace", WORKSPACE, writable=True),
            Mount(self.folder / "uploads", UPLOADS),
            Mount(self.folder / "outputs", OUTPUTS, writable=True),
            Mount(self.folder / "home", PurePosixPath("/home/agent"), writable=True),
        )
        return SandboxSpec(key=key, mounts=mounts, limits=limits)

    @asynccontextmanager
    async def started(self, *, limits: SandboxLimits = LIMITS) -> AsyncGenerator[BubblewrapProcess]:
        """A sandbox with the stand-in in it."""
        sandbox = await self.sandbox.start(self.spec(limits=limits))
        try:
            await ready(sandbox)
            yield sandbox
        finally:
            await sandbox.kill()

    async def inside(self, attack: str) -> Answer:
        aim = json.dumps({**self.aim, "uploads": str(UPLOADS)})
        async with self.started() as sandbox:
            return await ask(sandbox, str(view.interpreter()), "-c", program(attack), aim)

    async def outside(self, attack: str) -> Answer:
        """The same as the worker's own user, without a sandbox."""
        process = await asyncio.create_subprocess_exec(
            *(str(view.interpreter()), "-c", program(attack), json.dumps(self.aim)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.folder / "workspace",
            close_fds=False,
        )
        try:
            async with asyncio.timeout(PATIENCE):
                out, err = await process.communicate()
        finally:
            with suppress(ProcessLookupError):
                process.kill()
        return Answer(process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def prey() -> AsyncGenerator[Prey]:
    """Lay everything out, in a folder that goes away again."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sojourn-prey-", dir="/tmp")))
        sandbox = lay_out(folder)
        secret = secrets.token_hex(16)
        (folder / "secret.txt").write_text(secret)
        stack.enter_context(_variable("SOJOURN_PREY", secret))
        opened = os.open(folder / "secret.txt", os.O_RDONLY)
        stack.callback(os.close, opened)
        os.set_inheritable(opened, True)
        found = Prey(sandbox, folder)
        found.aim = {
            "secret": secret,
            "file": str(folder / "secret.txt"),
            "uploads": str(folder / "uploads"),
            "host": socket.gethostname(),
            "processes": LIMITS.processes + 40,
            "mebibytes": LIMITS.memory_bytes // 1024**2 // 3,
            "pid": await stack.enter_async_context(_decoy()),
            **_listeners(stack, folder),
        }
        yield found


def lay_out(folder: Path) -> BubblewrapSandbox:
    """Folders of a workspace, and a sandbox that starts the stand-in."""
    folder.chmod(0o755)
    guest = folder / "guest"
    guest.mkdir()
    shutil.copy(STAND_IN, guest / "__main__.py")
    sandbox = BubblewrapSandbox(guest=guest)
    for name in ("workspace", "uploads", "outputs", "home"):
        (folder / name).mkdir()
    (folder / "uploads" / "given.txt").write_text("given")
    if sandbox.owner is not None:
        for path in folder.rglob("*"):
            os.chown(path, *sandbox.owner)
    return sandbox


@asynccontextmanager
async def _decoy() -> AsyncGenerator[int]:
    """A process of the worker's user, with the worker's variables."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _DECOY, stdin=pipe, stdout=pipe)
    try:
        assert process.stdout is not None
        assert await process.stdout.readline()
        yield process.pid
    finally:
        process.kill()
        await process.communicate()


@contextmanager
def _variable(name: str, value: str) -> Generator[None]:
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


def _listeners(stack: AsyncExitStack, folder: Path) -> dict[str, str | int]:
    abstract, path = f"sojourn-{secrets.token_hex(8)}", str(folder / "worker.sock")
    network = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    for address in ("\0" + abstract, path):
        there = stack.enter_context(socket.socket(socket.AF_UNIX))
        there.bind(address)
        there.listen()
    os.chmod(path, 0o777)
    return {"port": network.getsockname()[1], "abstract": abstract, "socket": path}
