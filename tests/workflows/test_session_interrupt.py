"""Interrupts: the turn ends, the session lives on."""

import asyncio
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from sojourn.activities.context import ToolContext
from sojourn.testing import ScriptedCall, ScriptedFailure, ScriptedTurn
from sojourn.types import (
    AgentMessage,
    AgentToolResult,
    Limits,
    ModelRequestEnd,
    ModelRequestStart,
    PermissionPolicy,
    SessionRescheduled,
    SessionStatus,
    TurnInterruptedError,
    UserInterrupt,
    UserMessage,
)

if TYPE_CHECKING:
    from tests.conftest import PlayedModel, Stage

STALLED = ScriptedTurn(text="half a", stall=True)
DONE = ScriptedTurn(text="done")


async def test_an_interrupt_keeps_the_partial_text_and_the_session(stage: "Stage", played: "type[PlayedModel]") -> None:
    model = played(STALLED, DONE)
    probe = await stage.session(script=model)
    await probe.session.send("go")
    await probe.written("half a")

    await probe.session.interrupt()
    await probe.idle(reason="end_turn")
    await probe.session.send_and_wait("go on")
    await probe.idle(2, "end_turn")

    first, second = probe.of(AgentMessage)
    assert (first.text, first.incomplete) == ("half a", True)
    assert (second.text, second.incomplete) == ("done", False)
    assert model.context(1) == [("user", "go"), ("assistant", "half a"), ("user", "go on")]
    assert probe.story()[:5] == [
        "user.message",
        "session.status_running",
        "user.interrupt",
        "agent.message",
        "session.status_idle",
    ]


async def test_an_interrupt_before_any_text_keeps_nothing(stage: "Stage", played: "type[PlayedModel]") -> None:
    model = played(ScriptedTurn(stall=True), DONE)
    probe = await stage.session(script=model)
    await probe.session.send("go")
    await probe.saw(ModelRequestStart)

    await probe.session.interrupt()
    await probe.idle(reason="end_turn")
    await probe.session.send_and_wait("again")

    assert probe.texts() == ["done"]
    assert model.context() == [("user", "go"), ("user", "again")]


async def test_send_and_wait_says_that_its_turn_was_interrupted(stage: "Stage") -> None:
    probe = await stage.session(STALLED, DONE)
    waiting = asyncio.create_task(probe.session.send_and_wait("go"))
    await probe.written("half a")

    await probe.session.interrupt()

    with pytest.raises(TurnInterruptedError):
        await waiting


async def test_an_interrupt_cancels_a_running_tool(stage: "Stage", played: "type[PlayedModel]") -> None:
    running, cancelled = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    def quick() -> str:
        return "quick"

    model = played(ScriptedTurn(calls=[ScriptedCall("quick"), ScriptedCall("hang")]), DONE)
    probe = await stage.session(script=model, tools=[hang, quick])
    await probe.session.send("go")
    await running.wait()
    await probe.saw(AgentToolResult)

    await probe.session.interrupt()
    await probe.idle(reason="end_turn")
    await asyncio.wait_for(cancelled.wait(), 45)
    await probe.session.send_and_wait("and now?")

    assert {name: result.outcome for name, result in probe.results().items()} == {"quick": "ok", "hang": "interrupted"}
    assert [role for role, _ in model.context()] == ["user", "assistant", "assistant", "tool", "error", "user"]


async def test_an_interrupt_does_not_wait_for_the_thread_of_a_sync_tool(stage: "Stage") -> None:
    release, running, told = threading.Event(), asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def stubborn(context: ToolContext) -> None:
        loop.call_soon_threadsafe(running.set)
        release.wait(60)
        if context.cancelled:
            told.set()

    probe = await stage.session(ScriptedTurn(calls=[ScriptedCall("stubborn")]), DONE, tools=[stubborn])
    await probe.session.send("go")
    await running.wait()

    await probe.session.interrupt()
    await probe.idle(reason="end_turn")
    release.set()

    assert probe.results()["stubborn"].outcome == "interrupted"
    assert await asyncio.to_thread(told.wait, 10)


async def test_a_tool_that_finishes_in_spite_of_the_interrupt_keeps_its_result(stage: "Stage") -> None:
    running, release = asyncio.Event(), asyncio.Event()

    async def deaf() -> str:
        running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await release.wait()
        return "finished"

    probe = await stage.session(ScriptedTurn(calls=[ScriptedCall("deaf")]), DONE, tools=[deaf])
    await probe.session.send("go")
    await running.wait()

    await probe.session.interrupt()
    await probe.session.interrupt()
    await probe.saw(UserInterrupt, 2)
    release.set()
    await probe.idle(reason="end_turn")
    await probe.session.send_and_wait("and?")

    assert probe.results()["deaf"].outcome in ("ok", "interrupted")
    assert probe.texts() == ["done"]


async def test_an_interrupt_closes_the_calls_of_a_parked_session(stage: "Stage", played: "type[PlayedModel]") -> None:
    def pay() -> str:
        return "paid"

    model = played(ScriptedTurn(calls=[ScriptedCall("pay"), ScriptedCall("pay")]), DONE)
    probe = await stage.session(script=model, tools=[pay], policy=PermissionPolicy(default="ask"))
    await probe.session.send("go")
    await probe.parked()

    await probe.session.interrupt()
    await probe.idle(2, "end_turn")
    await probe.session.send_and_wait("and now?")

    assert [result.outcome for result in probe.of(AgentToolResult)] == ["interrupted", "interrupted"]
    assert await probe.session.pending_actions() == []
    assert [role for role, _ in model.context()] == ["user", "assistant", "assistant", "error", "error", "user"]


