"""A judge that finds nothing must be able to find something: each kind of evidence, spoilt in each way."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tests.chaos.check import Evidence, faults
from tests.chaos.journal import Attempt, Death, Effect, Outage, Seen, Sent
from tests.chaos.plan import Move, SessionPlan
from tests.chaos.reader import digest
from tests.chaos.script import Order
from tests.chaos.shell import READ, SHELL, command, key

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
from sojourn.types.event import SessionErrorEvent, SessionPaused, SystemMessage
from sojourn.types.session_error import ErrorDetail, RetryStatus

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


# --- the shell -----------------------------------------------------------------------------------------------------

_KEYS = {"first": key(1), "lost": key(2), "second": key(3)}
_READ = f"ledger:\n{_KEYS['first']}\n{_KEYS['lost']}\n{_KEYS['second']}\n"


def _shell(
    *,
    first: AgentToolResult | None = None,
    lost: AgentToolResult | None = None,
    moved: str = "",
    read: str = _READ,
    late: Sequence[SessionEvent] = (),
) -> Evidence:
    """A session with three commands, whose worker died of the one in the middle, and the ledger read back."""
    inputs = {id: command(each, seconds=1, left=False, marker="0000001") for id, each in _KEYS.items()}
    uses = [
        AgentToolUse(id=EventId(id), name=SHELL, input={"command": text}, evaluated_permission="allow")
        for id, text in {**inputs, "reading": READ}.items()
    ]
    told = (TextBlock(text=read),)
    events = [
        UserMessage.text("go", id="m1"),
        SessionRunning(user_event_id=EventId("m1")),
        ModelRequestStart(id=EventId("step"), consumed_event_ids=(EventId("m1"),)),
        *uses[:2],
        ModelRequestEnd(model_request_start_id=EventId("step")),
        first or AgentToolResult(tool_use_id=EventId("first")),
        lost or AgentToolResult(tool_use_id=EventId("lost"), outcome="unknown", is_error=True),
        *([_error("workspace_moved_error", moved)] if moved else []),
        uses[2],
        AgentToolResult(tool_use_id=EventId("second")),
        uses[3],
        AgentToolResult(tool_use_id=EventId("reading"), content=told),
        *late,
        SessionUsage(usage=Usage(), turn=Usage()),
        SessionIdle(stop_reason=EndTurn()),
        SessionTerminated(status=SessionStatus.ARCHIVED),
    ]
    ids = [EventId(each) for each in (*_KEYS, "reading")]
    return replace(
        _sound(events),
        plan=_sound().plan.model_copy(update={"shell": True}),
        sent=_sound().sent[:2],
        effects=[Effect(session=SESSION, tool=SHELL, key=id, attempt=1, pid=PID, at=START + 5) for id in ids],
        attempts=[_attempt(id) for id in ids],
    )


def _error(kind: str, text: str) -> SessionErrorEvent:
    return SessionErrorEvent(error=ErrorDetail(type=kind, message=text, retry_status=RetryStatus(type="retrying")))


def _as_of(place: int) -> str:
    """The notice of a move to what was stored when the log had so many events."""
    at = datetime.fromtimestamp(START, UTC) + timedelta(seconds=place)
    return f"it is now on another, as of {at:%Y-%m-%d %H:%M:%S} UTC"


_NEVER_RAN = AgentToolResult(
    tool_use_id=EventId("lost"), outcome="error", is_error=True, content=(TextBlock(text="The tool did not run: x"),)
)


def _unsent() -> Evidence:
    """A command that never found a worker."""
    sound = _shell(lost=_NEVER_RAN, read=_READ.replace(_KEYS["lost"], ""))
    return replace(sound, effects=[each for each in sound.effects if each.key != "lost"])


_WRITES_LATE = (
    AgentToolUse(
        id=EventId("late"),
        name=SHELL,
        input={"command": command(key(4), seconds=0, left=False, marker="0000001")},
        evaluated_permission="allow",
    ),
    AgentToolResult(tool_use_id=EventId("late"), outcome="unknown"),
)

_SPOILT_SHELL: dict[str, tuple[Callable[[], Evidence], str]] = {
    "a command without a result": (
        lambda: replace(_shell(), log=[each for each in _shell().log if getattr(each, "tool_use_id", "") != "second"]),
        "bash second has no result",
    ),
    "a command sent twice": (
        lambda: replace(_shell(), effects=[*_shell().effects, _shell().effects[0]]),
        "bash first had its effect 2 times",
    ),
    "a command with two effects": (
        lambda: _shell(read=_READ + _KEYS["lost"]),
        f"the command {_KEYS['lost']} had its effect 2 times",
    ),
    "an effect that is gone": (
        lambda: _shell(read=_READ.replace(_KEYS["first"], "")),
        f"the command {_KEYS['first']} is reported as done, and reading did not find its effect",
    ),
    "a stored effect that a move has lost": (
        lambda: _shell(moved=_as_of(7), read=_KEYS["second"]),
        f"the command {_KEYS['first']} is reported as done, and reading did not find its effect",
    ),
    "an effect after a move that is gone": (
        lambda: _shell(moved="it is now on another, empty, because it was never stored", read=""),
        f"the command {_KEYS['second']} is reported as done, and reading did not find its effect",
    ),
    "an effect of nobody": (lambda: _shell(read=_READ + key(9)), f"read {key(9)}, which no command"),
    "an effect of a command that did not run": (
        lambda: _shell(lost=_NEVER_RAN),
        f"the command {_KEYS['lost']} is said not to have run and had its effect",
    ),
    "a command lost with a living worker": (
        lambda: replace(_shell(), deaths=[]),
        "the outcome of lost is unknown, and neither its worker nor the server was lost",
    ),
    "a failed command": (
        lambda: _shell(first=AgentToolResult(tool_use_id=EventId("first"), outcome="error")),
        "bash first ended as 'error'",
    ),
    "a command that did not run, for no reason": (
        lambda: replace(_unsent(), deaths=[], outages=[]),
        "bash lost ended as 'error'",
    ),
    "a command that is said not to have run and was sent": (
        lambda: replace(_unsent(), effects=_shell().effects),
        "bash lost ended as 'error'",
    ),
    "a ledger that nobody read": (lambda: _shell(late=_WRITES_LATE), "was not read after the last command"),
    "a workspace that could not be restored": (
        lambda: _shell(late=(_error("workspace_error", "it is damaged"),)),
        "the workspace failed: it is damaged",
    ),
}


def test_a_sound_session_has_no_faults() -> None:
    assert faults(_sound()) == []


@pytest.mark.parametrize(
    "evidence",
    [
        _shell(),
        _shell(read=_READ.replace(_KEYS["lost"], "")),
        _unsent(),
        _shell(moved="it is now on another, empty, because it was never stored", read=_KEYS["second"]),
        _shell(moved=_as_of(6), read=_KEYS["second"]),
        _shell(moved=_as_of(7), read=_KEYS["first"] + _KEYS["second"]),
    ],
    ids=["same place", "lost before its effect", "never sent", "moved, never stored", "stored before", "stored after"],
)
def test_a_sound_session_with_the_shell_has_no_faults(evidence: Evidence) -> None:
    assert faults(evidence) == []


@pytest.mark.parametrize("name", _SPOILT_SHELL)
def test_the_judge_finds_of_the_shell(name: str) -> None:
    spoilt, wanted = _SPOILT_SHELL[name]

    found = faults(spoilt())

    assert any(wanted in fault for fault in found), found


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
