"""The seven correctness properties of the ADK specification, each by its name, in our words."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHistory
from tests.e2e.test_recovery import Fleet, fleet

from sojourn.testing import ScriptedCall, ScriptedFailure, ScriptedTurn
from sojourn.types import (
    AgentCustomToolUse,
    AgentToolResult,
    ConflictError,
    CustomTool,
    Limits,
    ModelRequestStart,
    RollOver,
    SessionEvent,
    SessionPaused,
    SessionRescheduled,
    SessionRunning,
    SessionStatus,
    SystemMessage,
    TextBlock,
    UserCustomToolResult,
    UserInterrupt,
    UserMessage,
)
from sojourn.types.converter import data_converter
from sojourn.types.event import Event
from sojourn.types.history import RunDecoder
from sojourn.types.id import EventId, SessionId
from sojourn.types.log import LogCursor
from sojourn.types.record import (
    CallModelInput,
    CallModelResult,
    Record,
    RunToolInput,
    RunToolResult,
    Said,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    UserEvents,
)
from sojourn.types.session import UpdateSessionInput
from sojourn.workflows.call import Call, Calls

if TYPE_CHECKING:
    from tests.conftest import Eventually, PlayedModel, Probe, Stage

__all__ = ["fleet"]

DONE = ScriptedTurn(text="done")
LOOK = CustomTool(name="look", description="Look.", input_schema={"type": "object"})
RECORDINGS = sorted((Path(__file__).parents[1] / "histories").glob("*/session-*.json"))
MANY = settings(max_examples=200, deadline=None)

# --- generated logs ------------------------------------------------------------------------------------------------

SESSION, AT = SessionId("sesn_1"), datetime(2026, 1, 2, tzinfo=UTC)
STEP, CALL = EventId("sevt_s"), EventId("sevt_t")
# Few ids, so that repeats are common.
_ids = st.sampled_from(["", "sevt_a", "sevt_b", "sevt_c"]).map(EventId)
_sent = st.lists(
    st.one_of(
        st.builds(UserMessage, id=_ids, content=st.just((TextBlock(text="hi"),))),
        st.builds(UserInterrupt, id=_ids),
        st.builds(SystemMessage, id=_ids, content=st.just((TextBlock(text="be brief"),))),
    ),
    max_size=4,
)
_said = st.lists(st.sampled_from([SessionRunning(), SessionPaused(), AgentToolResult(tool_use_id=CALL)]), max_size=3)
_parts = st.lists(
    st.sampled_from(
        [
            TextPart(id=EventId("sevt_p1"), text="hi"),
            ThinkingPart(id=EventId("sevt_p2"), text="hm"),
            ToolCallPart(id=CALL, call_id="c", name="t", input={}, kind="custom", permission="allow"),
        ]
    ),
    max_size=3,
)
_records: st.SearchStrategy[Record] = st.one_of(
    st.builds(UserEvents, sent=_sent.map(tuple)),
    st.builds(CallModelInput, step=st.just(STEP), said=_said.map(tuple)),
    st.builds(CallModelResult, step=st.just(STEP), parts=_parts.map(tuple)),
    st.builds(RunToolInput, tool_use_id=st.just(CALL), name=st.just("t"), said=_said.map(tuple)),
    st.builds(RunToolResult, tool_use_id=st.just(CALL)),
    st.builds(Said, said=_said.map(tuple)),
)
_chains = st.lists(st.lists(_records, max_size=8), min_size=1, max_size=4)
"""Runs of records, as continue-as-new divides them."""


def _read(runs: list[list[Record]], *, since: int = 0) -> list[SessionEvent]:
    """A chain as a reader sees it that begins at one of its runs: each goes on from what the run before handed over."""
    cursor, events = LogCursor(SESSION), list[SessionEvent]()
    for place, run in enumerate(runs):
        for record in run:
            if place >= since:
                events += cursor.number(record, at=AT)
            else:
                cursor.count(record)
        cursor = LogCursor(SESSION, seq=cursor.seq, user_events=cursor.user_events, seen=cursor.seen)
    return events


def _loaded(path: Path) -> WorkflowHistory:
    loose = json.loads(path.read_text())
    return WorkflowHistory.from_json(loose["workflowId"], loose)


async def _recorded(history: WorkflowHistory) -> tuple[RunDecoder, list[Record | None]]:
    """A recorded run: what each of its history events carries."""
    decoder = RunDecoder(data_converter)
    stored = [await decoder.decode(event) for event in history.events]
    return decoder, [found.record if found else None for found in stored]


def _named(paths: list[Path]) -> list[Any]:
    return [pytest.param(path, id=path.stem) for path in paths]


# --- P-1 -----------------------------------------------------------------------------------------------------------


@MANY
@given(runs=_chains)
def test_p1_the_numbers_of_any_log_rise_by_one(runs: list[list[Record]]) -> None:
    """In a session the numbers rise strictly and leave no hole, over all its runs."""
    events = _read(runs)

    assert [event.seq for event in events] == list(range(1, len(events) + 1))


@pytest.mark.parametrize("path", _named(RECORDINGS))
async def test_p1_the_numbers_of_a_recorded_log_rise_by_one(path: Path) -> None:
    """The same for histories as servers wrote them."""
    decoder, records = await _recorded(_loaded(path))
    cursor = decoder.cursor()
    first = cursor.seq + 1

    events = [event for record in records if record for event in cursor.number(record, at=AT)]

    assert events
    assert [event.seq for event in events] == list(range(first, first + len(events)))


# --- P-2 -----------------------------------------------------------------------------------------------------------


@MANY
@given(runs=_chains, data=st.data())
def test_p2_wherever_the_history_ends_reader_and_workflow_know_the_same(
    runs: list[list[Record]], data: st.DataObject
) -> None:
    """An event can be seen exactly if what the session rests on has it: a crash may cut the history anywhere."""
    records = [record for run in runs for record in run]
    end = data.draw(st.integers(0, len(records)))
    reader, workflow = LogCursor(SESSION), LogCursor(SESSION)

    seen = [event for record in records[:end] for event in reader.number(record, at=AT)]
    for record in records[:end]:
        workflow.accept(record) if isinstance(record, UserEvents) else workflow.count(record)

    assert (workflow.seq, workflow.user_events, workflow.seen) == (len(seen), reader.user_events, reader.seen)
    assert seen == _read([records])[: len(seen)]


async def test_p2_what_was_seen_before_a_kill_is_what_the_next_worker_knows(stage: "Stage", fleet: Fleet) -> None:
    """The log read while nobody works is neither behind nor ahead of the session that a new worker rebuilds."""
    worker = await fleet.start("work")
    probe = await stage.open(await stage.agent("once", "repeatable"))
    await probe.session.send("repeatable")
    await fleet.began("repeatable")

    await fleet.kill(worker)
    orphaned = await stage.runtime.list_events(probe.session)
    await fleet.start("work")

    assert await probe.count() == len(orphaned)
    assert await stage.runtime.list_events(probe.session) == orphaned
    fleet.release()
    await probe.idle(reason="end_turn")
    assert probe.log[: len(orphaned)] == orphaned
    await probe.check(served=True)


# --- P-3 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [3, pytest.param(6, marks=pytest.mark.thorough), 8])
async def test_p3_after_a_kill_nothing_comes_again_and_nothing_is_lost(
    stage: "Stage", fleet: Fleet, place: int
) -> None:
    """The worker is killed once event N has been seen: no event up to N appears again, none is lost."""
    fleet.release()
    worker = await fleet.start("work")
    probe = await stage.open(await stage.agent("once", "repeatable"))
    live = stage.another_runtime()
    await probe.session.send("repeatable")
    await probe.saw(Event, place)

    await fleet.kill(worker)
    before = list(probe.log)
    await fleet.start("work")
    await probe.idle(reason="end_turn")

    assert probe.log[: len(before)] == before
    assert await live.list_events(probe.session, from_seq=len(before)) == probe.log[len(before) :]
    assert probe.results()["repeatable"].outcome == "ok"
    assert probe.texts() == ["done"]
    await probe.check(served=True)


# --- P-4 -----------------------------------------------------------------------------------------------------------

ASKS = ScriptedTurn(calls=[ScriptedCall("look")])


async def test_p4_a_parked_custom_tool_ends_with_its_result(stage: "Stage", played: "type[PlayedModel]") -> None:
    """What the client answers is what the model is told."""
    model = played(ASKS, DONE)
    probe = await stage.session(script=model, custom=[LOOK])
    await probe.session.send("go")
    (call,) = await probe.parked()

    await probe.session.answer(call, "a bird")
    await probe.idle(2, "end_turn")

    assert model.context()[-1] == ("tool", "a bird")


async def _timed_out(probe: "Probe", model: "PlayedModel", idles: int = 2) -> None:
    await probe.idle(idles, "end_turn")
    (result,) = probe.of(AgentToolResult)
    assert (result.outcome, result.is_error) == ("timed_out", True)
    assert model.context()[-1] == ("error", "The call gave no result in time.")


async def test_p4_a_parked_custom_tool_ends_with_its_time(stage: "Stage", played: "type[PlayedModel]") -> None:
    """With no client the time runs out, and the model is told so as an error of the tool."""
    model = played(ASKS, DONE)
    limits = Limits(custom_tool_timeout=timedelta(milliseconds=100))
    probe = await stage.session(script=model, custom=[LOOK], limits=limits)

    await probe.session.send("go")

    await _timed_out(probe, model)


async def test_p4_the_time_runs_out_while_no_worker_is_there(
    stage: "Stage", played: "type[PlayedModel]", eventually: "Eventually"
) -> None:
    """The deadline passes on the server; the next worker acts on it."""
    model = played(ASKS, DONE)
    probe = await stage.session(script=model, custom=[LOOK], limits=Limits(custom_tool_timeout=timedelta(seconds=1)))
    await probe.session.send("go")
    await probe.parked()
    await stage.stop(stage.workers[0])

    async def fired() -> bool:
        history = await stage.client.get_workflow_handle(probe.workflow_id).fetch_history()
        return any(event.event_type == EventType.EVENT_TYPE_TIMER_FIRED for event in history.events)

    await eventually(fired, "the timer of the custom tool has fired")
    await stage.work(model)

    await _timed_out(probe, model)


async def test_p4_the_time_runs_on_over_continue_as_new(stage: "Stage", played: "type[PlayedModel]") -> None:
    """The wait counts from its beginning, in whichever run it ends; paused or not."""
    model = played(ASKS, DONE)
    limits = Limits(custom_tool_timeout=timedelta(seconds=2))
    probe = await stage.session(script=model, custom=[LOOK], limits=limits, roll_over=RollOver(max_events=20))
    await probe.session.send("go")
    await probe.parked()
    while await probe.runs() < 2:
        await probe.session.send(SystemMessage(content=(TextBlock(text="note"),)))
    await probe.session.pause()

    result = await probe.saw(AgentToolResult)
    use = probe.of(AgentCustomToolUse)[0]
    assert result.processed_at is not None
    assert use.processed_at is not None
    await probe.session.resume()

    await _timed_out(probe, model)


@settings(max_examples=100, deadline=None)
@given(answered=st.lists(st.booleans(), min_size=1, max_size=6), seconds=st.lists(st.integers(1, 9), min_size=6))
def test_p4_every_call_of_a_step_has_a_deadline_until_it_has_a_result(answered: list[bool], seconds: list[int]) -> None:
    """However many calls park together: each ends by answer or by time, and nothing waits after the last one."""
    calls = Calls(
        Call(EventId(f"sevt_{place}"), "look", "custom", "allow", False, timedelta(seconds=seconds[place]), asked_at=AT)
        for place in range(len(answered))
    )
    for place, given_one in enumerate(answered):
        if given_one:
            calls.answer(UserCustomToolResult(custom_tool_use_id=EventId(f"sevt_{place}")))

    while calls.waiting:
        deadline = calls.deadline(None)
        assert deadline is not None
        expired = calls.expired(None, now=deadline)
        assert expired
        for call in expired:
            assert call.result("timed_out").is_error
            call.settled = True

    assert calls.deadline(None) is None


# --- P-6 -----------------------------------------------------------------------------------------------------------


@MANY
@given(runs=_chains)
def test_p6_the_events_after_any_place_are_the_tail_of_the_whole(runs: list[list[Record]]) -> None:
    """From any number on: exactly the events with a higher one, in order, once, from whichever run one reads."""
    whole = _read(runs)

    assert _read([[record for run in runs for record in run]]) == whole
    for since in range(len(runs)):
        tail = _read(runs, since=since)
        for place in range(len(whole) - len(tail), len(whole) + 1):
            assert [event for event in tail if event.seq > place] == whole[place:]


async def _stream(stage: "Stage", probe: "Probe", place: int) -> list[SessionEvent]:
    return [
        event async for event in stage.runtime.stream_events(probe.session, from_seq=place) if isinstance(event, Event)
    ]


async def test_p6_a_stream_from_every_place_shows_the_tail_live_and_stored(stage: "Stage") -> None:
    """Begun while the session lives, and again after its end, over several runs."""
    both = ScriptedTurn(text="adding", calls=[ScriptedCall("add"), ScriptedCall("add")])
    probe = await stage.session(both, DONE, tools=[_adder()], roll_over=RollOver(max_events=20))
    for _ in range(2):
        await probe.session.send_and_wait("go")
    await probe.idle(2)
    places = range(len(probe.log) + 1)
    live = [asyncio.create_task(_stream(stage, probe, place)) for place in places]

    await probe.session.send_and_wait("go")
    await probe.session.archive()
    await probe.ended()

    assert await probe.runs() > 1
    for place, seen in zip(places, await asyncio.gather(*live), strict=True):
        assert seen == probe.log[place:]
    for place in range(len(probe.log) + 1):
        assert await stage.runtime.list_events(probe.session, from_seq=place) == probe.log[place:]
        assert await _stream(stage, probe, place) == probe.log[place:]


def _adder() -> Any:
    def add() -> int:
        return 3

    return add


# --- P-7 -----------------------------------------------------------------------------------------------------------

LIVE = "queued running idle rescheduling paused"
LEGAL = {
    "send": LIVE,
    "interrupt": LIVE,
    "update": LIVE,
    "archive": LIVE,
    "pause": "running idle",
    "resume": "paused",
}
STATUSES = "queued running idle parked rescheduling paused archived failed"


async def _in(stage: "Stage", status: str) -> "Probe":
    """A session that stands in a status and stays there."""
    failing = ScriptedTurn(failure=ScriptedFailure("fatal" if status == "failed" else "retryable", attempts=9))
    turn = {
        "running": ScriptedTurn(stall=True),
        "parked": ScriptedTurn(calls=[ScriptedCall("look")]),
        "rescheduling": failing,
        "failed": failing,
    }.get(status, DONE)
    limits = Limits(retry_interval=timedelta(minutes=1), on_exhausted="failed")
    probe = await stage.session(turn, custom=[LOOK], limits=limits)
    if status != "queued":
        await probe.session.send("go")
    match status:
        case "running":
            await probe.saw(ModelRequestStart)
        case "rescheduling":
            await probe.saw(SessionRescheduled)
        case "failed":
            await probe.ended()
        case "idle" | "parked" | "paused" | "archived":
            await probe.idle()
    if status == "paused":
        await probe.session.pause()
    if status == "archived":
        await probe.session.archive()
        await probe.ended()
    return probe


async def _move(probe: "Probe", move: str) -> None:
    session = probe.session
    match move:
        case "send":
            await session.send("more")
        case "update":
            await session.update(UpdateSessionInput(title="new"))
        case _:
            await getattr(session, move)()


@pytest.mark.parametrize(("status", "move"), list(product(STATUSES.split(), LEGAL)))
async def test_p7_every_move_in_every_status(stage: "Stage", status: str, move: str) -> None:
    """A move that is not in the table is a conflict and changes nothing; one that is succeeds."""
    probe = await _in(stage, status)
    if status not in ("archived", "failed"):
        await probe.caught_up()
    stands, before = await probe.session.status(), await stage.runtime.list_events(probe.session)
    assert stands.value == {"parked": "idle"}.get(status, status)

    if stands.value in LEGAL[move].split():
        await _move(probe, move)
        assert len(await stage.runtime.list_events(probe.session)) > len(before)
        return
    with pytest.raises(ConflictError):
        await _move(probe, move)
    assert await stage.runtime.list_events(probe.session) == before
    assert await probe.session.status() is stands


@pytest.mark.parametrize("meanwhile", ["nothing", "paused", "no worker"])
async def test_p7_rescheduling_never_rests(stage: "Stage", eventually: "Eventually", meanwhile: str) -> None:
    """It is left again without anybody's help, whatever happens during the wait."""
    turn = ScriptedTurn(text="at last", failure=ScriptedFailure(), chunk_delay=timedelta(milliseconds=1))
    gate = asyncio.Event()

    async def script(request: Any) -> ScriptedTurn:
        await gate.wait()
        return turn

    wait = timedelta(seconds=1 if meanwhile == "no worker" else 0.3)
    probe = await stage.session(script=script, limits=Limits(retry_interval=wait))
    await probe.session.send("go")
    await probe.saw(ModelRequestStart)
    if meanwhile == "paused":
        await probe.session.pause()
    gate.set()
    await probe.saw(SessionRescheduled)
    if meanwhile == "no worker":
        await stage.stop(stage.workers[0])
        assert await probe.session.status() is SessionStatus.RESCHEDULING
        await stage.work(script)
    if meanwhile == "paused":
        await probe.session.resume()
    await probe.idle(reason="end_turn")

    assert await probe.session.status() is SessionStatus.IDLE
    assert probe.texts() == ["at last"]
