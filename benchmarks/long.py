"""Long lives: ``python benchmarks/long.py [--turns 2000] [--sessions 10000]``, which is what `make long` runs.

One conversation of thousands of turns with tool calls and interrupts, and thousands of sessions that wait. Prints its
figures, and ends with 1 if something was lost, if a late turn takes too long, or if the worker's memory grows.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter

from process import WorkerProcess, worker_process
from script import QUESTION, STALL

from sojourn.client import AgentRuntime, SessionHandle, connect_client
from sojourn.types import AgentDefinition, AgentVersion, Event, EventDelta, SessionEvent, SessionIdle
from sojourn.worker import embedded_server

AIM = 1.2
NOISE = 0.05
"""The median of 50 turns repeats itself to about 3 % on a machine that others use too, a ratio of two to 5 %."""
WINDOW = 50
YOUNG = 20
EVERY = 25
"""Each such turn is interrupted in the middle of its text."""
GROWTH = 1.1
"""By how much memory may differ between rounds that touch the same sessions again: heaps are never quite still."""


@dataclass
class Life:
    """One conversation as its live reader sees it."""

    session: SessionHandle
    log: list[SessionEvent] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._idles = asyncio.Queue[SessionIdle]()
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for event in self.session.events(from_seq=0):
            assert isinstance(event, Event)
            self.log.append(event)
            if isinstance(event, SessionIdle):
                self._idles.put_nowait(event)

    async def turn(self) -> float:
        """One turn with a tool call; its seconds, from the send to the sight of its end."""
        began = perf_counter()
        await self.session.send(QUESTION)
        await self._idles.get()
        self.seconds.append(perf_counter() - began)
        return self.seconds[-1]

    async def interrupted(self) -> None:
        events: AsyncIterator[object] = self.session.events(from_seq=None, previews=True)
        await self.session.send(STALL)
        async for event in events:
            if isinstance(event, EventDelta):
                break
        await self.session.interrupt()
        await self._idles.get()

    async def end(self) -> None:
        await self.session.archive()
        await self._task


async def main(turns: int, sessions: int) -> list[str]:
    faults: list[str] = []
    async with embedded_server() as server:
        async with worker_process("ours", server.address, cached=1000) as worker:
            if turns:
                faults += await _conversation(server.address, worker, turns)
        async with worker_process("ours", server.address, cached=1000) as worker:
            if sessions:
                faults += await _idle(server.address, worker, sessions)
    return faults


async def _agent(runtime: AgentRuntime) -> AgentVersion:
    definition = AgentDefinition.model_validate({"name": "long", "model": "scripted:life", "tools": ["look_up"]})
    return await (await runtime.create(definition)).get()


async def _conversation(address: str, worker: WorkerProcess, turns: int) -> list[str]:
    runtime = AgentRuntime(await connect_client(address), task_queue=worker.task_queue)
    agent = await _agent(runtime)
    life = Life(await runtime.start_session(agent))
    for turn in range(1, turns + 1):
        if turn % EVERY:
            await life.turn()
        else:
            await life.interrupted()
        if turn % 200 == 0:
            print(
                f"turn {turn}: median of the last {WINDOW} {median(life.seconds[-WINDOW:]) * 1000:.1f} ms", flush=True
            )
    # Side by side, because the machine is not the same at the beginning and at the end of some minutes.
    old, young = await _compare(life, [Life(await runtime.start_session(agent)) for _ in range(2)])
    await life.end()
    faults = await _read_back(address, life)
    ratio = old / young
    first = median(life.seconds[YOUNG - 10 : YOUNG + 40])
    print(f"turn {turns} / turn {YOUNG}, in turn: {old * 1000:.1f} / {young * 1000:.1f} ms = {ratio:.2f}, aim {AIM}")
    print(f"turn {YOUNG} of the same conversation, at its time: {first * 1000:.1f} ms")
    if ratio > AIM + NOISE:
        faults.append(f"turn {turns} takes {ratio:.2f} times turn {YOUNG}")
    await runtime.close()
    return faults


async def _compare(old: Life, young: list[Life]) -> tuple[float, float]:
    """Medians of turns of the old conversation and of ones around their turn 20, one after the other."""
    for each in young:
        for _ in range(YOUNG - WINDOW // 4):
            await each.turn()
    late: list[float] = []
    early: list[float] = []
    for place in range(WINDOW):
        late.append(await old.turn())
        early.append(await young[place % len(young)].turn())
    for each in young:
        await each.end()
    return median(late), median(early)


async def _read_back(address: str, life: Life) -> list[str]:
    client = await connect_client(address)
    cold = AgentRuntime(client)
    began = perf_counter()
    read = await cold.list_events(life.session.id)
    seconds = perf_counter() - began
    await cold.close()
    runs = size = length = 0
    query = f"WorkflowId = '{life.session.owner.workspace}/{life.session.id}'"
    async for each in client.list_workflows(query):
        described = (await client.get_workflow_handle(each.id, run_id=each.run_id).describe()).raw_description
        runs += 1
        length += described.workflow_execution_info.history_length
        size += described.workflow_execution_info.history_size_bytes
    print(f"{len(read)} events in {runs} runs, {length} history events, {size / 1e6:.1f} MB; read in {seconds:.1f} s")
    faults = [] if read == life.log else ["a cold reader sees another log than the live one saw"]
    if [event.seq for event in read] != list(range(1, len(read) + 1)):
        faults.append("the log is not dense")
    return faults


async def _idle(address: str, worker: WorkerProcess, count: int) -> list[str]:
    runtime = AgentRuntime(await connect_client(address), task_queue=worker.task_queue)
    agent = await _agent(runtime)
    left = iter(range(count))
    sessions: list[SessionHandle] = []

    async def start() -> None:
        for _ in left:
            session = await runtime.start_session(agent)
            await session.send_and_wait(QUESTION)
            sessions.append(session)
            if len(sessions) % max(count // 10, 1) == 0:
                print(f"{len(sessions)} idle sessions: worker {worker.resident_bytes / 1e6:.0f} MB", flush=True)

    await asyncio.gather(*(start() for _ in range(20)))
    rounds = []
    for number in range(1, 5):
        # Each woken session was dropped long ago: it is replayed, and another is dropped.
        for session in sessions[:: max(count // 500, 1)]:
            await session.send_and_wait(QUESTION)
        rounds.append(worker.resident_bytes)
        print(f"round {number} of waking: worker {rounds[-1] / 1e6:.0f} MB", flush=True)
    await runtime.close()
    return [] if rounds[-1] <= rounds[0] * GROWTH else ["the worker's memory grows with each round"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=2000)
    parser.add_argument("--sessions", type=int, default=10_000)
    arguments = parser.parse_args()
    found = asyncio.run(main(arguments.turns, arguments.sessions))
    print("\n".join(f"FAULT: {each}" for each in found) or "no faults")
    raise SystemExit(bool(found))
