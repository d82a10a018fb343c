"""A worker in a process of its own, for the nursery."""

import asyncio
import signal
from datetime import timedelta
from pathlib import Path

from temporalio.client import Client
from tests.chaos.fault import Armory, plugin
from tests.chaos.journal import Journal
from tests.chaos.life import connected
from tests.chaos.plan import Setting
from tests.chaos.script import SCRIPT, play, tools

from sojourn.worker import SojournWorker, WorkerOptions

GRACE = timedelta(seconds=1)
"""Short, so that a SIGTERM also cuts work off."""


async def work(folder: Path) -> None:
    """Serve until a SIGTERM comes, then stop in order."""
    setting, stop = Setting.load(folder), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    armory = Armory(folder)
    plain = await connected(setting.address)
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
