"""The other processes of the demonstrations.

`worker ADDRESS LEDGERS`, `reader ADDRESS SESSION FILE` and `coder ADDRESS FOLDER SCRATCH SANDBOX PORT`. All end when
their standard input does, so that they never outlive the process that started them.
"""

import asyncio
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Self

from sojourn.client import AgentRuntime, connect_client
from sojourn.testing import coding
from sojourn.testing import demo as desk
from sojourn.testing.coding_site import CodingSite
from sojourn.worker import SojournWorker, WorkerOptions


class DemoProcess:
    """One of these processes, seen from the one that starts it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._killed = False

    @classmethod
    async def start(cls, *arguments: str, log: Path) -> Self:
        """Start it, in a process group of its own: a Ctrl-C at the terminal is not for it.

        Args:
            arguments: As on the command line.
            log: Takes what it says.
        """
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", __name__, *arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return cls(process)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """``None`` while it runs."""
        return self._process.returncode

    @property
    def failed(self) -> bool:
        """Whether it ended badly, and not by our hand."""
        return not self._killed and self.exit_code not in (None, 0)

    async def wait(self) -> None:
        """Wait until it has ended by itself."""
        await self._process.wait()

    async def kill(self) -> None:
        """``kill -9``: it gets no chance to do anything."""
        self._killed = True
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def stop(self) -> None:
        """Let it end in order, or kill it where it does not."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(1):
                await self._process.wait()
        except TimeoutError:
            await self.kill()


async def serve(address: str, ledgers: str) -> None:
    """Run a worker with the tools and the script of the demonstration."""
    os.environ[desk.LEDGER_VARIABLE] = ledgers
    client = await connect_client(address)
    options = WorkerOptions(identity=f"demo worker {os.getpid()}")
    async with SojournWorker(client, tools=[desk], scripts={desk.SCRIPT: desk.answer}, options=options):
        await asyncio.Event().wait()


async def code(address: str, folder: str, scratch: str, sandbox: str, port: str) -> None:
    """Run a worker with a sandbox and the script of the coding agent."""
    site = CodingSite(int(port))
    os.environ.update(site.environment)
    tempfile.tempdir = scratch
    client = await connect_client(address, store=str(Path(folder) / "store"))
    options = WorkerOptions(
        identity=f"demo worker {os.getpid()}",
        sandbox=sandbox,
        workspaces=Path(folder) / "workspaces",
        graceful_shutdown=timedelta(0),
    )
    async with SojournWorker(client, scripts={coding.SCRIPT: coding.script(site.url)}, options=options):
        await asyncio.Event().wait()


async def read(address: str, session_id: str, file: str) -> None:
    """Stream a session from its first event to its end into a file, one line of JSON an event."""
    async with AgentRuntime.connect(address) as runtime:
        with open(file, "w") as output:  # noqa: ASYNC230 (a few lines; nothing else runs here)
            async for event in runtime.stream_events(session_id, from_seq=0):
                output.write(f"{event.model_dump_json()}\n")


async def _until_parent_ends() -> None:
    ended, loop = asyncio.Event(), asyncio.get_running_loop()

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=watch, daemon=True).start()
    await ended.wait()


async def _main(role: str, *arguments: str) -> None:
    roles: dict[str, Callable[..., Coroutine[None, None, None]]] = {"worker": serve, "coder": code, "reader": read}
    work = asyncio.create_task(roles[role](*arguments))
    parent = asyncio.create_task(_until_parent_ends())
    await asyncio.wait((work, parent), return_when=asyncio.FIRST_COMPLETED)
    parent.cancel()
    work.cancel()
    with suppress(asyncio.CancelledError):
        await work


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
    # The interpreter's teardown may crash in Temporal's native library after a clean end (temporal.md §3.5).
    os._exit(0)
