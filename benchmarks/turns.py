"""New sessions of one turn each (two model steps, one tool call): how many a second, how fast, for how much work."""

import asyncio
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter

from process import Process, server_process, this_process
from report import Row, Table, milliseconds, percentile, spread
from setting import Pair, Setting, pair
from talk import Side


@dataclass
class Tally:
    """What one side did at one load."""

    replies: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    """Turns a second, round by round."""
    cpu: dict[str, float] = field(default_factory=lambda: {"server": 0.0, "worker": 0.0, "client": 0.0})

    def cpu_a_turn(self, who: str) -> float:
        """Seconds of processor time."""
        return self.cpu[who] / max(len(self.replies), 1)


async def run(setting: Setting) -> Table:
    loads = {
        1: (setting.pick(8, 3, 1), setting.pick(20, 15, 2)),
        20: (setting.pick(8, 3, 1), setting.pick(100, 60, 4)),
        100: (setting.pick(6, 3, 1), setting.pick(200, 150, 8)),
    }
    rows: list[Row] = []
    async with pair(setting.address) as both:
        for side in (both.ours, both.raw):
            await _sessions(side, 20, at_once=10)
        for at_once, (rounds, sessions) in loads.items():
            ours, raw = Tally(), Tally()
            for number in range(rounds):
                setting.say(f"{at_once} at a time, round {number + 1} of {rounds}")
                # Whoever goes first in a round goes second in the next: noise and warmth cancel.
                order = [(both.ours, ours), (both.raw, raw)]
                for side, tally in order if number % 2 == 0 else reversed(order):
                    await _round(both, side, tally, sessions=sessions, at_once=at_once)
            rows += _rows(at_once, ours, raw)
    return Table(
        "turns",
        "1. One-turn sessions: 2 model steps + 1 tool call, constant answers",
        rows,
        (
            "raw is a hand-written minimal workflow (benchmarks/raw.py) that does the same work on the same server in"
            " the same run; it has no event log, status, search attributes, streaming, permissions or continue-as-new.",
            "Both start by signal-with-start, both replies are seen over a history long poll; a turn counts when it is"
            " over (ours: session.status_idle; raw: the workflow task after the answer).",
            "The ratio of rates is the median over interleaved rounds. One embedded server bounds both.",
        ),
    )


async def _round(both: Pair, side: Side, tally: Tally, *, sessions: int, at_once: int) -> None:
    # The tails of the other side's sessions linger for five seconds in our client.
    worker = both.our_worker if side is both.ours else both.raw_worker
    watched: dict[str, Process] = {"server": server_process(), "worker": worker, "client": this_process()}
    before = {who: each.cpu_seconds for who, each in watched.items()}
    began = perf_counter()
    tally.replies += await _sessions(side, sessions, at_once=at_once)
    tally.rates.append(sessions / (perf_counter() - began))
    for who, each in watched.items():
        tally.cpu[who] += each.cpu_seconds - before[who]


async def _sessions(side: Side, count: int, *, at_once: int) -> list[float]:
    """Run so many sessions, never more than so many at a time; the seconds each took to reply."""
    left = iter(range(count))
    replies: list[float] = []

    async def caller() -> None:
        for _ in left:
            talk = side.talk()
            replies.append(await talk.start())
            await talk.close()

    async with asyncio.TaskGroup() as callers:
        for _ in range(at_once):
            callers.create_task(caller())
    return replies


def _rows(at_once: int, ours: Tally, raw: Tally) -> list[Row]:
    ratio = median(mine / its for mine, its in zip(ours.rates, raw.rates, strict=True))
    rate = Row(
        f"{at_once} at a time: turns/s",
        f"{median(ours.rates):.1f}",
        f"{median(raw.rates):.1f}",
        f"{ratio:.2f}",
        "≥ 0.85",
        ratio >= 0.85,
        {"ours": median(ours.rates), "raw": median(raw.rates), "ratio": ratio},
    )
    slower = percentile(ours.replies, 50) / percentile(raw.replies, 50)
    latency = Row(
        f"{at_once} at a time: message → reply, p50 / p95",
        spread(ours.replies),
        spread(raw.replies),
        f"{slower:.2f}",
        figures={
            f"{name}_p{percent}": percentile(tally.replies, percent)
            for name, tally in (("ours", ours), ("raw", raw))
            for percent in (50, 95)
        },
    )
    who = ("server", "worker", "client")
    spent = [sum(tally.cpu.values()) / max(len(tally.replies), 1) for tally in (ours, raw)]
    cpu = Row(
        f"{at_once} at a time: CPU a turn, server / worker / client",
        milliseconds(*(ours.cpu_a_turn(each) for each in who)),
        milliseconds(*(raw.cpu_a_turn(each) for each in who)),
        f"{spent[0] / spent[1]:.2f}" if spent[1] else "",
        figures={f"ours_{each}": ours.cpu_a_turn(each) for each in who}
        | {f"raw_{each}": raw.cpu_a_turn(each) for each in who},
    )
    return [rate, latency, cpu]
