"""Custom tools, and tools that go wrong."""

import asyncio
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from sojourn.activities.context import ToolContext
from sojourn.activities.tool import tool
from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import (
    AgentCustomToolUse,
    CustomTool,
    InvalidRequestError,
    Limits,
    SessionRunning,
    TextBlock,
    ToolCallSettledError,
    UserCustomToolResult,
)
from sojourn.types.id import EventId

if TYPE_CHECKING:
    from tests.conftest import PlayedModel, Stage

LOOKUP = CustomTool(name="lookup", description="Look it up.", input_schema={"type": "object"})
LOOK_UP = ScriptedTurn(calls=[ScriptedCall("lookup", {"key": "k"})])
DONE = ScriptedTurn(text="done")


async def test_the_clients_result_of_a_custom_tool_reaches_the_model(
    stage: "Stage", played: "type[PlayedModel]"
) -> None:
    model = played(LOOK_UP, DONE)
    probe = await stage.session(script=model, custom=[LOOKUP])
    await probe.session.send("go")
    (call,) = await probe.parked()

    await probe.session.answer(call, "forty-two")
    await probe.idle(2, "end_turn")

    assert model.context()[-1] == ("tool", "forty-two")
    assert probe.of(AgentCustomToolUse)[0].id == call
    assert probe.story() == [
        "user.message",
        "session.status_running",
        "agent.custom_tool_use",
        "session.status_idle",
        "user.custom_tool_result",
        "session.status_running",
        "agent.message",
        "session.status_idle",
    ]


async def test_a_custom_tools_error_reaches_the_model_as_one(stage: "Stage", played: "type[PlayedModel]") -> None:
    model = played(LOOK_UP, DONE)
    probe = await stage.session(script=model, custom=[LOOKUP])
    await probe.session.send("go")
    (call,) = await probe.parked()

    await probe.session.answer(call, "no such key", is_error=True)
    await probe.idle(2)

    assert model.context()[-1] == ("error", "no such key")


async def test_a_custom_tool_without_an_answer_times_out_for_the_model(
    stage: "Stage", played: "type[PlayedModel]"
) -> None:
    model = played(LOOK_UP, DONE)
    limits = Limits(custom_tool_timeout=timedelta(milliseconds=300))
    probe = await stage.session(script=model, custom=[LOOKUP], limits=limits)

    await probe.session.send("go")
    await probe.idle(2, "end_turn")

    assert probe.results()["lookup"].outcome == "timed_out"
    assert model.context()[-1][0] == "error"


async def test_a_late_result_of_a_custom_tool_is_refused(stage: "Stage") -> None:
    limits = Limits(custom_tool_timeout=timedelta(milliseconds=100))
    probe = await stage.session(LOOK_UP, DONE, custom=[LOOKUP], limits=limits)
    await probe.session.send("go")
    await probe.idle(2, "end_turn")
    before = len(probe.log)

    with pytest.raises(ToolCallSettledError):
        await probe.session.answer(probe.of(AgentCustomToolUse)[0], "too late")

    assert len(await stage.runtime.list_events(probe.session)) == before


async def test_the_tools_own_timeout_beats_the_agents(stage: "Stage") -> None:
    quick = LOOKUP.model_copy(update={"timeout": timedelta(milliseconds=200)})
    probe = await stage.session(LOOK_UP, DONE, custom=[quick], limits=Limits(custom_tool_timeout=None))

    await probe.session.send("go")
    await probe.idle(2, "end_turn")

    assert probe.results()["lookup"].outcome == "timed_out"


async def test_without_a_limit_a_custom_tool_sets_no_timer(stage: "Stage") -> None:
    probe = await stage.session(LOOK_UP, DONE, custom=[LOOKUP], limits=Limits(custom_tool_timeout=None))
    await probe.session.send("go")
    (call,) = await probe.parked()

    history = await stage.client.get_workflow_handle(probe.workflow_id).fetch_history()
    assert not [event for event in history.events if event.HasField("timer_started_event_attributes")]
    await probe.session.answer(call, "here")
    await probe.idle(2, "end_turn")


