"""Idle sessions: the worker's memory for each that stays resident, and the time to wake one that did not."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from process import WorkerProcess
from report import Row, Table, percentile, spread
from setting import Setting, pair
from talk import Side, Talk

WARM_UP = 100
"""Sessions before the first look, so that pools and caches have their size."""
SMALL_CACHE = 20


@dataclass
class Wakes:
    """Seconds from a message to its reply."""

    resident: list[float] = field(default_factory=list)
    evicted: list[float] = field(default_factory=list)
    evicted_long: list[float] = field(default_factory=list)


async def run(setting: Setting) -> Table:
    count = setting.pick(1000, 300, 10)
    async with pair(setting.address) as both:
        setting.say(f"{count} sessions of sojourn")
        ours = await _resident_bytes(both.ours, both.our_worker, count)
        setting.say(f"{count} sessions of raw")
        raw = await _resident_bytes(both.raw, both.raw_worker, count)
    # More fillers than a worker keeps logs of, so that neither workflow nor log of an evicted session is at hand.
    fillers, turns = setting.pick(300, 300, 25), setting.pick(50, 25, 2)
    async with pair(setting.address, cached=SMALL_CACHE) as both:
        setting.say("waking evicted sessions of sojourn")
        our_wakes = await _wakes(both.ours, fillers, turns)
        setting.say("waking evicted sessions of raw")
        raw_wakes = await _wakes(both.raw, fillers, turns)
    memory = Row(
        f"worker memory for each of {count} idle sessions after one turn",
        f"{ours / 1000:.0f} KB",
        f"{raw / 1000:.0f} KB",
        f"{ours / raw:.2f}" if raw > 0 else "",
        figures={"ours": ours, "raw": raw},
    )
    rows = [memory, *_wake_rows(our_wakes, raw_wakes, turns)]
    return Table("memory", "5. Idle sessions in a worker", rows, ("A wake is a whole turn: message → reply.",))


async def _resident_bytes(side: Side, worker: WorkerProcess, count: int) -> float:
    await _begin(side, WARM_UP)
    await asyncio.sleep(1)
    before = worker.resident_bytes
    await _begin(side, count)
    await asyncio.sleep(1)
    return (worker.resident_bytes - before) / count


async def _begin(side: Side, count: int) -> list[Talk]:
    """So many sessions with one turn, ten at a time."""
    talks: list[Talk] = [side.talk() for _ in range(count)]
    left = iter(talks)

    async def caller() -> None:
        for talk in left:
            await talk.start()

    async with asyncio.TaskGroup() as callers:
        for _ in range(10):
            callers.create_task(caller())
    for talk in talks:
        await talk.close()
    return talks


async def _wakes(side: Side, fillers: int, turns: int) -> Wakes:
    wakes = Wakes()
    long: list[Talk] = [side.talk() for _ in range(5)]
    for talk in long:
        await talk.start()
        for _ in range(turns - 1):
            await talk.turn()
    short = [side.talk() for _ in range(fillers)]
    for talk in short:
        await talk.start()
    # Nobody watches the others: what is measured is the worker, not three hundred subscribers.
    await _close(short[60:])
    await asyncio.sleep(6)
    for talk in short[:60]:
        wakes.evicted.append(await talk.turn())
        # Now it is resident.
        wakes.resident.append(await talk.turn())
    for talk in long:
        wakes.evicted_long.append(await talk.turn())
    await _close([*long, *short])
    return wakes


async def _close(talks: Sequence[Talk]) -> None:
    for talk in talks:
        await talk.close()


def _wake_rows(ours: Wakes, raw: Wakes, turns: int) -> list[Row]:
    kinds = {
        "resident": (ours.resident, raw.resident),
        "evicted, after 2 turns": (ours.evicted, raw.evicted),
        f"evicted, after {turns} turns": (ours.evicted_long, raw.evicted_long),
    }
    return [
        Row(
            f"turn of a session that is {name}: p50 / p95",
            spread(mine),
            spread(its),
            f"{percentile(mine, 50) / percentile(its, 50):.2f}",
            figures={"ours_p50": percentile(mine, 50), "raw_p50": percentile(its, 50)},
        )
        for name, (mine, its) in kinds.items()
    ]
