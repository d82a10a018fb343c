"""What must be true of a session after all that was done to it. Pure: evidence in, faults out."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.chaos.journal import Attempt, Death, Effect, Outage, Seen, Sent
from tests.chaos.ledger import DID_NOT_RUN, ledger_faults, read_back
from tests.chaos.plan import SessionPlan
from tests.chaos.reader import digest
from tests.chaos.script import ASKS, REPEATABLE
from tests.chaos.shell import SHELL

from sojourn.testing import log_faults
from sojourn.types import (
    AgentToolResult,
    AgentToolUse,
    ModelRequestStart,
    SessionEvent,
    SessionIdle,
    SessionRunning,
    SessionStatus,
    SessionTerminated,
    UserInterrupt,
    UserMessage,
    UserToolConfirmation,
    text_of,
)
from sojourn.types.event import SessionPaused, SessionResumed

SILENCE = 2.0
"""Seconds without a heartbeat after which a server that was away may count an activity as lost."""


@dataclass(frozen=True)
class Evidence:
    """What was seen of one session, from every side."""

    plan: SessionPlan
    log: Sequence[SessionEvent]
    """Read back whole, at the end."""
    counted: int
    """How many events the workflow itself has counted."""
    status: SessionStatus
    finished: bool = True
    """Whether the client's script came to its end."""
    sent: Sequence[Sent] = ()
    """The client's journal."""
    effects: Sequence[Effect] = ()
    """The ledger."""
    seen: Mapping[str, Sequence[Seen]] = field(default_factory=dict)
    """What each reader wrote down."""
    attempts: Sequence[Attempt] = ()
    deaths: Sequence[Death] = ()
    outages: Sequence[Outage] = ()


def faults(evidence: Evidence) -> list[str]:
    """Every promise that was broken; nothing for a sound session."""
    return [fault for find in _PROMISES for fault in find(evidence)]


def _log(evidence: Evidence) -> Iterator[str]:
    yield from log_faults(evidence.log)
    if evidence.counted != len(evidence.log):
        yield f"the workflow has counted {evidence.counted} events, the log has {len(evidence.log)}"


def _end(evidence: Evidence) -> Iterator[str]:
    archived = any(move.kind == "archive" for move in evidence.plan.moves)
    wanted = SessionStatus.ARCHIVED if archived else SessionStatus.IDLE
    if not evidence.finished:
        yield f"the session is stuck: its script did not come to its end, its status is {evidence.status.value}"
    elif evidence.status is not wanted:
        yield f"the session is {evidence.status.value}, not {wanted.value}"
    if archived and not (evidence.log and isinstance(evidence.log[-1], SessionTerminated)):
        yield "the log of an archived session does not end with the terminal event"


def _user_events(evidence: Evidence) -> Iterator[str]:
    stored = [event.id for event in evidence.log if event.type.startswith(("user.", "system."))]
    found, states = Counter[str](stored), {line.id: line.state for line in evidence.sent}
    for id, state in states.items():
        if found[id] > 1:
            yield f"the user event {id} is in the log {found[id]} times"
        if state == "accepted" and not found[id]:
            yield f"the user event {id} was accepted and is lost"
        if state == "intent" and evidence.finished:
            yield f"nobody told the client what became of {id}"
    for id in found.keys() - states.keys():
        yield f"the user event {id} is in the log and nobody sent it"
    order = [id for id in dict.fromkeys(line.id for line in evidence.sent) if found[id]]
    if order != list(dict.fromkeys(id for id in stored if id in states)):
        yield "the user events are in another order than they were sent in"


def _turns(evidence: Evidence) -> Iterator[str]:
    """Every message has its turn, once, in order, and is shown to the model once."""
    messages = [event.id for event in evidence.log if isinstance(event, UserMessage)]
    begun = [event.user_event_id for event in evidence.log if isinstance(event, SessionRunning) and event.user_event_id]
    if begun != messages[: len(begun)]:
        yield "turns began in another order than their messages came in, or twice"
    ended = any(isinstance(event, SessionTerminated) for event in evidence.log)
    if evidence.finished and not ended and len(begun) != len(messages):
        yield f"{len(messages)} messages had {len(begun)} turns"
    consumed = Counter(
        id for event in evidence.log if isinstance(event, ModelRequestStart) for id in event.consumed_event_ids
    )
    for id, count in consumed.items():
        if count > 1:
            yield f"the event {id} was shown to the model as new {count} times"


def _effects(evidence: Evidence) -> Iterator[str]:
    calls = {event.id: event for event in evidence.log if isinstance(event, AgentToolUse)}
    done = Counter((effect.tool, effect.key) for effect in evidence.effects)
    for (tool, key), count in done.items():
        call = calls.get(key)  # type: ignore[call-overload]
        if call is None or call.name != tool:
            yield f"{tool} had an effect under the key {key}, which is no call of it"
        if count > 1 and tool not in REPEATABLE:
            yield f"{tool} {key} had its effect {count} times"
    for result in _results(evidence):
        call = calls.get(result.tool_use_id)
        if call is None:
            continue
        count = done[(call.name, call.id)]
        if result.outcome == "ok" and not count:
            yield f"{call.name} {call.id} is reported as done and had no effect"
        if result.outcome == "denied" and count:
            yield f"{call.name} {call.id} was denied and had its effect"
        if result.outcome in ("error", "timed_out") and not (call.name == SHELL and _homeless(evidence, call, result)):
            yield f"{call.name} {call.id} ended as {result.outcome!r}, which no tool here does"


