"""What every benchmark is given: a server, how thorough to be, where to show progress."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from process import WorkerProcess, worker_process
from raw import connect_raw
from talk import Ours, Raw

from sojourn.client import connect_client

Size = Literal["smoke", "quick", "full"]


@dataclass(frozen=True)
class Setting:
    """One run of the benchmarks."""

    address: str
    size: Size
    say: Callable[[str], None]
    """Shows what is being done."""

    def pick(self, full: int, quick: int, smoke: int) -> int:
        """How much of something this run does."""
        return {"full": full, "quick": quick, "smoke": smoke}[self.size]


@dataclass(frozen=True)
class Pair:
    """Both sides, each with a worker process of its own on the same server."""

    ours: Ours
    raw: Raw
    our_worker: WorkerProcess
    raw_worker: WorkerProcess


@asynccontextmanager
async def pair(address: str, *, script: str = "turn", cached: int = 5000) -> AsyncGenerator[Pair, None]:
    """Both sides while the block runs.

    Args:
        address: Of the server.
        script: What our model does.
        cached: Conversations that stay in the workers' memory.
    """
    async with (
        worker_process("ours", address, cached=cached) as our_worker,
        worker_process("raw", address, cached=cached) as raw_worker,
    ):
        ours = await Ours.make(await connect_client(address), our_worker.task_queue, script=script)
        try:
            yield Pair(ours, Raw(await connect_raw(address), raw_worker.task_queue), our_worker, raw_worker)
        finally:
            await ours.runtime.close()
