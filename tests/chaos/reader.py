"""A reader in a process of its own, for the nursery.

It follows every session from where its file ends, so that a restart must neither lose nor repeat an event.
"""

import asyncio
import time
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from tests.chaos.journal import Journal, Seen, read
from tests.chaos.life import connected
from tests.chaos.plan import Setting

from sojourn.client import AgentRuntime
from sojourn.types import Event, Owner, SessionTerminated, SojournError

LOOK = 0.1
"""Seconds between two looks for new sessions."""


def digest(event: Event) -> str:
    """What tells an event from any other, its time included."""
    return blake2b(event.model_dump_json().encode(), digest_size=12).hexdigest()


async def follow(runtime: AgentRuntime, session_id: str, path: Path) -> None:
    """Write down a session from the end of the file to its terminal event."""
    seen = read(path, Seen)
    last = seen[-1].seq if seen else 0
    ended = bool(seen) and seen[-1].type == "session.status_terminated"
    journal = Journal(path)
    while not ended:
        with suppress(SojournError):
            async for event in runtime.stream_events(session_id, from_seq=last):
                assert isinstance(event, Event)
                line = Seen(seq=event.seq, id=event.id, type=event.type, digest=digest(event), at=time.time())
                journal.write(line)
                last = event.seq
                ended = isinstance(event, SessionTerminated)
        if not ended:
            await asyncio.sleep(LOOK)
    journal.close()


async def watch(folder: Path, name: str) -> None:
    """Follow whatever session begins."""
    setting = Setting.load(folder)
    client = await connected(setting.address)
    runtime = AgentRuntime(client, owner=Owner(setting.workspace, "ada"), task_queue=setting.queue)
    following: dict[str, asyncio.Task[None]] = {}
    while True:
        for begun in sorted((folder / "begun").iterdir()):
            if begun.name not in following:
                path = folder / "seen" / name / f"{begun.name}.jsonl"
                following[begun.name] = asyncio.create_task(follow(runtime, begun.name, path))
        for task in following.values():
            if task.done():
                task.result()
        await asyncio.sleep(LOOK)
