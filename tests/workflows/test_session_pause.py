"""Pause holds the next step; resume lets it go."""

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from sojourn.testing import ScriptedCall, ScriptedFailure, ScriptedTurn
from sojourn.types import (
    AgentToolResult,
    AgentToolUse,
    ConflictError,
    Limits,
    ModelRequestStart,
    PermissionPolicy,
    SessionPaused,
    SessionRescheduled,
    SessionResumed,
    SessionRunning,
    SessionStateError,
    SessionStatus,
)

if TYPE_CHECKING:
    from tests.conftest import Probe, Stage

DONE = ScriptedTurn(text="done")


async def _refused(probe: "Probe", stage: "Stage", verb: str) -> None:
    """The verb is refused and leaves nothing behind."""
    await probe.caught_up()
    before, status = len(probe.log), await probe.session.status()

    with pytest.raises(ConflictError):
        await getattr(probe.session, verb)()

    assert len(await stage.runtime.list_events(probe.session)) == before
    assert await probe.session.status() is status


async def test_a_running_tool_finishes_and_the_next_step_waits_for_resume(stage: "Stage") -> None:
    running, release = asyncio.Event(), asyncio.Event()

    async def work() -> str:
        running.set()
        await release.wait()
        return "worked"

    probe = await stage.session(ScriptedTurn(calls=[ScriptedCall("work")]), DONE, tools=[work])
    await probe.session.send("go")
    await running.wait()

    await probe.session.pause()
    release.set()
    await probe.saw(AgentToolResult)
    assert probe.results()["work"].text == "worked"
    await probe.caught_up()
    assert len(probe.of(ModelRequestStart)) == 1
    assert await probe.session.status() is SessionStatus.PAUSED
    await probe.session.resume()
    await probe.idle(reason="end_turn")

    assert probe.texts() == ["done"]
    assert probe.of(SessionResumed)[0].status is SessionStatus.RUNNING
    assert probe.story() == [
        "user.message",
        "session.status_running",
        "agent.tool_use",
        "session.status_paused",
        "agent.tool_result",
        "session.status_resumed",
        "agent.message",
        "session.status_idle",
    ]


async def test_tools_of_a_step_that_ends_during_the_pause_wait(stage: "Stage") -> None:
    ran = asyncio.Event()

    def work() -> None:
        ran.set()

    slow = ScriptedTurn(text="a b c d", chunk_delay=timedelta(milliseconds=200), calls=[ScriptedCall("work")])
    probe = await stage.session(slow, DONE, tools=[work])
    await probe.session.send("go")
    await probe.saw(ModelRequestStart)

    await probe.session.pause()
    await probe.saw(AgentToolUse)
    await probe.caught_up()
    assert not ran.is_set()
    await probe.session.resume()
    await probe.idle(reason="end_turn")

    assert ran.is_set()


async def test_a_turn_may_end_during_the_pause_and_the_session_stays_paused(stage: "Stage") -> None:
    slow = ScriptedTurn(text="a b c", chunk_delay=timedelta(milliseconds=200))
    probe = await stage.session(slow)
    await probe.session.send("go")
    await probe.saw(ModelRequestStart)

    await probe.session.pause()
    await probe.idle(reason="end_turn")
    assert await probe.session.status() is SessionStatus.PAUSED
    await probe.session.resume()

    assert await probe.session.status() is SessionStatus.IDLE
    assert (await probe.saw(SessionResumed)).status is SessionStatus.IDLE


async def test_messages_queue_during_the_pause_and_run_in_order_after_it(stage: "Stage") -> None:
    probe = await stage.session()
    await probe.session.send_and_wait("zero")
    await probe.session.pause()

    for text in ("one", "two", "three"):
        await probe.session.send(text)
    await probe.caught_up()
    assert len(probe.of(SessionRunning)) == 1
    await probe.session.resume()
    await probe.idle(4)

    assert probe.texts() == [f"You said: {text}" for text in ("zero", "one", "two", "three")]


