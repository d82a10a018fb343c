"""A conversation that never ends: bytes of history a turn and the length of requests, with and without compaction.

``python benchmarks/compaction.py [TURNS]``. Not one of the benchmarks with an aim, so `run.py` does not know it.
"""

import asyncio
import sys
from dataclasses import dataclass, field
from datetime import timedelta

from history import Chain, Mark

from sojourn.activities.estimate import tokens_of
from sojourn.activities.model import ModelRequest
from sojourn.client import AgentRuntime
from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import AgentDefinition, Compaction, ContextCompacted, Owner, Usage
from sojourn.worker import SojournWorker, WorkerOptions, embedded_server

WINDOW = 20_000
PAGE = "A page that the tool has read. " * 130
"""About 1,000 tokens."""


async def read(page: int) -> str:
    """Read a page."""
    return f"{page}: {PAGE}"


@dataclass
class Reader:
    """A model that reads a page in each turn and counts what it is shown."""

    requests: list[int] = field(default_factory=list)

    def __call__(self, request: ModelRequest) -> ScriptedTurn:
        needed = sum(map(tokens_of, request.messages))
        self.requests.append(needed)
        usage = Usage(input_tokens=needed, output_tokens=20)
        if request.step % 2:
            return ScriptedTurn(text=f"I have read page {request.step // 2}.", usage=usage)
        return ScriptedTurn(calls=[ScriptedCall("read", {"page": request.step // 2})], usage=usage)


def summarize(request: ModelRequest) -> ScriptedTurn:
    """A summary as long as real ones are."""
    return ScriptedTurn(text="What was read before. " * 100)


async def converse(runtime: AgentRuntime, reader: Reader, name: str, turns: int) -> None:
    settings = Compaction(enabled=name == "compacted", window_tokens=WINDOW)
    definition = AgentDefinition(name=name, model=f"scripted:{name}", tools=["read"], compaction=settings)
    session = await runtime.start_session(await runtime.create(definition))
    chain = Chain(runtime.client, f"{session.owner.workspace}/{session.id}")
    marks: list[Mark] = []
    for turn in range(1, turns + 1):
        await session.send_and_wait(f"Read page {turn}.")
        if turn % (turns // 5) == 0:
            marks.append(await chain.mark())
    compactions = sum(isinstance(event, ContextCompacted) for event in await runtime.list_events(session))
    print(f"\n{name}: {turns} turns, {compactions} compactions, {chain.runs} runs")
    step = turns // 5
    for number, (before, after) in enumerate(zip([Mark(0, 0), *marks], marks, strict=False)):
        part = reader.requests[number * step * 2 : (number + 1) * step * 2]
        print(
            f"  turns {number * step + 1:>4} to {(number + 1) * step:>4}: "
            f"{(after.size_bytes - before.size_bytes) / step:>8,.0f} bytes, "
            f"{(after.events - before.events) / step:>5.1f} events a turn; "
            f"requests of {sum(part) / len(part):>8,.0f} tokens on average, {max(part):>8,} at most"
        )


async def main(turns: int) -> None:
    readers = {"compacted": Reader(), "whole": Reader()}
    scripts = {**readers, "compacted/compaction": summarize}
    options = WorkerOptions(graceful_shutdown=timedelta(0))
    async with (
        embedded_server() as server,
        SojournWorker(server.client, tools=[read], scripts=scripts, options=options),
    ):
        runtime = AgentRuntime(server.client, owner=Owner("bench", "ada"))
        for name, reader in readers.items():
            await converse(runtime, reader, name, turns)
        await runtime.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