async def test_one_custom_tool_may_time_out_while_another_still_waits(stage: "Stage") -> None:
    quick = CustomTool(name="quick", description="Q.", input_schema={}, timeout=timedelta(milliseconds=200))
    both = ScriptedTurn(calls=[ScriptedCall("lookup"), ScriptedCall("quick")])
    probe = await stage.session(both, DONE, custom=[LOOKUP, quick])
    await probe.session.send("go")
    slow_call, _ = await probe.parked()

    assert await probe.parked(2) == [slow_call]
    await probe.session.answer(slow_call, "found")
    await probe.idle(3, "end_turn")

    assert list(probe.results()) == ["quick"]


async def test_the_same_custom_result_twice_is_one_and_another_is_refused(stage: "Stage") -> None:
    both = ScriptedTurn(calls=[ScriptedCall("lookup"), ScriptedCall("lookup")])
    probe = await stage.session(both, DONE, custom=[LOOKUP])
    await probe.session.send("go")
    first, second = await probe.parked()

    await probe.session.answer(first, "a")
    await probe.session.answer(first, "a")
    with pytest.raises(ToolCallSettledError):
        await probe.session.answer(first, "b")
    await probe.session.answer(second, "c")
    await probe.idle(3, "end_turn")

    assert [event.content for event in probe.of(UserCustomToolResult)] == [
        (TextBlock(text="a"),),
        (TextBlock(text="c"),),
    ]


async def test_a_custom_tool_takes_no_confirmation(stage: "Stage") -> None:
    probe = await stage.session(LOOK_UP, DONE, custom=[LOOKUP])
    await probe.session.send("go")
    (call,) = await probe.parked()

    with pytest.raises(InvalidRequestError):
        await probe.session.confirm(call, allow=True)


async def test_custom_and_function_tools_mix_in_one_step(stage: "Stage", played: "type[PlayedModel]") -> None:
    def local() -> str:
        return "from the worker"

    model = played(ScriptedTurn(calls=[ScriptedCall("lookup"), ScriptedCall("local")]), DONE)
    probe = await stage.session(script=model, custom=[LOOKUP], tools=[local])
    await probe.session.send("go")
    (call,) = await probe.parked()
    assert probe.results()["local"].text == "from the worker"

    await probe.session.answer(call, "from the client")
    await probe.idle(2, "end_turn")

    assert model.context()[-2:] == [("tool", "from the client"), ("tool", "from the worker")]


async def test_a_result_of_a_custom_tool_may_overtake_the_park(stage: "Stage", played: "type[PlayedModel]") -> None:
    """The answer comes while another tool of the step still runs: the session never has to park."""
    running, release = asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        running.set()
        await release.wait()
        return "slow"

    model = played(ScriptedTurn(calls=[ScriptedCall("lookup"), ScriptedCall("slow")]), DONE)
    probe = await stage.session(script=model, custom=[LOOKUP], tools=[slow])
    await probe.session.send("go")
    await running.wait()

    await probe.session.answer(await probe.saw(AgentCustomToolUse), "early")
    await probe.saw(UserCustomToolResult)
    release.set()
    await probe.idle(1, "end_turn")

    assert len(probe.of(SessionRunning)) == 1
    assert model.context()[-2:] == [("tool", "early"), ("tool", "slow")]


async def test_a_tool_that_raises_gives_an_error_result(stage: "Stage", played: "type[PlayedModel]") -> None:
    def broken() -> None:
        raise KeyError("lost")

    model = played(ScriptedTurn(calls=[ScriptedCall("broken")]), DONE)
    probe = await stage.session(script=model, tools=[broken])

    await probe.session.send_and_wait("go")
    await probe.idle(reason="end_turn")

    assert model.context()[-1] == ("error", "KeyError: 'lost'")
    assert probe.results()["broken"].outcome == "error"


async def test_a_tool_with_wrong_arguments_is_not_run(stage: "Stage", played: "type[PlayedModel]") -> None:
    ran = []

    def typed(number: int) -> None:
        ran.append(number)

    model = played(ScriptedTurn(calls=[ScriptedCall("typed", {"number": "many"})]), DONE)
    probe = await stage.session(script=model, tools=[typed])

    await probe.session.send_and_wait("go")

    assert ran == []
    assert model.context()[-1][0] == "error"
    assert "number" in model.context()[-1][1]


async def test_a_result_that_is_no_json_gives_an_error_result(stage: "Stage", played: "type[PlayedModel]") -> None:
    def opaque() -> object:
        return object()

    model = played(ScriptedTurn(calls=[ScriptedCall("opaque")]), DONE)
    probe = await stage.session(script=model, tools=[opaque])

    await probe.session.send_and_wait("go")
    await probe.idle(reason="end_turn")

    assert probe.results()["opaque"].outcome == "error"
    assert "cannot be written as JSON" in model.context()[-1][1]