async def test_pausing_twice_is_a_conflict(stage: "Stage") -> None:
    probe = await stage.session()
    await probe.session.send_and_wait("hi")
    await probe.session.pause()

    await _refused(probe, stage, "pause")

    assert len(probe.of(SessionPaused)) == 1


async def test_resuming_what_is_not_paused_is_a_conflict(stage: "Stage") -> None:
    probe = await stage.session()
    await probe.session.send_and_wait("hi")
    await probe.idle()

    await _refused(probe, stage, "resume")


async def test_resuming_a_running_turn_is_a_conflict(stage: "Stage") -> None:
    probe = await stage.session(ScriptedTurn(stall=True))
    await probe.session.send("hi")
    await probe.saw(ModelRequestStart)

    await _refused(probe, stage, "resume")


async def test_a_session_that_has_not_begun_cannot_be_paused(stage: "Stage") -> None:
    probe = await stage.session()

    await _refused(probe, stage, "pause")

    assert await probe.session.status() is SessionStatus.QUEUED


async def test_pausing_an_archived_session_is_a_conflict(stage: "Stage") -> None:
    probe = await stage.session()
    await probe.session.send_and_wait("hi")
    await probe.session.archive()
    await probe.ended()
    before = len(probe.log)

    for verb in (probe.session.pause, probe.session.resume):
        with pytest.raises(ConflictError):
            await verb()

    assert len(await stage.runtime.list_events(probe.session)) == before


async def test_a_retry_cannot_be_paused(stage: "Stage") -> None:
    turn = ScriptedTurn(failure=ScriptedFailure(attempts=9))
    probe = await stage.session(turn, limits=Limits(retry_interval=timedelta(minutes=1)))
    await probe.session.send("hi")
    await probe.saw(SessionRescheduled)

    with pytest.raises(SessionStateError, match="rescheduling"):
        await probe.session.pause()


async def test_a_parked_session_can_be_paused_and_takes_answers_meanwhile(stage: "Stage") -> None:
    paid = []

    def pay() -> None:
        paid.append(1)

    turn = ScriptedTurn(calls=[ScriptedCall("pay"), ScriptedCall("pay")])
    probe = await stage.session(turn, DONE, tools=[pay], policy=PermissionPolicy(default="ask"))
    await probe.session.send("go")
    first, second = await probe.parked()

    await probe.session.pause()
    assert [action.id for action in await probe.session.pending_actions()] == [first, second]
    await probe.session.confirm(first, allow=True)
    assert await probe.parked(2) == [second]
    await probe.session.confirm(second, allow=True)
    await probe.saw(SessionRunning, 2)
    await probe.caught_up()
    assert paid == []
    assert await probe.session.status() is SessionStatus.PAUSED
    await probe.session.resume()
    await probe.idle(3, "end_turn")

    assert paid == [1, 1]


async def test_an_interrupt_ends_a_paused_turn(stage: "Stage") -> None:
    running, release = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        running.set()
        await release.wait()

    probe = await stage.session(ScriptedTurn(calls=[ScriptedCall("work")]), DONE, tools=[work])
    await probe.session.send("go")
    await running.wait()
    await probe.session.pause()
    release.set()
    await probe.saw(AgentToolResult)

    await probe.session.interrupt()
    await probe.idle(reason="end_turn")

    assert await probe.session.status() is SessionStatus.PAUSED
    await probe.session.resume()
    assert await probe.session.status() is SessionStatus.IDLE


async def test_pause_and_resume_again_and_again(stage: "Stage") -> None:
    probe = await stage.session()
    await probe.session.send_and_wait("hi")

    for _ in range(5):
        await probe.session.pause()
        await probe.session.resume()
    await probe.session.send_and_wait("still there?")
    await probe.idle(2)

    assert len(probe.of(SessionPaused)) == len(probe.of(SessionResumed)) == 5
