"""The processes of a campaign: started here, ended by their ids, started again."""

import asyncio
import ctypes
import os
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from temporalio.client import Client
from temporalio.service import RPCError
from tests.chaos.journal import Outage
from tests.chaos.plan import Signal

from sojourn.client import connect_client
from sojourn.types import SojournError
from sojourn.worker.server import server_command

ROOT = Path(__file__).parents[2]
_NUMBERS = {"KILL": signal.SIGKILL, "TERM": signal.SIGTERM}


class Life(Protocol):
    """One process from its birth to its death."""

    pid: int

    async def wait(self) -> int:
        """Its exit code, once it is dead."""
        ...


class Child(ABC):
    """A process under the same name through all its lives."""

    def __init__(self, role: str, name: str) -> None:
        self.role = role
        self.name = name
        self.lives = 0
        self.rest = 0.0
        """Seconds between this death and the next life."""
        self.surprises: list[int] = []
        """Exit codes of deaths that nobody caused."""
        self._life: Life | None = None
        self._dead = False
        self._task: asyncio.Task[None] | None = None
        self._expected: set[int] = set()

    @property
    def pid(self) -> int:
        return self._life.pid if self._life is not None else 0

    @property
    def alive(self) -> bool:
        return self._life is not None and not self._dead

    @abstractmethod
    async def born(self) -> Life:
        """Start one life."""

    async def start(self) -> None:
        """Start it, and again whenever it has died."""
        await self._begin()
        self._task = asyncio.create_task(self._keep())

    def kill(self, by: Signal, *, away: float = 0.0) -> None:
        """Kill this life; the next begins after so many seconds."""
        if self.alive:
            self.rest = away
            self._expected.add(self.pid)
            # Not `Process.send_signal`: it polls, and may so take the exit code from the one who waits for it.
            with suppress(ProcessLookupError):
                os.kill(self.pid, _NUMBERS[by])

    async def stop(self) -> None:
        """End it for good."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._life is not None and self.alive:
            self.kill("KILL")
            await self._life.wait()

    async def _begin(self) -> None:
        self._life = await self.born()
        self._dead = False
        self.lives += 1

    async def _keep(self) -> None:
        while self._life is not None:
            code = await self._life.wait()
            self._dead = True
            if code not in (0, -signal.SIGKILL, -signal.SIGTERM) and self.pid not in self._expected:
                self.surprises.append(code)
            rest, self.rest = self.rest, 0.0
            await asyncio.sleep(rest)
            await self._begin()


class Nursery:
    """Bears the children that are ours (`tests.chaos.nursery`)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._births: deque[asyncio.Future[_Forked]] = deque()
        self._living: dict[int, _Forked] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the process that forks."""
        (self._folder / "output").mkdir(exist_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.chaos.nursery", str(self._folder)),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self._task = asyncio.create_task(self._listen(self._process))

    async def stop(self) -> None:
        """End it, and all its children with it."""
        if self._process is not None and self._process.stdin is not None and self._task is not None:
            self._process.stdin.close()
            await self._process.wait()
            await self._task

    async def bear(self, role: str, name: str) -> "Life":
        """Start a process."""
        assert self._process is not None
        assert self._process.stdin is not None
        birth: asyncio.Future[_Forked] = asyncio.get_running_loop().create_future()
        self._births.append(birth)
        self._process.stdin.write(f"{role} {name}\n".encode())
        # The answer comes even if nobody waits for it any more.
        return await asyncio.shield(birth)

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := (await process.stdout.readline()).decode():
            what, pid, *code = line.split()
            if what == "+":
                life = self._living[int(pid)] = _Forked(int(pid))
                self._births.popleft().set_result(life)
            else:
                self._living.pop(int(pid)).died(int(code[0]))


class _Forked:
    """A child of the nursery."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def died(self, code: int) -> None:
        self._code.set_result(code)

    async def wait(self) -> int:
        return await asyncio.shield(self._code)


class OurChild(Child):
    """A worker, a client or a reader."""

    def __init__(self, role: str, name: str, nursery: Nursery) -> None:
        super().__init__(role, name)
        self._nursery = nursery

    async def born(self) -> Life:
        return await self._nursery.bear(self.role, self.name)


def _end_with_parent() -> None:
    """On Linux, end with the supervisor even when that is killed (``PR_SET_PDEATHSIG``)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class ServerChild(Child):
    """The Temporal server on its database file."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__("server", "temporal")
        self.address = f"127.0.0.1:{port}"
        self.outages: list[Outage] = []
        self._command = server_command(data=folder / "server", port=port)
        self._output = folder / "output" / "server.log"

    async def born(self) -> Life:
        self._output.parent.mkdir(exist_ok=True)
        with self._output.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                *self._command, stdout=output, stderr=output, preexec_fn=_end_with_parent
            )

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
        began = time.time()
        self.kill(by, away=away)
        while self.lives == len(self.outages) + 1:  # noqa: ASYNC110 (`_keep` starts the next life)
            await asyncio.sleep(0.01)
        await self.ready()
        self.outages.append(Outage(began=began, ended=time.time()))
        return self.outages[-1]
