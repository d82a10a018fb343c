"""The figures of a campaign: for people, and as JSON."""

import json
import os
import platform
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tests.chaos.campaign import Outcome
from tests.chaos.check import Evidence
from tests.chaos.journal import Death, Outage
from tests.chaos.ledger import MOVED
from tests.chaos.shell import SHELL, written

from sojourn.types import AgentToolResult, AgentToolUse
from sojourn.types.event import SessionErrorEvent

BOUND = 60.0
"""Seconds after which a session that did not move is not counted as recovered: it waits for its client."""


def recoveries(outcome: Outcome) -> dict[str, list[float]]:
    """Seconds from the death of a worker until each session that it was serving went on.

    A session was served if one of its activities ran on that worker, or the worker died in its workflow task. It goes
    on with the next event of its log or the next attempt of one of its activities. Deaths with the server away are
    left out: they tell how long the server was away.

    Returns:
        The times by what the worker was doing for the session: ``call`` or ``task``.
    """
    found: dict[str, list[float]] = {"call": [], "task": []}
    for evidence in outcome.evidence:
        moves = _moves(evidence)
        for death in outcome.deaths:
            doing = _doing(evidence, death)
            if doing is None or _away(death, outcome.outages):
                continue
            place = bisect_right(moves, death.at)
            if place < len(moves) and moves[place] - death.at < BOUND:
                found[doing].append(moves[place] - death.at)
    return found


def _moves(evidence: Evidence) -> list[float]:
    logged = [event.processed_at.timestamp() for event in evidence.log if event.processed_at is not None]
    return sorted([*logged, *(each.at for each in evidence.attempts if each.begun)])


def _doing(evidence: Evidence, death: Death) -> str | None:
    """What a worker that was killed outright was doing for the session."""
    if death.role != "worker" or death.signal != "KILL":
        return None
    mine = [each for each in evidence.attempts if each.pid == death.pid and each.at <= death.at]
    ended = {(each.id, each.attempt) for each in mine if not each.begun}
    if any(each.begun and (each.id, each.attempt) not in ended for each in mine):
        return "call"
    return "task" if death.session == evidence.plan.id and death.point.startswith("task.") else None


def _away(death: Death, outages: Sequence[Outage]) -> bool:
    return any(outage.began - 5 <= death.at <= outage.ended + 5 for outage in outages)


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The value that so many percent do not exceed."""
    ordered = sorted(values)
    return round(ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)], 3) if ordered else None


def figures(outcome: Outcome) -> dict[str, object]:
    """Everything worth knowing, as it goes into the JSON file."""
    results = [each for evidence in outcome.evidence for each in evidence.log if isinstance(each, AgentToolResult)]
    sent = [line for evidence in outcome.evidence for line in evidence.sent]
    times = recoveries(outcome)
    errors = [each for evidence in outcome.evidence for each in evidence.log if isinstance(each, SessionErrorEvent)]
    commands = [each for evidence in outcome.evidence for each in commands_of(evidence)]
    return {
        "seed": outcome.seed,
        "seconds": round(outcome.seconds, 1),
        "machine": {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()},
        "kills": len({death.pid for death in outcome.deaths}),
        "signals_by_role": dict(Counter(f"{death.role} SIG{death.signal}" for death in outcome.deaths)),
        "kills_by_step": dict(sorted(Counter(death.point for death in outcome.deaths if death.point).items())),
        "sessions": len(outcome.evidence),
        "events": sum(len(evidence.log) for evidence in outcome.evidence),
        "events_by_readers": sum(len(seen) for evidence in outcome.evidence for seen in evidence.seen.values()),
        "user_events": len({line.id for line in sent if line.state == "accepted"}),
        "tool_calls": len(results),
        "effects": sum(len(evidence.effects) for evidence in outcome.evidence),
        "outcomes": dict(Counter(result.outcome for result in results)),
        "shell": outcome.shell,
        "commands": {
            "calls": len(commands),
            "readings": sum(not written(each.use.input.get("command")) for each in commands),
            **Counter(each.outcome for each in commands),
            "killed": sum(each.killed for each in commands),
            "moves": sum(each.error.type == MOVED for each in errors),
            "most processes": outcome.sandboxed,
        },
        "findings": [{"session": finding.session, "text": finding.text} for finding in outcome.findings],
        "recovery": {
            name: {
                "count": len(each),
                "p50": percentile(each, 50),
                "p95": percentile(each, 95),
                "max": percentile(each, 100),
            }
            for name, each in (("all", times["call"] + times["task"]), ("call", times["call"]), ("task", times["task"]))
        },
        "outages": {
            "count": len(outcome.outages),
            "p50": percentile([outage.ended - outage.began for outage in outcome.outages], 50),
        },
    }


@dataclass(frozen=True)
class Command:
    """A command of the shell."""

    use: AgentToolUse
    outcome: str
    killed: bool
    """Whether its worker was killed while it was in the sandbox."""


def commands_of(evidence: Evidence) -> Iterator[Command]:
    """The commands of a session."""
    results = {each.tool_use_id: each for each in evidence.log if isinstance(each, AgentToolResult)}
    sent = {effect.key: effect for effect in evidence.effects if effect.tool == SHELL}
    ended = {each.id: each.at for each in evidence.attempts if not each.begun}
    for use in evidence.log:
        if isinstance(use, AgentToolUse) and use.name == SHELL:
            effect, end = sent.get(use.id), ended.get(use.id, float("inf"))
            killed = effect is not None and any(
                death.pid == effect.pid and effect.at <= death.at <= end for death in evidence.deaths
            )
            yield Command(use, results[use.id].outcome if use.id in results else "none", killed)


def write(path: Path, found: dict[str, object]) -> None:
    """Store the figures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=2) + "\n")


def show(console: Console, found: dict[str, object]) -> None:
    """Print them."""
    table = Table("", "", title="Chaos", title_justify="left", show_header=False)
    for name, value in found.items():
        if name not in ("findings", "machine"):
            table.add_row(name.replace("_", " "), _cell(value))
    console.print(table)


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{name}: {_inline(each)}" for name, each in value.items())
    return str(value)


def _inline(value: object) -> str:
    return "  ".join(f"{name} {each}" for name, each in value.items()) if isinstance(value, dict) else str(value)
