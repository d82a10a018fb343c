"""Every way in which sandboxes are attacked, each a coroutine. As a program it does one, for the user it runs as."""

import asyncio
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path

from tests.sandbox.attack import ATTACKS, HOPELESS
from tests.sandbox.prey import LIMITS, PATIENCE, Prey, alive, ask, prey, until

from sojourn.sandbox import view
from sojourn.sandbox.bubblewrap import BubblewrapProcess, BubblewrapSandbox
from sojourn.sandbox.child import LINE_LIMIT_BYTES

Act = Callable[[], Coroutine[None, None, None]]

TOO_MUCH = "out of memory (over 256 MiB)"

_BOMBS = {
    "takes memory in one process": """
held = []
while True:
    held.append(bytearray(os.urandom(1 << 10) * (4 << 10)))
""",
    "takes memory in many processes": """
for _ in range(20):
    if os.fork() == 0:
        held = bytearray(os.urandom(1 << 10) * (24 << 10))
        signal.pause()
signal.pause()
""",
    "takes memory that processes share": """
import mmap
held = mmap.mmap(-1, 600 << 20)
for number in range(600):
    held.seek(number << 20)
    held.write(os.urandom(1 << 20))
signal.pause()
""",
    "takes memory in temporary files and processes": """
for folder in ("/tmp", "/dev/shm"):
    open(folder + "/x", "wb").write(os.urandom(1 << 20) * 60)
held = bytearray(os.urandom(1 << 10) * (170 << 10))
signal.pause()
""",
}

# Each leaves something behind that does not want to end.
_SURVIVORS = """
import os, signal, subprocess, sys, time
for number in range(1, 32):
    try:
        signal.signal(number, signal.SIG_IGN)
    except OSError:
        pass
wait = "import signal\\nfor _ in iter(int, 1): signal.pause()"
subprocess.Popen(["nohup", sys.executable, "-c", wait], start_new_session=True)
subprocess.Popen(["setsid", "--fork", sys.executable, "-c", wait])
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 64)
        while True:
            signal.pause()
    os._exit(0)
print("left behind", flush=True)
"""


async def attacked(name: str) -> None:
    """The attack succeeds without a sandbox, where it is tried, and fails in one."""
    async with prey() as each:
        if name in ATTACKS:
            free = await each.outside(name)
            assert "GOT" in free.out, f"it does not even succeed outside: {free}"
        held = await each.inside(name)
    assert "GOT" not in held.out, held
    assert held.refused, f"it failed by a mistake of its own: {held}"


async def bombed(name: str) -> None:
    """The sandbox ends with the reason, and nothing of it is left."""
    async with prey() as each, each.started() as sandbox:
        script = f"import os, signal\n{_BOMBS[name]}"
        answer = await ask(sandbox, str(view.interpreter()), "-c", script)
        assert answer.status is None, answer
        assert await _end(sandbox) == TOO_MUCH
        await _gone(sandbox, set())


