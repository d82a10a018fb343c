"""Plays with self-hosted environments, which `record.py` records: the client is the worker that fetches the work."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

from play import DONE
from temporalio.client import Client
from yard import OWNER, Yard, bash

from sojourn.client import SessionHandle
from sojourn.client.work import WorkStore
from sojourn.types import (
    AgentDefinition,
    AgentToolset,
    EndTurn,
    EnvironmentId,
    EventId,
    ModelRef,
    RollOver,
    UserToolResult,
)
from sojourn.types.agent import ToolOptions
from sojourn.types.environment import EnvironmentDefinition, SelfHostedConfig
from sojourn.types.event import AgentToolUse, SessionIdle
from sojourn.types.session import UpdateSessionInput
from sojourn.types.work import NO_HEARTBEAT, Heartbeat, UpdateWork, WorkItem

TOOLS = AgentToolset(
    default_config=ToolOptions(enabled=False), configs=(ToolOptions(name="bash", enabled=True, permission="ask"),)
)


class Errand:
    """One session in a self-hosted environment, and whoever works for it."""

    def __init__(self, yard: Yard, store: WorkStore, environment: EnvironmentId, session: SessionHandle) -> None:
        self._yard, self._store, self._environment = yard, store, environment
        self.session = session

    async def call(self, number: int) -> EventId:
        """Wait for a call, by its number from the start, and allow it."""
        calls = 0
        async with asyncio.timeout(60):
            async for event in self.session.events(from_seq=0):
                calls += isinstance(event, AgentToolUse)
                # Once the session is idle the call waits.
                if isinstance(event, SessionIdle) and calls == number:
                    break
        (action,) = await self.session.pending_actions()
        await self.session.confirm(action, allow=True)
        return action.id

    async def answer(self, call: EventId) -> None:
        await self._yard.runtime.send_event(self.session, UserToolResult(tool_use_id=call))

    async def done(self, number: int) -> None:
        """Wait until so many turns have come to their end."""
        async with asyncio.timeout(60):
            async for event in self.session.events(from_seq=0):
                number -= isinstance(event, SessionIdle) and isinstance(event.stop_reason, EndTurn)
                if number == 0:
                    return

    async def claim(self) -> WorkItem:
        item = await self._store.poll(self._environment, workspace=OWNER.workspace, wait=timedelta(seconds=60))
        assert item is not None, "there is no work"
        return item

    async def acknowledge(self, item: WorkItem) -> None:
        await self._store.acknowledge(self._environment, item.id, workspace=OWNER.workspace)

    async def beat(self, item: WorkItem, *, first: bool = False, lease_seconds: int | None = None) -> None:
        beat = Heartbeat(expected=NO_HEARTBEAT if first else "", lease_seconds=lease_seconds)
        await self._store.heartbeat(self._environment, item.id, beat, workspace=OWNER.workspace)

    async def name(self, item: WorkItem) -> None:
        change = UpdateWork(metadata={"host": "recorder"})
        await self._store.update(self._environment, item.id, change, workspace=OWNER.workspace)

    async def stop(self, item: WorkItem, *, force: bool = False) -> None:
        await self._store.stop(self._environment, item.id, workspace=OWNER.workspace, force=force)

    async def over(self, item: WorkItem) -> None:
        """Wait until the item has ended, as the queue sees to when the session is over."""
        async with asyncio.timeout(60):
            while (await self._store.get(self._environment, item.id, workspace=OWNER.workspace)).state != "stopped":
                await self._store.poll(self._environment, workspace=OWNER.workspace, reclaim=timedelta(0))
            await self._yard.ended(item.id)


async def _served(errand: Errand) -> WorkItem:
    """One item for two turns. Its worker goes while a call is open: there is a second, which outlives the session."""
    await errand.session.send("one")
    call = await errand.call(1)
    item = await errand.claim()
    await errand.acknowledge(item)
    await errand.beat(item, first=True)
    await errand.name(item)
    await errand.answer(call)
    await errand.done(1)
    await errand.session.send("two")
    call = await errand.call(2)
    await errand.stop(item)
    await errand.beat(item)
    await errand.stop(item)
    await errand.over(item)
    await errand.claim()
    await errand.answer(call)
    await errand.done(2)
    await errand.session.archive()
    return item


async def _rolling(errand: Errand) -> WorkItem:
    """An item, and the call it is for, go over to the next run."""
    await errand.session.send("one")
    call = await errand.call(1)
    item = await errand.claim()
    for place in range(8):
        await errand.session.update(UpdateSessionInput(title=f"{place}"))
    await errand.stop(item, force=True)
    await errand.claim()
    await errand.answer(call)
    await errand.done(1)
    await errand.session.archive()
    return item


async def _given_back(errand: Errand) -> WorkItem:
    """Its worker falls silent; another gets it; then the session ends, and nobody is left to be told."""
    await errand.session.send("one")
    await errand.call(1)
    item = await errand.claim()
    await errand.acknowledge(item)
    await errand.beat(item, first=True, lease_seconds=1)
    await errand.claim()
    await errand.session.archive()
    await errand.over(item)
    return item


_TURNS = (bash("echo one"), DONE, bash("echo two"), DONE)
_ACTS: dict[str, Callable[[Errand], Awaitable[WorkItem]]] = {
    "self-hosted": _served,
    "self-hosted-rolling": _rolling,
    "work-stopped": _served,
    "work-given-back": _given_back,
}


async def _played(client: Client, name: str, *, max_events: int = 1500) -> tuple[str, WorkItem]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yard = Yard(client, name, Path(folder), *_TURNS)
        try:
            async with yard.worker(sandbox=None):
                errand = await _begun(client, yard, name, max_events)
                return errand.session.id, await _ACTS[name](errand)
        finally:
            await yard.runtime.close()


async def _begun(client: Client, yard: Yard, name: str, max_events: int) -> Errand:
    runtime = yard.runtime
    environment = await runtime.create_environment(EnvironmentDefinition(name=name, config=SelfHostedConfig()))
    agent = await runtime.create(AgentDefinition(name=name, model=ModelRef.of(f"scripted:{name}"), tools=(TOOLS,)))
    session = await runtime.start_session(
        agent,
        session_id=f"sesn_{name}",
        title=name,
        environment_id=environment.id,
        roll_over=RollOver(max_events=max_events),
    )
    return Errand(yard, WorkStore(client, task_queue=name), environment.id, session)


async def _self_hosted(client: Client) -> str:
    return (await _played(client, "self-hosted"))[0]


async def _self_hosted_rolling(client: Client) -> str:
    return (await _played(client, "self-hosted-rolling", max_events=25))[0]


ERRANDS = {"self-hosted": _self_hosted, "self-hosted-rolling": _self_hosted_rolling}
"""Each gives the id of its session, which has ended."""


async def play_work(client: Client, name: str) -> str:
    """Play what an item goes through; its id. It has ended."""
    return (await _played(client, name))[1].id