async def test_a_result_over_the_payload_limit_gives_an_error_result(stage: "Stage") -> None:
    def much() -> str:
        return "x" * 40_000_000

    probe = await stage.session(ScriptedTurn(calls=[ScriptedCall("much")]), DONE, tools=[much])

    await probe.session.send_and_wait("go")
    await probe.idle(reason="end_turn")

    assert probe.results()["much"].outcome == "error"
    assert "40,000," in probe.results()["much"].text


async def test_a_tool_that_the_agent_does_not_have_gives_an_error_result(stage: "Stage") -> None:
    probe = await stage.session(ScriptedTurn(calls=[ScriptedCall("imaginary")]), DONE)

    await probe.session.send_and_wait("go")
    await probe.idle(reason="end_turn")

    assert probe.results()["imaginary"].text == "There is no tool of this name."


async def test_an_async_tool_that_hangs_times_out(stage: "Stage", played: "type[PlayedModel]") -> None:
    cancelled = asyncio.Event()

    @tool(timeout=timedelta(milliseconds=200))
    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    model = played(ScriptedTurn(calls=[ScriptedCall("hang")]), DONE)
    probe = await stage.session(script=model, tools=[hang])

    await probe.session.send_and_wait("go")
    await probe.idle(reason="end_turn")

    assert probe.results()["hang"].outcome == "timed_out"
    assert model.context()[-1] == ("error", "The call gave no result within 0.2 s. It may have had its effect.")
    assert cancelled.is_set()


async def test_a_sync_tool_that_hangs_times_out_and_is_told(stage: "Stage") -> None:
    told = threading.Event()

    def hang(context: ToolContext) -> None:
        try:
            context.sleep_blocking(timedelta(seconds=30))
        finally:
            told.set()

    limits = Limits(tool_timeout=timedelta(milliseconds=200))
    probe = await stage.session(ScriptedTurn(calls=[ScriptedCall("hang")]), DONE, tools=[hang], limits=limits)

    await probe.session.send_and_wait("go")
    await probe.idle(reason="end_turn")

    assert probe.results()["hang"].outcome == "timed_out"
    assert await asyncio.to_thread(told.wait, 10)


async def test_a_tool_gets_its_own_id_as_a_key(stage: "Stage") -> None:
    seen: list[tuple[str, EventId, int]] = []

    def keyed(context: ToolContext) -> None:
        seen.append((context.session_id, context.tool_use_id, context.attempt))

    probe = await stage.session(ScriptedTurn(calls=[ScriptedCall("keyed")]), DONE, tools=[keyed])

    await probe.session.send_and_wait("go")
    await probe.idle()

    (use,) = [event for event in probe.log if event.type == "agent.tool_use"]
    assert seen == [(probe.session.id, use.id, 1)]


async def test_a_hanging_tool_does_not_hold_up_its_neighbour(stage: "Stage") -> None:
    @tool(timeout=timedelta(milliseconds=300))
    async def hang() -> None:
        await asyncio.Event().wait()

    def quick() -> str:
        return "quick"

    both = ScriptedTurn(calls=[ScriptedCall("hang"), ScriptedCall("quick")])
    probe = await stage.session(both, DONE, tools=[hang, quick])

    await probe.session.send_and_wait("go")
    await probe.idle()

    assert [name for name in probe.results()] == ["quick", "hang"]


async def test_a_repeatable_tool_outlasts_many_lost_workers(stage: "Stage", played: "type[PlayedModel]") -> None:
    attempts: list[int] = []
    begun, enough = asyncio.Event(), 7

    @tool(idempotent=True)
    async def store(call: ToolContext) -> str:
        attempts.append(call.attempt)
        begun.set()
        if len(attempts) < enough:
            await asyncio.Event().wait()
        return "stored"

    probe = await stage.session(script=played(ScriptedTurn(calls=[ScriptedCall("store")]), DONE), tools=[store])
    await probe.session.send("go")
    for _ in range(enough - 1):
        await begun.wait()
        begun.clear()
        await stage.stop(stage.workers[0])
        await stage.work(played(DONE), tools=[store])
    await probe.idle()

    assert attempts == list(range(1, enough + 1))
    assert probe.results()["store"].outcome == "ok"
