"""The processes of a campaign: started here, ended by their ids, started again."""

import asyncio
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from temporalio.client import Client
from temporalio.service import RPCError
from tests.chaos.journal import Outage
from tests.chaos.plan import Signal

from sojourn.client import connect_client
from sojourn.types import SojournError
from sojourn.worker.server import server_command

ROOT = Path(__file__).parents[2]
_NUMBERS = {"KILL": signal.SIGKILL, "TERM": signal.SIGTERM}


class Child:
    """One process, under the same name through all its lives."""

    def __init__(self, role: str, name: str, command: list[str], folder: Path) -> None:
        self.role = role
        self.name = name
        self.lives = 0
        self.rest = 0.0
        """Seconds between a death and the next life."""
        self.surprises: list[int] = []
        """Exit codes of deaths that nobody caused."""
        self._command = command
        self._output = folder / "output" / f"{role}-{name}.log"
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._expected: set[int] = set()

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it, and again whenever it has died."""
        await self._spawn()
        self._task = asyncio.create_task(self._keep())

    def kill(self, by: Signal) -> None:
        """Kill this life; the next begins at once."""
        if self._process is not None and self.alive:
            self._expected.add(self._process.pid)
            with suppress(ProcessLookupError):
                self._process.send_signal(_NUMBERS[by])

    async def stop(self) -> None:
        """End it for good."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._process is not None and self.alive:
            self._process.kill()
            await self._process.wait()

    async def _spawn(self) -> None:
        self._output.parent.mkdir(parents=True, exist_ok=True)
        with self._output.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=output, stderr=output
            )
        self.lives += 1

    async def _keep(self) -> None:
        while self._process is not None:
            code = await self._process.wait()
            if code not in (0, -signal.SIGKILL, -signal.SIGTERM) and self._process.pid not in self._expected:
                self.surprises.append(code)
            await asyncio.sleep(self.rest)
            await self._spawn()


def python(module: str, *arguments: str) -> list[str]:
    """The command of one of our own roles."""
    return [sys.executable, "-m", f"tests.chaos.{module}", *arguments]


class ServerChild(Child):
    """The Temporal server on its database file."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__("server", "temporal", server_command(data=folder / "server", port=port), folder)
        self.address = f"127.0.0.1:{port}"
        self.outages: list[Outage] = []

    async def ready(self, *, seconds: float = 60) -> Client:
        """Wait until it answers, and knows our search attributes."""
        async with asyncio.timeout(seconds):
            while True:
                with suppress(SojournError, RPCError):
                    client = await connect_client(self.address)
                    async for _ in client.list_workflows("SojournStatus = 'none'", limit=1):
                        break
                    return client
                await asyncio.sleep(0.05)

    async def bounce(self, by: Signal, *, away: float) -> Outage:
        """Kill it, start it again after so many seconds, and wait until it answers."""
        began, self.rest = time.time(), away
        self.kill(by)
        while self.lives == len(self.outages) + 1:  # noqa: ASYNC110 (`_keep` starts the next life)
            await asyncio.sleep(0.01)
        await self.ready()
        self.outages.append(Outage(began=began, ended=time.time()))
        return self.outages[-1]
