"""A worker in a process of its own, for the nursery."""

import asyncio
import os
import signal
import tempfile
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

from temporalio.client import Client
from tests.chaos.fault import Armory, plugin
from tests.chaos.journal import Effect, Journal
from tests.chaos.life import connected
from tests.chaos.plan import Setting
from tests.chaos.script import SCRIPT, play, tools
from tests.chaos.shell import SANDBOX, SHELL, watched

from sojourn.activities.context import ToolContext
from sojourn.worker import SojournWorker, WorkerOptions

GRACE = timedelta(seconds=1)
"""Short, so that a SIGTERM also cuts work off."""
CLEANING = timedelta(seconds=2)


async def work(folder: Path) -> None:
    """Serve until a SIGTERM comes, then stop in order."""
    setting, stop = Setting.load(folder), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    armory = Armory(folder)
    plain = await connected(setting.address)
    config = plain.config()
    config["plugins"] = [plugin(folder, armory)]
    client = Client(**config)
    ledger = Journal(folder / "ledger.jsonl")
    # Sockets and such, so that nothing of a campaign stays on the machine.
    tempfile.tempdir = str(folder / "tmp")

    def sending(call: ToolContext) -> None:
        id, key, attempt = call.session_id, call.tool_use_id, call.attempt
        ledger.write(Effect(session=id, tool=SHELL, key=key, attempt=attempt, pid=os.getpid(), at=time.time()))
        armory.strike("shell.send", id)

    worker = SojournWorker(
        client,
        tools=tools(ledger, armory.strike),
        scripts={SCRIPT: partial(play, marker=setting.marker)},
        built_in=watched(sending),
        options=WorkerOptions(
            task_queue=setting.queue,
            graceful_shutdown=GRACE,
            sandbox=SANDBOX if setting.shell > 0 else None,
            workspaces=folder / "workspaces",
            cleaning_interval=CLEANING,
        ),
    )
    async with worker:
        await stop.wait()
