"""Archive and delete."""

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from temporalio.service import RPCError

from sojourn.testing import ScriptedCall, ScriptedFailure, ScriptedTurn
from sojourn.types import (
    AgentMessage,
    Limits,
    ModelRequestEnd,
    NotFoundError,
    PermissionPolicy,
    RollOver,
    SessionClosedError,
    SessionNotFoundError,
    SessionRescheduled,
    SessionStatus,
    SessionTerminated,
    UserMessage,
)
from sojourn.types.session import UpdateSessionInput

if TYPE_CHECKING:
    from tests.conftest import Eventually, Probe, Stage

DONE = ScriptedTurn(text="done")


async def _is_archived(probe: "Probe", stage: "Stage") -> None:
    await probe.ended()
    assert isinstance(probe.log[-1], SessionTerminated)
    assert probe.log[-1].status is SessionStatus.ARCHIVED
    assert await probe.session.status() is SessionStatus.ARCHIVED
    before = len(probe.log)
    attempts = [
        probe.session.send("more"),
        probe.session.interrupt(),
        probe.session.archive(),
        probe.session.pause(),
        probe.session.update(UpdateSessionInput(title="t")),
    ]
    for attempt in attempts:
        with pytest.raises(SessionClosedError) as error:
            await attempt
        assert error.value.status is SessionStatus.ARCHIVED
    assert await stage.runtime.list_events(probe.session) == probe.log
    assert len(probe.log) == before


async def test_archiving_an_idle_session(stage: "Stage") -> None:
    probe = await stage.session(DONE)
    await probe.session.send_and_wait("go")

    await probe.session.archive()

    await _is_archived(probe, stage)
    assert probe.story()[-2:] == ["session.status_idle", "session.status_terminated"]


async def test_archiving_a_session_that_has_not_begun(stage: "Stage") -> None:
    probe = await stage.session(DONE)

    await probe.session.archive()

    await _is_archived(probe, stage)
    assert probe.story() == ["session.status_terminated"]


async def test_archiving_in_the_middle_of_an_answer_keeps_what_was_said(stage: "Stage") -> None:
    probe = await stage.session(ScriptedTurn(text="half a", stall=True))
    await probe.session.send("go")
    await probe.written("half a")

    await probe.session.archive()

    await _is_archived(probe, stage)
    assert [(event.text, event.incomplete) for event in probe.of(AgentMessage)] == [("half a", True)]
    assert probe.story()[-2:] == ["agent.message", "session.status_terminated"]


async def test_archiving_in_the_middle_of_a_tool_closes_its_call(stage: "Stage") -> None:
    running = asyncio.Event()

    async def hang() -> None:
        running.set()
        await asyncio.Event().wait()

    probe = await stage.session(ScriptedTurn(calls=[ScriptedCall("hang")]), tools=[hang])
    await probe.session.send("go")
    await running.wait()

    await probe.session.archive()

    await _is_archived(probe, stage)
    assert probe.results()["hang"].outcome == "interrupted"


async def test_archiving_a_parked_session_closes_its_calls(stage: "Stage") -> None:
    def pay() -> None:
        return None

    turn = ScriptedTurn(calls=[ScriptedCall("pay")])
    probe = await stage.session(turn, tools=[pay], policy=PermissionPolicy(default="ask"))
    await probe.session.send("go")
    (call,) = await probe.parked()

    await probe.session.archive()

    await _is_archived(probe, stage)
    assert probe.results()["pay"].outcome == "interrupted"
    assert await probe.session.pending_actions() == []
    with pytest.raises(SessionClosedError):
        await probe.session.confirm(call, allow=True)


async def test_archiving_a_paused_session(stage: "Stage") -> None:
    probe = await stage.session(DONE)
    await probe.session.send_and_wait("go")
    await probe.session.pause()
    await probe.session.send("never answered")

    await probe.session.archive()

    await _is_archived(probe, stage)
    assert probe.texts() == ["done"]


async def test_archiving_during_a_retry(stage: "Stage") -> None:
    turn = ScriptedTurn(failure=ScriptedFailure(attempts=9))
    probe = await stage.session(turn, limits=Limits(retry_interval=timedelta(minutes=1)))
    await probe.session.send("go")
    await probe.saw(SessionRescheduled)

    await probe.session.archive()

    await _is_archived(probe, stage)


async def test_an_interrupt_and_an_archive_at_once(stage: "Stage") -> None:
    probe = await stage.session(ScriptedTurn(text="half a", stall=True))
    await probe.session.send("go")
    await probe.written("half a")

    await asyncio.gather(probe.session.interrupt(), probe.session.archive())

    await _is_archived(probe, stage)


async def test_of_two_archives_at_once_one_is_a_conflict_at_most(stage: "Stage") -> None:
    probe = await stage.session(ScriptedTurn(stall=True))
    await probe.session.send("go")
    await probe.saw(UserMessage)

    outcomes = await asyncio.gather(*(probe.session.archive() for _ in range(3)), return_exceptions=True)

    assert outcomes.count(None) >= 1
    assert all(each is None or isinstance(each, SessionClosedError) for each in outcomes)
    await _is_archived(probe, stage)


