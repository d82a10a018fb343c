"""A worker in a process of its own: ``python -m tests.chaos.worker FOLDER NAME``."""

import asyncio
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

from temporalio.client import Client
from tests.chaos.fault import Armory, plugin
from tests.chaos.journal import Journal
from tests.chaos.life import tied
from tests.chaos.plan import Setting
from tests.chaos.script import SCRIPT, play, tools

from sojourn.client import connect_client
from sojourn.worker import SojournWorker, WorkerOptions

GRACE = timedelta(seconds=1)
"""Short, so that a SIGTERM also cuts work off."""


async def work(folder: Path) -> None:
    """Serve until a SIGTERM comes, then stop in order."""
    setting, stop = Setting.load(folder), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    armory = Armory(folder)
    plain = await connect_client(setting.address, timeout=timedelta(seconds=30))
    config = plain.config()
    config["plugins"] = [plugin(folder, armory)]
    client = Client(**config)
    worker = SojournWorker(
        client,
        tools=tools(Journal(folder / "ledger.jsonl"), armory.strike),
        scripts={SCRIPT: play},
        options=WorkerOptions(task_queue=setting.queue, graceful_shutdown=GRACE),
    )
    async with worker:
        await stop.wait()


if __name__ == "__main__":
    tied()
    asyncio.run(work(Path(sys.argv[1])))
    # The interpreter's teardown may crash in Temporal's native library after a clean end (temporal.md §3.5).
    os._exit(0)