def _homeless(evidence: Evidence, call: AgentToolUse, result: AgentToolResult) -> bool:
    """Whether a command did not go anywhere, because workers died or the server was away again and again."""
    assert call.processed_at is not None
    assert result.processed_at is not None
    since, until = call.processed_at.timestamp() - 1, result.processed_at.timestamp() + 1
    lost = any(death.role == "worker" and since <= death.at <= until for death in evidence.deaths)
    away = any(outage.began <= until and outage.ended >= since for outage in evidence.outages)
    sent = any(effect.key == call.id for effect in evidence.effects)
    return DID_NOT_RUN in text_of(result.content) and (lost or away) and not sent


def _ledger(evidence: Evidence) -> Iterator[str]:
    """What the shell's commands did is in the workspace, once."""
    yield from ledger_faults(evidence.log)
    if evidence.plan.shell and evidence.finished and not read_back(evidence.log):
        yield "the ledger of the workspace was not read after the last command"


def _interrupts(evidence: Evidence) -> Iterator[str]:
    for result in _results(evidence):
        before = evidence.log[: result.seq]
        asked = any(isinstance(event, UserInterrupt) for event in before) or _archives(evidence)
        if result.outcome == "interrupted" and not asked:
            yield f"the call {result.tool_use_id} was interrupted and nobody wanted it"


def _unknown(evidence: Evidence) -> Iterator[str]:
    """An outcome is unknown only where the worker of the call died, or the server was away."""
    calls = {event.id: event for event in evidence.log if isinstance(event, AgentToolUse)}
    for result in _results(evidence):
        if result.outcome != "unknown":
            continue
        attempts = [each for each in evidence.attempts if each.id == result.tool_use_id and each.begun]
        call = calls.get(result.tool_use_id)
        if call is not None and call.name in REPEATABLE:
            yield f"{call.name} {call.id} may be repeated and was given up"
        if (
            attempts
            and result.processed_at is not None
            and not lost(evidence, attempts, result.processed_at.timestamp())
        ):
            yield f"the outcome of {result.tool_use_id} is unknown, and neither its worker nor the server was lost"


def lost(evidence: Evidence, attempts: Sequence[Attempt], until: float) -> bool:
    """Whether the worker of an attempt died, or the server was away, while it may have run."""
    first = min(each.at for each in attempts)
    pids = {each.pid for each in attempts}
    died = any(death.pid in pids and death.at <= until + 1 for death in evidence.deaths)
    return died or any(outage.began <= until and outage.ended + SILENCE >= first for outage in evidence.outages)


def _permissions(evidence: Evidence) -> Iterator[str]:
    """A call that asks runs only after somebody allowed it."""
    allowed = {
        event.tool_use_id
        for event in evidence.log
        if isinstance(event, UserToolConfirmation) and event.result == "allow"
    }
    for effect in evidence.effects:
        if effect.tool == ASKS and effect.key not in allowed:
            yield f"{effect.tool} {effect.key} ran without permission"


def _pause(evidence: Evidence) -> Iterator[str]:
    paused = False
    for event in evidence.log:
        match event:
            case SessionPaused():
                paused = True
            case SessionResumed():
                paused = False
            case ModelRequestStart() if paused:
                yield f"the model step {event.seq} began while the session was paused"
            case _:
                continue


def _readers(evidence: Evidence) -> Iterator[str]:
    for name, seen in evidence.seen.items():
        yield from _reader(evidence, name, seen)


def _reader(evidence: Evidence, name: str, seen: Sequence[Seen]) -> Iterator[str]:
    for place, line in enumerate(seen, start=1):
        if line.seq != place:
            what = "again" if line.seq < place else "too early"
            yield f"reader {name} saw event {line.seq} {what}, where {place} should be"
            return
    for event, line in zip(evidence.log, seen, strict=False):
        if (event.id, event.type, digest(event)) != (line.id, line.type, line.digest):
            yield f"reader {name} saw event {event.seq} {event.type} as {line.type} {line.id}, or with other content"
            return
    if len(seen) != len(evidence.log):
        yield f"reader {name} saw {len(seen)} of {len(evidence.log)} events"


def _results(evidence: Evidence) -> list[AgentToolResult]:
    return [event for event in evidence.log if isinstance(event, AgentToolResult)]


def _archives(evidence: Evidence) -> bool:
    return any(move.kind == "archive" for move in evidence.plan.moves) and any(
        isinstance(event, SessionTerminated) for event in evidence.log
    )


def at_rest(log: Sequence[SessionEvent]) -> bool:
    """Whether nothing more is to come without a client."""
    return bool(log) and isinstance(log[-1], SessionTerminated | SessionIdle)


_PROMISES: tuple[Callable[[Evidence], Iterator[str]], ...] = (
    _log,
    _end,
    _user_events,
    _turns,
    _effects,
    _ledger,
    _interrupts,
    _unknown,
    _permissions,
    _pause,
    _readers,
)
