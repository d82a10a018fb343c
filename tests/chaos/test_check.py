"""A judge that finds nothing must be able to find something: each kind of evidence, spoilt in each way."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tests.chaos.check import Evidence, faults
from tests.chaos.journal import Attempt, Death, Effect, Outage, Seen, Sent
from tests.chaos.plan import Move, SessionPlan
from tests.chaos.reader import digest
from tests.chaos.script import Order

from sojourn.types import (
    AgentMessage,
    AgentToolResult,
    AgentToolUse,
    EndTurn,
    Event,
    EventId,
    ModelRequestEnd,
    ModelRequestStart,
    SessionEvent,
    SessionIdle,
    SessionRunning,
    SessionStatus,
    SessionTerminated,
    SessionUsage,
    TextBlock,
    Usage,
    UserMessage,
    UserToolConfirmation,
)
from sojourn.types.event import SessionPaused, SystemMessage

SESSION = "chaos-1"
START = 1_700_000_000.0
PID, OTHER = 10, 11

_RESULTS = {"once": "ok", "lost": "unknown", "again": "ok", "asked": "ok", "denied": "denied"}
_TOOLS = {"once": "charge", "lost": "post", "again": "reserve", "asked": "wire", "denied": "destroy"}


def _events() -> list[SessionEvent]:
    uses = [
        AgentToolUse(
            id=EventId(id),
            name=name,
            input={},
            evaluated_permission={"wire": "ask", "destroy": "deny"}.get(name, "allow"),  # type: ignore[arg-type]
        )
        for id, name in _TOOLS.items()
    ]
    results = [
        AgentToolResult(tool_use_id=EventId(id), outcome=outcome, is_error=outcome != "ok")  # type: ignore[arg-type]
        for id, outcome in _RESULTS.items()
    ]
    usage = SessionUsage(usage=Usage(), turn=Usage())
    return [
        UserMessage.text("go", id="m1"),
        SystemMessage(id=EventId("s1"), content=(TextBlock(text="be brief"),)),
        SessionRunning(user_event_id=EventId("m1")),
        ModelRequestStart(id=EventId("step"), consumed_event_ids=(EventId("m1"),)),
        AgentMessage(content=(TextBlock(text="I go"),)),
        *uses,
        ModelRequestEnd(model_request_start_id=EventId("step")),
        UserToolConfirmation(id=EventId("a1"), tool_use_id=EventId("asked"), result="allow"),
        *results,
        usage,
        SessionIdle(stop_reason=EndTurn()),
        SessionTerminated(status=SessionStatus.ARCHIVED),
    ]


def _log(events: Sequence[SessionEvent]) -> list[SessionEvent]:
    return [
        event.model_copy(
            update={
                "seq": place,
                "id": event.id or f"e{place}",
                "processed_at": datetime.fromtimestamp(START + place, UTC),
            }
        )
        for place, event in enumerate(events, start=1)
    ]


def _seen(log: Sequence[SessionEvent]) -> list[Seen]:
    return [Seen(seq=each.seq, id=each.id, type=each.type, digest=digest(each), at=START) for each in log]


def _effect(id: str, attempt: int = 1) -> Effect:
    return Effect(session=SESSION, tool=_TOOLS[id], key=id, attempt=attempt, pid=PID, at=START)


def _attempt(id: str, *, pid: int = PID, attempt: int = 1) -> Attempt:
    return Attempt(session=SESSION, activity="run_tool", id=id, attempt=attempt, begun=True, pid=pid, at=START + 5)


def _sound(events: Sequence[SessionEvent] | None = None) -> Evidence:
    """A session that lost a worker in the middle of two calls, as it should look."""
    log = _log(_events() if events is None else events)
    sent = [Sent(id=id, state=state) for id in ("m1", "s1", "a1") for state in ("intent", "accepted")]
    moves = (Move(kind="say", order=Order()), Move(kind="system"), Move(kind="archive"))
    return Evidence(
        plan=SessionPlan(id=SESSION, moves=moves, first=False, max_events=20, early=False),
        log=log,
        counted=len(log),
        status=SessionStatus.ARCHIVED,
        sent=sent,
        effects=[_effect("once"), _effect("lost"), _effect("again"), _effect("again", 2), _effect("asked")],
        seen={"one": _seen(log), "two": _seen(log)},
        attempts=[_attempt(id) for id in ("once", "lost", "again", "asked")],
        deaths=[Death(role="worker", point="", signal="KILL", pid=PID, at=START + 6)],
    )


def _without(kind: type[Event], place: int = 0) -> list[SessionEvent]:
    events = _events()
    events.remove([event for event in events if isinstance(event, kind)][place])
    return events


def _replaced(evidence: Evidence, place: int, **update: object) -> Evidence:
    log = list(evidence.log)
    log[place] = log[place].model_copy(update=update)
    return replace(evidence, log=log)


def _outcome(id: str, outcome: str) -> Evidence:
    events = [
        event.model_copy(update={"outcome": outcome})
        if isinstance(event, AgentToolResult) and event.tool_use_id == id
        else event
        for event in _events()
    ]
    return _sound(events)


def _reader(spoil: Callable[[list[Seen]], object]) -> Evidence:
    sound = _sound()
    lines = list(sound.seen["two"])
    spoil(lines)
    return replace(sound, seen={**sound.seen, "two": lines})


def _twice(events: list[SessionEvent], place: int) -> list[SessionEvent]:
    return [*events[: place + 1], events[place].model_copy(update={"id": EventId("")}), *events[place + 1 :]]


_SPOILT: dict[str, tuple[Callable[[], Evidence], str]] = {
    "a gap in the numbers": (lambda: _replaced(_sound(), 5, seq=7), "has the number 7 where 6 should be"),
    "an id twice": (lambda: _replaced(_sound(), 5, id="m1"), "events have the id 'm1'"),
    "a miscount": (lambda: replace(_sound(), counted=3), "the workflow has counted 3 events"),
    "an event after the end": (lambda: _sound([*_events(), *_events()[-3:-1]]), "follow the terminal event"),
    "no terminal event": (lambda: _sound(_events()[:-1]), "does not end with the terminal event"),
    "a stuck session": (lambda: replace(_sound(), finished=False), "the session is stuck"),
    "a session that still runs": (lambda: replace(_sound(), status=SessionStatus.RUNNING), "is running, not archived"),
    "a lost message": (lambda: _sound(_without(UserMessage)), "m1 was accepted and is lost"),
    "a lost answer": (lambda: _sound(_without(UserToolConfirmation)), "a1 was accepted and is lost"),
    "a doubled message": (lambda: _sound([_events()[0], *_events()]), "m1 is in the log 2 times"),
    "a foreign message": (lambda: replace(_sound(), sent=_sound().sent[2:]), "m1 is in the log and nobody sent it"),
    "an unknown fate": (
        lambda: replace(_sound(), sent=[*_sound().sent, Sent(id="x", state="intent")]),
        "nobody told the client what became of x",
    ),
    "a wrong order": (lambda: _sound([_events()[1], _events()[0], *_events()[2:]]), "in another order"),
    "a message without a turn": (
        lambda: replace(_sound(_without(SessionRunning)[:-1]), status=SessionStatus.IDLE),
        "1 messages had 0 turns",
    ),
    "a second turn": (lambda: _sound(_twice(_events(), 2)), "turns began in another order"),
    "a message shown twice": (
        lambda: _sound([*_events()[:4], *_events()[3:4], *_events()[4:]]),
        "was shown to the model as new 2 times",
    ),
    "a call without a result": (lambda: _sound(_without(AgentToolResult)), "charge once has no result"),
    "a call with two results": (
        lambda: _sound([*_events()[:-3], AgentToolResult(tool_use_id=EventId("once")), *_events()[-3:]]),
        "charge once has 2 results",
    ),
    "a result without a call": (lambda: _sound(_without(AgentToolUse)), "a result for once, which nobody called"),
    "a repeated effect": (
        lambda: replace(_sound(), effects=[*_sound().effects, _effect("once", 2)]),
        "charge once had its effect 2 times",
    ),
    "an effect of no call": (
        lambda: replace(_sound(), effects=[*_sound().effects, _effect("once").model_copy(update={"key": "x"})]),
        "under the key x, which is no call of it",
    ),
    "a result without an effect": (
        lambda: replace(_sound(), effects=[each for each in _sound().effects if each.key != "again"]),
        "reserve again is reported as done and had no effect",
    ),
    "an effect of a denied call": (
        lambda: replace(_sound(), effects=[*_sound().effects, _effect("denied")]),
        "destroy denied was denied and had its effect",
    ),
    "an error of a sound tool": (lambda: _outcome("once", "error"), "ended as 'error'"),
    "an interrupt that nobody sent": (
        lambda: replace(_outcome("once", "interrupted"), plan=_sound().plan.model_copy(update={"moves": ()})),
        "was interrupted and nobody wanted it",
    ),
    "an unknown outcome with a living worker": (
        lambda: replace(_sound(), deaths=[]),
        "neither its worker nor the server was lost",
    ),
    "a repeatable call given up": (lambda: _outcome("again", "unknown"), "may be repeated and was given up"),
    "an effect without permission": (
        lambda: replace(_sound(_without(UserToolConfirmation)), sent=_sound().sent[:4]),
        "wire asked ran without permission",
    ),
    "a step during a pause": (
        lambda: _sound([*_events()[:3], SessionPaused(), *_events()[3:]]),
        "began while the session was paused",
    ),
    "a reader that lost an event": (lambda: _reader(lambda lines: lines.pop(4)), "too early"),
    "a reader that saw one twice": (lambda: _reader(lambda lines: lines.insert(4, lines[3])), "again"),
    "a reader that fell behind": (lambda: _reader(lambda lines: lines.pop()), "saw 19 of 20 events"),
    "a reader that saw another text": (
        lambda: _reader(lambda lines: lines.__setitem__(4, lines[4].model_copy(update={"digest": "x"}))),
        "or with other content",
    ),
}


def test_a_sound_session_has_no_faults() -> None:
    assert faults(_sound()) == []


@pytest.mark.parametrize("name", _SPOILT)
def test_the_judge_finds(name: str) -> None:
    spoilt, wanted = _SPOILT[name]

    found = faults(spoilt())

    assert any(wanted in fault for fault in found), found


def test_an_outcome_may_be_unknown_when_the_server_was_away() -> None:
    evidence = replace(_sound(), deaths=[], outages=[Outage(began=START + 6, ended=START + 9)])

    assert faults(evidence) == []


def test_an_outcome_is_not_excused_by_the_death_of_another_worker() -> None:
    evidence = replace(_sound(), deaths=[Death(role="worker", point="", signal="KILL", pid=OTHER, at=START + 6)])

    assert any("neither its worker nor the server was lost" in fault for fault in faults(evidence))