async def test_waiting_callers_learn_of_the_archive(stage: "Stage") -> None:
    probe = await stage.session(ScriptedTurn(text="half a", stall=True))
    waiting = asyncio.create_task(probe.session.send_and_wait("go"))
    await probe.written("half a")
    idling = asyncio.create_task(probe.session.wait_idle())

    await probe.session.archive()

    with pytest.raises(SessionClosedError):
        await waiting
    assert await idling is SessionStatus.ARCHIVED


async def test_an_archived_session_is_listed_as_such(stage: "Stage", eventually: "Eventually") -> None:
    probe = await stage.session(DONE)
    await probe.session.archive()

    async def listed() -> bool:
        page = await stage.runtime.list_sessions(statuses=[SessionStatus.ARCHIVED])
        return [each.id for each in page.data] == [probe.session.id] and page.data[0].closed_at is not None

    await eventually(listed, "the session is listed as archived")


async def test_a_session_ended_by_an_operator_counts_as_failed(stage: "Stage") -> None:
    probe = await stage.session(DONE)
    await probe.session.send_and_wait("go")
    await probe.idle()

    await stage.client.get_workflow_handle(probe.workflow_id).terminate("by hand")
    await probe.ended()

    assert await probe.session.status() is SessionStatus.FAILED
    with pytest.raises(SessionClosedError) as error:
        await probe.session.send("more")
    assert error.value.status is SessionStatus.FAILED
    assert len(await stage.runtime.list_events(probe.session)) == len(probe.log)
    probe.forget()


async def _is_gone(probe: "Probe", stage: "Stage") -> None:
    session = probe.session
    attempts = [
        session.delete(),
        session.send("more"),
        session.status(),
        session.info(),
        session.pause(),
        session.pending_actions(),
        session.wait_idle(),
        stage.runtime.list_events(session),
    ]
    for attempt in attempts:
        with pytest.raises(SessionNotFoundError):
            await attempt
    probe.forget()


async def test_deleting_an_idle_session(stage: "Stage", eventually: "Eventually") -> None:
    probe = await stage.session(DONE)
    await probe.session.send_and_wait("go")

    await probe.session.delete()

    await _is_gone(probe, stage)

    async def unlisted() -> bool:
        return not (await stage.runtime.list_sessions()).data

    await eventually(unlisted, "the session is gone from the list")


async def test_deleting_a_session_in_the_middle_of_a_turn(stage: "Stage") -> None:
    running, cancelled = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    probe = await stage.session(ScriptedTurn(calls=[ScriptedCall("hang")]), tools=[hang])
    await probe.session.send("go")
    await running.wait()

    await probe.session.delete()

    await _is_gone(probe, stage)
    await asyncio.wait_for(cancelled.wait(), 45)


async def test_deleting_an_archived_session(stage: "Stage") -> None:
    probe = await stage.session(DONE)
    await probe.session.send_and_wait("go")
    await probe.session.archive()

    await probe.session.delete()

    await _is_gone(probe, stage)


async def test_deleting_removes_every_run(stage: "Stage", eventually: "Eventually") -> None:
    probe = await stage.session(DONE, roll_over=RollOver(max_events=20))
    for _ in range(4):
        await probe.session.send_and_wait("go")
    handle = stage.client.get_workflow_handle(probe.workflow_id)
    first = await anext(handle.fetch_history_events())
    origin = first.workflow_execution_started_event_attributes.first_execution_run_id
    assert await probe.runs() > 1

    await probe.session.delete()

    await _is_gone(probe, stage)

    async def forgotten() -> bool:
        try:
            await stage.client.get_workflow_handle(probe.workflow_id, run_id=origin).describe()
        except RPCError:
            return True
        return False

    await eventually(forgotten, "the first run is gone")


async def test_a_deleted_id_can_be_used_again(stage: "Stage") -> None:
    await stage.work([DONE])
    agent = await stage.agent()
    probe = await stage.open(agent, session_id="mine")
    await probe.session.send_and_wait("go")
    await probe.session.delete()
    probe.forget()

    again = await stage.open(agent, session_id="mine")
    await again.session.send_and_wait("go")
    await again.idle()

    assert [event.seq for event in again.of(ModelRequestEnd)] == [5]


async def test_deleting_what_never_was(stage: "Stage") -> None:
    with pytest.raises(NotFoundError):
        await stage.runtime.delete_session("sesn_nothing")


async def test_a_stream_of_a_deleted_session_ends(stage: "Stage") -> None:
    probe = await stage.session(DONE)
    await probe.session.send_and_wait("go")

    await probe.session.delete()
    await probe.ended()

    assert probe.failure is None or isinstance(probe.failure, SessionNotFoundError)
    probe.forget()
