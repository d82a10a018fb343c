"""What must be true of a session after everything that was done to it: nothing lost, nothing doubled."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from sojourn.testing.demo import EFFECTIVE_TOOLS, Effect
from sojourn.types import (
    AgentMessage,
    AgentToolResult,
    AgentToolUse,
    EventId,
    ModelRequestStart,
    SessionEvent,
    SessionTerminated,
    UserToolConfirmation,
)
from sojourn.types.event import SessionPaused, SessionResumed, SessionRunning

IDEMPOTENT_TOOL = "reserve_room"
CRASH_TOOLS = (IDEMPOTENT_TOOL, "charge_card")


@dataclass(frozen=True)
class Evidence:
    """What was seen of one session, from several sides."""

    log: Sequence[SessionEvent]
    """Read back whole, at the end."""
    live: Sequence[SessionEvent]
    """Seen as it happened."""
    elsewhere: Sequence[SessionEvent]
    """Seen as it happened by another process."""
    sent: Sequence[EventId]
    """Client events that the server has taken."""
    ledger: Sequence[Effect]
    """What the tools did in the world."""
    previews: Mapping[EventId, str] = field(default_factory=dict)
    """Text as far as it was previewed, by the event it became."""
    late: EventId | None = None
    """The message that was sent while the session was paused."""
    scripted: bool = True
    """Whether the model follows the script; what another does is not foreseen."""


@dataclass(frozen=True)
class Check:
    """One promise, and where it is broken."""

    promise: str
    faults: tuple[str, ...]


def check(evidence: Evidence) -> list[Check]:
    """Hold all promises against what was seen; a promise without faults is kept."""
    promises = {**_ALWAYS, **(_SCRIPTED if evidence.scripted else {})}
    return [Check(promise, tuple(find(evidence))) for promise, find in promises.items()]


def _numbers(evidence: Evidence) -> Iterator[str]:
    numbers = [event.seq for event in evidence.log]
    for wanted, found in enumerate(numbers, start=1):
        if wanted != found:
            yield f"number {found} where {wanted} should be"
            return
    if not numbers:
        yield "the log is empty"


def _identities(evidence: Evidence) -> Iterator[str]:
    for id, count in Counter(event.id for event in evidence.log).items():
        if count > 1 or not id:
            yield f"{count} events have the id {id!r}"


def _user_events(evidence: Evidence) -> Iterator[str]:
    found = Counter(event.id for event in evidence.log if event.type.startswith(("user.", "system.")))
    for id in evidence.sent:
        if found[id] != 1:
            yield f"{id} was sent and is there {found[id]} times"
    for id in found.keys() - set(evidence.sent):
        yield f"{id} is there and was not sent"


def _tool_results(evidence: Evidence) -> Iterator[str]:
    calls = _calls(evidence)
    results = Counter(result.tool_use_id for result in _results(evidence))
    for call in calls.values():
        if results[call.id] != 1:
            yield f"{call.name} {call.id} has {results[call.id]} results"
    for id in results.keys() - calls.keys():
        yield f"there is a result for {id}, which nobody called"


def _effects(evidence: Evidence) -> Iterator[str]:
    calls = _calls(evidence)
    for (name, key), count in Counter((effect.tool, effect.key) for effect in evidence.ledger).items():
        call = calls.get(key)
        if call is None or call.name != name:
            yield f"{name} had an effect under the key {key}, which is no call of it"
        if count > 1 and name != IDEMPOTENT_TOOL:
            yield f"{name} {key} had its effect {count} times"
    done = {effect.key for effect in evidence.ledger}
    for result in _results(evidence):
        name = calls[result.tool_use_id].name if result.tool_use_id in calls else ""
        if result.outcome == "ok" and name in EFFECTIVE_TOOLS and result.tool_use_id not in done:
            yield f"{name} {result.tool_use_id} is reported as done and had no effect"


def _permissions(evidence: Evidence) -> Iterator[str]:
    """A call that asks runs only after somebody allowed it."""
    allowed = {
        event.tool_use_id
        for event in evidence.log
        if isinstance(event, UserToolConfirmation) and event.result == "allow"
    }
    for effect in evidence.ledger:
        call = _calls(evidence).get(effect.key)
        if call is not None and call.evaluated_permission == "ask" and call.id not in allowed:
            yield f"{call.name} {call.id} ran without permission"


def _previews(evidence: Evidence) -> Iterator[str]:
    for message in _messages(evidence):
        shown = evidence.previews.get(message.id, "")
        if not message.text.startswith(shown):
            yield f"the preview of {message.id} ends in {shown[-30:]!r}, which its text does not say"


def _end(evidence: Evidence) -> Iterator[str]:
    places = [place for place, event in enumerate(evidence.log, start=1) if isinstance(event, SessionTerminated)]
    if places != [len(evidence.log)]:
        yield f"of {len(evidence.log)} events, terminal are: {places or 'none'}"


def _same_live(evidence: Evidence) -> Iterator[str]:
    yield from _difference(evidence.log, evidence.live)


def _same_elsewhere(evidence: Evidence) -> Iterator[str]:
    yield from _difference(evidence.log, evidence.elsewhere)


def _approval(evidence: Evidence) -> Iterator[str]:
    asked = [call for call in _calls(evidence).values() if call.evaluated_permission == "ask"]
    if not asked:
        yield "no call asked for permission"
    for call in asked:
        if _outcomes(evidence).get(call.id) != "ok":
            yield f"{call.name} {call.id} was allowed and ended as {_outcomes(evidence).get(call.id)!r}"


def _parallel(evidence: Evidence) -> Iterator[str]:
    tools = [(event.seq, event.name) for event in evidence.log if isinstance(event, AgentToolUse)]
    wanted = {"book_table", "check_weather"}
    if not any(b[0] == a[0] + 1 and {a[1], b[1]} == wanted for a, b in pairwise(tools)):
        yield "weather and table were not called in one step"


def _repeated(evidence: Evidence) -> Iterator[str]:
    effects = [effect for effect in evidence.ledger if effect.tool == IDEMPOTENT_TOOL]
    keys = {effect.key for effect in effects}
    if len(effects) < 2 or len(keys) != 1:
        yield f"{len(effects)} effects under {len(keys)} keys; at least 2 under 1 are expected"
    for key in keys:
        if _outcomes(evidence).get(key) != "ok":
            yield f"its result is {_outcomes(evidence).get(key)!r}"


def _not_repeated(evidence: Evidence) -> Iterator[str]:
    effects = [effect for effect in evidence.ledger if effect.tool == "charge_card"]
    if len(effects) != 1:
        yield f"{len(effects)} effects; exactly 1 is expected"
    for effect in effects:
        if _outcomes(evidence).get(effect.key) != "unknown":
            yield f"its result is {_outcomes(evidence).get(effect.key)!r}"


def _partial_text(evidence: Evidence) -> Iterator[str]:
    kept = [message for message in _messages(evidence) if message.incomplete]
    if len(kept) != 1 or not kept[0].text:
        yield f"{len(kept)} messages are marked as cut short; 1 with text is expected"
    for message in kept:
        if not evidence.previews.get(message.id):
            yield f"{message.id} is not the message that was being previewed"


def _pause(evidence: Evidence) -> Iterator[str]:
    paused = False
    answered = False
    for event in evidence.log:
        match event:
            case SessionPaused():
                paused = True
            case SessionResumed():
                paused = False
            case SessionRunning() | ModelRequestStart() | AgentMessage() if paused:
                yield f"{event.type} ({event.seq}) came while the session was paused"
            case ModelRequestStart() if evidence.late in event.consumed_event_ids:
                answered = True
    if not answered:
        yield f"{evidence.late} was sent during the pause and never answered"


Find = Callable[[Evidence], Iterator[str]]

_ALWAYS: Mapping[str, Find] = {
    "events are numbered from 1 without a gap": _numbers,
    "no event is there twice": _identities,
    "every message and answer that was sent is there exactly once": _user_events,
    "every tool call has exactly one result": _tool_results,
    "nothing in the ledger was done twice, and nothing reported is missing from it": _effects,
    "no tool that needs permission ran without it": _permissions,
    "previews were the beginning of what was said": _previews,
    "nothing ran during the pause, and the message sent then was answered": _pause,
    "the terminal event is the last one": _end,
    "the log read back is the log that was streamed": _same_live,
    "another process streamed the same log": _same_elsewhere,
}
_SCRIPTED: Mapping[str, Find] = {
    "two tools were called in parallel": _parallel,
    "the approved call ran": _approval,
    "the idempotent call was repeated after the crash, with the same key": _repeated,
    "the other one was not: its outcome is unknown": _not_repeated,
    "the interrupted text was kept": _partial_text,
}


def _calls(evidence: Evidence) -> dict[EventId, AgentToolUse]:
    return {event.id: event for event in evidence.log if isinstance(event, AgentToolUse)}


def _results(evidence: Evidence) -> list[AgentToolResult]:
    return [event for event in evidence.log if isinstance(event, AgentToolResult)]


def _outcomes(evidence: Evidence) -> dict[EventId, str]:
    return {result.tool_use_id: result.outcome for result in _results(evidence)}


def _messages(evidence: Evidence) -> list[AgentMessage]:
    return [event for event in evidence.log if isinstance(event, AgentMessage)]


def _difference(log: Sequence[SessionEvent], other: Sequence[SessionEvent]) -> Iterator[str]:
    for ours, theirs in zip(log, other, strict=False):
        if ours.model_dump_json() != theirs.model_dump_json():
            yield f"event {ours.seq} {ours.type} was streamed as {theirs.seq} {theirs.type}"
            return
    if len(log) != len(other):
        yield f"{len(log)} events read, {len(other)} streamed"