async def test_an_interrupt_ends_the_wait_for_a_retry(stage: "Stage", played: "type[PlayedModel]") -> None:
    model = played(ScriptedTurn(failure=ScriptedFailure(attempts=9)), DONE)
    probe = await stage.session(script=model, limits=Limits(retry_interval=timedelta(minutes=1)))
    await probe.session.send("go")
    await probe.saw(SessionRescheduled)

    await probe.session.interrupt()
    await probe.idle(reason="end_turn")

    assert await probe.session.wait_idle() is SessionStatus.IDLE
    assert len(probe.of(ModelRequestStart)) == 1
    assert probe.story()[-3:] == ["session.status_rescheduled", "user.interrupt", "session.status_idle"]


async def test_a_message_after_an_interrupted_retry_is_answered(stage: "Stage", played: "type[PlayedModel]") -> None:
    turns = iter([ScriptedTurn(failure=ScriptedFailure(attempts=9)), DONE])
    probe = await stage.session(script=lambda _: next(turns), limits=Limits(retry_interval=timedelta(minutes=1)))
    await probe.session.send("go")
    await probe.saw(SessionRescheduled)
    await probe.session.interrupt()
    await probe.idle()

    assert (await probe.session.send_and_wait("again")).text == "done"


async def test_an_interrupt_of_an_idle_session_is_one_more_idle_with_its_usage_and_nothing_else(stage: "Stage") -> None:
    probe = await stage.session(DONE)
    await probe.session.send_and_wait("go")
    await probe.idle()
    before = len(probe.log)

    await probe.session.interrupt()
    await probe.idle(2, "end_turn")
    await probe.caught_up()

    assert [event.type for event in probe.log[before:]] == [
        "user.interrupt",
        "session.usage",
        "session.status_idle",
    ]
    assert await probe.session.status() is SessionStatus.IDLE


async def test_an_interrupt_of_a_session_that_has_not_begun_is_one_idle(stage: "Stage") -> None:
    probe = await stage.session(DONE)

    await probe.session.interrupt()
    await probe.idle()
    await probe.caught_up()

    assert probe.story() == ["user.interrupt", "session.status_idle"]
    assert (await probe.session.send_and_wait("go")).text == "done"


async def test_the_next_message_of_the_queue_runs_after_an_interrupt(
    stage: "Stage", played: "type[PlayedModel]"
) -> None:
    model = played(STALLED, ScriptedTurn(text="two"), ScriptedTurn(text="three"))
    probe = await stage.session(script=model)
    await probe.session.send("first")
    await probe.written("half a")
    await probe.session.send("second")
    await probe.session.send("third")

    await probe.session.interrupt()
    await probe.idle(3, "end_turn")

    assert probe.texts() == ["half a", "two", "three"]
    assert model.context(1)[-1] == ("user", "second")


async def test_an_interrupt_between_two_messages_of_one_call_ends_neither_queue_nor_session(stage: "Stage") -> None:
    probe = await stage.session()

    await stage.runtime.send_event(
        probe.session, UserMessage.text("one"), UserInterrupt(), UserMessage.text("two"), UserInterrupt()
    )
    await probe.saw(AgentMessage, where=lambda event: event.text == "You said: two")

    assert probe.texts() == ["You said: one", "You said: two"]


async def test_several_interrupts_are_one(stage: "Stage") -> None:
    probe = await stage.session(STALLED, DONE)
    await probe.session.send("go")
    await probe.written("half a")

    await stage.runtime.send_event(probe.session, UserInterrupt(), UserInterrupt())
    await probe.session.interrupt()
    await probe.idle()

    assert probe.texts() == ["half a"]
    assert (await probe.session.send_and_wait("again")).text == "done"


async def test_a_message_interrupted_while_the_session_is_paused_is_not_lost(
    stage: "Stage", played: "type[PlayedModel]"
) -> None:
    model = played(DONE)
    probe = await stage.session(script=model)
    await probe.session.send_and_wait("first")
    await probe.session.pause()

    await probe.session.send("second")
    await probe.session.interrupt()
    await probe.idle(2)
    await probe.session.resume()
    await probe.idle(3)

    assert model.context()[-1] == ("user", "second")
    assert len(probe.of(ModelRequestEnd)) == 2


async def test_an_interrupt_of_a_call_that_no_worker_has_taken_yet_ends_the_turn(stage: "Stage") -> None:
    """The call waits for a slot; the interrupt ends it where it waits."""
    from sojourn.worker import WorkerOptions

    running = asyncio.Event()

    async def hold() -> None:
        running.set()
        await asyncio.Event().wait()

    turn = ScriptedTurn(calls=[ScriptedCall("hold"), ScriptedCall("hold")])
    options = WorkerOptions(max_concurrent_activities=1, graceful_shutdown=timedelta(0))
    probe = await stage.session(turn, DONE, tools=[hold], options=options)
    await probe.session.send("go")
    await running.wait()

    await probe.session.interrupt()
    await probe.idle(reason="end_turn")

    assert [result.outcome for result in probe.of(AgentToolResult)] == ["interrupted", "interrupted"]
