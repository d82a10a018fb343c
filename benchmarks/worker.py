"""A worker in a process of its own: `python worker.py ours|raw ADDRESS QUEUE CACHED_SESSIONS`.

Says ``ready`` and serves until its standard input closes, so it ends with the process that started it.
"""

import asyncio
import os
import sys

from raw import RawAgent, connect_raw, raw_model, raw_tool
from script import SCRIPTS, look_up
from temporalio.worker import Worker

from sojourn.client import connect_client
from sojourn.worker import SojournWorker, WorkerOptions
from sojourn.worker.worker import _tuning


async def serve(kind: str, address: str, queue: str, cached: int) -> None:
    client = await (connect_client if kind == "ours" else connect_raw)(address)
    options = WorkerOptions(task_queue=queue, max_cached_sessions=cached)
    worker: SojournWorker | Worker
    if kind == "ours":
        worker = SojournWorker(client, tools=[look_up], scripts=SCRIPTS, options=options)
    else:
        # The very same settings, so that only the code differs.
        worker = Worker(client, workflows=[RawAgent], activities=[raw_model, raw_tool], **_tuning(options))
    async with worker:
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
    # The interpreter may abort while it takes down a worker that had work in flight (temporal.md §3.5).
    os._exit(0)