async def forked() -> None:
    """A bomb of processes that multiply stays within its number, stops nobody else, and is gone with the sandbox."""
    script = "while True:\n try: os.fork()\n except OSError: pass"
    async with prey() as each, each.started() as sandbox:
        bomb = asyncio.create_task(ask(sandbox, str(view.interpreter()), "-c", f"import os\n{script}"))
        await until(lambda: len(_lives(sandbox)) >= LIMITS.processes // 2)
        lives = _lives(sandbox)
        assert len(lives) <= LIMITS.processes + 2  # bubblewrap's own first process, and the one that is just being made
        async with each.started() as other:
            assert (await ask(other, "echo", "well")).out == "well\n"
        await sandbox.kill()
        await _gone(sandbox, lives)
        await bomb


async def survived(end: Callable[[BubblewrapProcess], Awaitable[object]]) -> None:
    """What was left behind in a sandbox ends with it."""
    async with prey() as each, each.started() as sandbox:
        # Without the answer's pipes, which those left behind would hold.
        answer = await ask(
            sandbox, "bash", "-c", f"{view.interpreter()} -c '{_SURVIVORS}' >/tmp/told 2>&1; cat /tmp/told"
        )
        assert "left behind" in answer.out, answer
        lives = _lives(sandbox)
        assert len(lives) >= 5, lives
        await end(sandbox)
        await _end(sandbox)
        await _gone(sandbox, lives)


async def all_signalled() -> None:
    """An agent that kills all it can kill ends its own sandbox at most."""
    async with prey() as each, each.started() as sandbox:
        sandbox.stdin.write(b'{"argv": ["bash", "-c", "kill -9 -1; kill -9 1; kill -9 $PPID"], "timeout": 60}\n')
        told = await _end(sandbox)
        assert told == "its program ended by SIGKILL", told
        os.kill(int(each.aim["pid"]), 0)


async def flooded(stream: int) -> None:
    """What is written without end costs the worker neither memory nor time."""
    async with prey() as each:
        script = f"import os\nwhile True: os.write({stream}, bytes(1 << 16))"
        sandbox = await each.sandbox.run(each.spec(), (str(view.interpreter()), "-c", script))
        try:
            ended = asyncio.create_task(sandbox.wait())
            await until(lambda: ended.done() or len(_buffer(sandbox)) > LINE_LIMIT_BYTES)
            assert len(_buffer(sandbox)) <= 3 * LINE_LIMIT_BYTES
            # Its standard error is closed on it.
            assert not ended.done() or stream == 2
            ended.cancel()
        finally:
            await sandbox.kill()


async def orphaned() -> None:
    """A sandbox does not outlive a worker that is killed."""
    async with prey() as each:
        command = (sys.executable, "-m", "tests.sandbox.siege", "worker", str(each.folder))
        worker = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert worker.stdout is not None
        try:
            async with asyncio.timeout(PATIENCE):
                init = int(await worker.stdout.readline())
            handle = os.pidfd_open(init)
        finally:
            worker.kill()
            await worker.wait()
        try:
            async with asyncio.timeout(PATIENCE):
                await _over(handle)
        finally:
            os.close(handle)


async def escalated() -> None:
    """A program that belongs to root and runs as its owner does so outside alone. Only root can lay it out."""
    async with prey() as each, each.started() as sandbox:
        program = shutil.copy("/usr/bin/id", each.folder / "workspace" / "whoami")
        os.chown(program, 0, 0)
        os.chmod(program, 0o4755)
        outside = await asyncio.create_subprocess_exec(
            *("setpriv", "--reuid", "60700", "--clear-groups", str(program), "-u"), stdout=asyncio.subprocess.PIPE
        )
        told, _ = await outside.communicate()
        answer = await ask(sandbox, "./whoami", "-u")
    assert told == b"0\n"
    assert answer.out == f"{view.UID}\n"


async def _serve(folder: Path) -> None:
    """A worker with a sandbox, until it is killed."""
    async with Prey(BubblewrapSandbox(guest=folder / "guest"), folder).started() as sandbox:
        print(sandbox.init, flush=True)  # noqa: T201 (to the process that started this one)
        await asyncio.Event().wait()


async def _over(handle: int) -> None:
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(handle, over.set)
    try:
        await over.wait()
    finally:
        asyncio.get_running_loop().remove_reader(handle)


async def _end(sandbox: BubblewrapProcess) -> str:
    async with asyncio.timeout(PATIENCE):
        return await sandbox.wait()


async def _gone(sandbox: BubblewrapProcess, lives: set[int]) -> None:
    """Not even a zombie is left: that of the first process is buried by whoever took it over."""
    await until(lambda: not any(alive(each) for each in {sandbox.init, sandbox.pid, *lives}))


def _lives(sandbox: BubblewrapProcess) -> set[int]:
    """The machine's numbers of all processes in a sandbox."""
    space = os.readlink(f"/proc/{sandbox.init}/ns/pid")
    found = set()
    for entry in os.listdir("/proc"):
        with suppress(OSError):
            if entry.isdigit() and os.readlink(f"/proc/{entry}/ns/pid") == space:
                found.add(int(entry))
    return found


def _buffer(sandbox: BubblewrapProcess) -> bytearray:
    buffer = sandbox.stdout._buffer  # type: ignore[attr-defined]
    assert isinstance(buffer, bytearray)
    return buffer


async def _leave(sandbox: BubblewrapProcess) -> None:
    """The guest ends by itself."""
    sandbox.stdin.close()


ACTS: dict[str, Act] = {
    **{name: partial(attacked, name) for name in (*ATTACKS, *HOPELESS)},
    **{name: partial(bombed, name) for name in _BOMBS},
    "multiplies": forked,
    "survives a kill": partial(survived, BubblewrapProcess.kill),
    "survives the guest": partial(survived, _leave),
    "survives the worker": orphaned,
    "signals everything": all_signalled,
    "fills the output": partial(flooded, 1),
    "fills the error stream": partial(flooded, 2),
}

ROOT_ACTS: dict[str, Act] = {"runs a program of root": escalated}
"""Those that only root can prepare."""


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[2])) if sys.argv[1] == "worker" else ACTS[sys.argv[1]]())
