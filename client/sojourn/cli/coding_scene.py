"""The scenes of the coding agent's demonstration, and its worker."""

import asyncio
import time
from pathlib import Path

from sojourn.cli.demo_process import DemoProcess
from sojourn.cli.demo_scene import finish
from sojourn.cli.demo_stage import Crew, Stage
from sojourn.testing import coding as desk
from sojourn.testing.coding_site import CodingSite
from sojourn.types import SessionIdle, UserMessage


class CodingCrew(Crew):
    """Workers that have a sandbox."""

    def __init__(self, address: str, folder: Path, *, scratch: Path, sandbox: str, site: CodingSite) -> None:
        super().__init__(address, folder)
        self.folder = folder
        self.scratch = scratch
        """For what a worker that is killed leaves behind; short, for it holds sockets."""
        self.sandbox = sandbox
        self.site = site

    async def worker(self) -> DemoProcess:
        """Start a worker."""
        return await self._start(
            "coder", self.address, str(self.folder), str(self.scratch), self.sandbox, str(self.site.port)
        )


async def look(stage: Stage) -> None:
    """What is wrong?"""
    await _turn(stage, desk.LOOK)


async def repair(stage: Stage) -> None:
    """Look things up, change files, run the tests."""
    await _turn(stage, desk.REPAIR)


async def soak(stage: Stage, worker: DemoProcess) -> None:
    """The worker dies while a command runs; the next one has the workspace."""
    seen = len(stage.progress)
    sent = await stage.send(UserMessage.text(desk.SOAK))
    async with asyncio.TaskGroup() as tasks:
        turn = tasks.create_task(finish(stage, sent))
        await stage.until("the command to get somewhere", lambda: len(stage.progress) > seen + 2 or turn.done() or None)
        await _kill(stage, worker)


async def _kill(stage: Stage, worker: DemoProcess) -> None:
    stage.screen.say(f"kill -9 {worker.pid}: the worker is gone, and its sandbox with it")
    await worker.kill()
    killed, events = time.monotonic(), len(stage.events)
    worker = await stage.crew.worker()
    stage.screen.say(f"a new worker starts, process {worker.pid}; nobody tells it about the session")
    if not isinstance(stage.events[-1], SessionIdle):
        await stage.until("the session to go on by itself", lambda: len(stage.events) > events or None)
        stage.screen.say(f"{time.monotonic() - killed:.1f} s after the kill the session has gone on by itself")


async def leave(stage: Stage) -> None:
    """Things that the agent may not do."""
    await _turn(stage, desk.LEAVE)


async def commit(stage: Stage) -> None:
    """Somebody else says yes."""
    await _turn(stage, desk.COMMIT)


async def _turn(stage: Stage, text: str) -> None:
    await finish(stage, await stage.send(UserMessage.text(text)))
