"""The turn loop of a session, on a real server."""

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import (
    AgentMessage,
    ModelRequestEnd,
    ModelRequestStart,
    SessionRunning,
    SessionStatus,
    SessionUsage,
    SystemMessage,
    TextBlock,
    Usage,
    UserMessage,
)
from sojourn.types.name import AGENT_STATE_QUERY, PENDING_ACTIONS_QUERY, STATUS_QUERY, USAGE_QUERY
from sojourn.types.session import AgentState, PendingAction, StatusReport
from sojourn.types.start import TASK_TIMEOUT

if TYPE_CHECKING:
    from tests.conftest import Eventually, PlayedModel, Stage

_TURN = [
    "user.message",
    "session.status_running",
    "span.model_request_start",
    "agent.message",
    "span.model_request_end",
    "session.usage",
    "session.status_idle",
]


async def test_a_message_becomes_one_turn_of_exactly_these_events(stage: "Stage") -> None:
    probe = await stage.session(ScriptedTurn(text="hello"))

    sent = await probe.session.send("hi")
    await probe.idle(reason="end_turn")

    assert [event.type for event in probe.log] == _TURN
    assert probe.log[0].id == sent.id
    assert probe.of(SessionRunning)[0].user_event_id == sent.id
    assert probe.of(ModelRequestStart)[0].consumed_event_ids == (sent.id,)
    assert probe.texts() == ["hello"]


async def test_every_event_has_an_id_and_the_time_it_was_stored(stage: "Stage") -> None:
    probe = await stage.session(ScriptedTurn(text="hello"))

    await probe.session.send_and_wait("hi")
    await probe.idle()

    assert all(event.id.startswith("sevt_") and event.processed_at for event in probe.log)
    times = [event.processed_at for event in probe.log if event.processed_at]
    assert times == sorted(times)


async def test_a_new_session_is_queued_and_silent(stage: "Stage") -> None:
    probe = await stage.session(ScriptedTurn(text="hello"))

    assert await probe.session.status() is SessionStatus.QUEUED
    assert await stage.runtime.list_events(probe.session) == []


async def test_initial_events_start_the_first_turn(stage: "Stage") -> None:
    probe = await stage.session(initial_events=[UserMessage.text("from the start")])

    await probe.idle()

    assert probe.texts() == ["You said: from the start"]


async def test_the_model_sees_the_whole_conversation(stage: "Stage", played: "type[PlayedModel]") -> None:
    model = played(ScriptedTurn(text="one"), ScriptedTurn(text="two"))
    probe = await stage.session(script=model)

    await probe.session.send_and_wait("first")
    await probe.session.send_and_wait("second")

    assert model.context(0) == [("user", "first")]
    assert model.context(1) == [("user", "first"), ("assistant", "one"), ("user", "second")]


async def test_a_tool_call_runs_and_its_result_reaches_the_model(stage: "Stage", played: "type[PlayedModel]") -> None:
    def add(a: int, b: int) -> int:
        return a + b

    model = played(
        ScriptedTurn(text="let me see", calls=[ScriptedCall("add", {"a": 2, "b": 3})]), ScriptedTurn(text="5")
    )
    probe = await stage.session(script=model, tools=[add])

    answer = await probe.session.send_and_wait("add")
    await probe.idle()

    assert answer.text == "5"
    assert probe.results()["add"].text == "5"
    assert model.context() == [("user", "add"), ("assistant", "let me see"), ("assistant", "add"), ("tool", "5")]
    assert probe.story() == [
        "user.message",
        "session.status_running",
        "agent.message",
        "agent.tool_use",
        "agent.tool_result",
        "agent.message",
        "session.status_idle",
    ]


async def test_the_calls_of_one_step_run_in_parallel(stage: "Stage") -> None:
    both = asyncio.Barrier(2)

    async def left() -> str:
        await both.wait()
        return "left"

    async def right() -> str:
        await both.wait()
        return "right"

    probe = await stage.session(
        ScriptedTurn(calls=[ScriptedCall("left"), ScriptedCall("right")]),
        ScriptedTurn(text="both"),
        tools=[left, right],
    )

    answer = await probe.session.send_and_wait("go", timeout=timedelta(seconds=60))
    await probe.idle()

    assert answer.text == "both"
    assert {name: result.text for name, result in probe.results().items()} == {"left": "left", "right": "right"}


async def test_the_model_gets_parallel_results_in_its_own_order(stage: "Stage", played: "type[PlayedModel]") -> None:
    second_done = asyncio.Event()

    async def first() -> str:
        await second_done.wait()
        return "first"

    async def second() -> str:
        second_done.set()
        return "second"

    model = played(ScriptedTurn(calls=[ScriptedCall("first"), ScriptedCall("second")]), ScriptedTurn(text="done"))
    probe = await stage.session(script=model, tools=[first, second])

    await probe.session.send_and_wait("go")

    assert [pair for pair in model.context() if pair[0] == "tool"] == [("tool", "first"), ("tool", "second")]


async def test_sync_tools_run_in_threads_and_do_not_block_the_loop(stage: "Stage") -> None:
    import threading

    both = threading.Barrier(2, timeout=60)

    def left() -> str:
        both.wait()
        return "left"

    def right() -> str:
        both.wait()
        return "right"

    probe = await stage.session(
        ScriptedTurn(calls=[ScriptedCall("left"), ScriptedCall("right")]),
        ScriptedTurn(text="both"),
        tools=[left, right],
    )

    assert (await probe.session.send_and_wait("go")).text == "both"


async def test_a_turn_may_take_several_steps(stage: "Stage") -> None:
    calls: list[int] = []

    def count(number: int) -> int:
        calls.append(number)
        return number

    steps = [ScriptedTurn(calls=[ScriptedCall("count", {"number": number})]) for number in range(4)]
    probe = await stage.session(*steps, ScriptedTurn(text="done"), tools=[count])

    await probe.session.send_and_wait("count")
    await probe.idle()

    assert calls == [0, 1, 2, 3]
    assert len(probe.of(ModelRequestStart)) == 5


async def test_a_system_message_waits_for_the_next_step(stage: "Stage", played: "type[PlayedModel]") -> None:
    model = played(ScriptedTurn(text="yes"))
    probe = await stage.session(script=model)

    await probe.session.send(SystemMessage(content=(TextBlock(text="be brief"),)))
    await probe.session.send_and_wait("hi")
    await probe.idle()

    assert model.context() == [("system", "be brief"), ("user", "hi")]
    assert probe.story()[:3] == ["system.message", "user.message", "session.status_running"]


async def test_thinking_shows_as_an_event_without_its_text(stage: "Stage") -> None:
    probe = await stage.session(ScriptedTurn(thinking="hm", text="well"))

    await probe.session.send_and_wait("hi")
    await probe.idle()

    assert [event.type for event in probe.log[3:5]] == ["agent.thinking", "agent.message"]
    assert "hm" not in probe.log[3].model_dump_json()


async def test_max_tokens_and_refusal_end_the_turn_with_their_reason(stage: "Stage") -> None:
    probe = await stage.session(
        ScriptedTurn(text="cut", finish_reason="max_tokens"), ScriptedTurn(text="no", finish_reason="refusal")
    )

    await probe.session.send("one")
    await probe.idle(reason="max_tokens")
    await probe.session.send("two")

    await probe.idle(2, reason="refusal")


async def test_usage_adds_up_over_steps_and_turns(stage: "Stage") -> None:
    def tick() -> None:
        return None

    probe = await stage.session(
        ScriptedTurn(calls=[ScriptedCall("tick")], usage=Usage(input_tokens=1, output_tokens=2)),
        ScriptedTurn(text="a", usage=Usage(input_tokens=10, output_tokens=20)),
        ScriptedTurn(text="b", usage=Usage(input_tokens=100, output_tokens=200)),
        tools=[tick],
    )

    await probe.session.send_and_wait("one")
    await probe.session.send_and_wait("two")
    await probe.idle(2)

    first, second = probe.of(SessionUsage)
    assert first.turn == first.usage == Usage(input_tokens=11, output_tokens=22)
    assert second.turn == Usage(input_tokens=100, output_tokens=200)
    assert second.usage == Usage(input_tokens=111, output_tokens=222)
    assert [end.model_usage.input_tokens for end in probe.of(ModelRequestEnd)] == [1, 10, 100]
    assert await probe.query(USAGE_QUERY, Usage) == second.usage


async def test_queries_tell_the_live_state(stage: "Stage") -> None:
    release = asyncio.Event()

    async def wait() -> None:
        await release.wait()

    probe = await stage.session(ScriptedTurn(calls=[ScriptedCall("wait")]), ScriptedTurn(text="done"), tools=[wait])
    await probe.session.send("one")
    await probe.session.send("two")
    await probe.saw(ModelRequestEnd)

    report = await probe.query(STATUS_QUERY, StatusReport)
    assert (report.status, report.turns, report.steps, report.queued) == (SessionStatus.RUNNING, 1, 1, 1)
    assert await probe.query(USAGE_QUERY, Usage) == Usage(input_tokens=10, output_tokens=5)

    release.set()
    await probe.idle(2)

    report = await probe.query(STATUS_QUERY, StatusReport)
    state = await probe.query(AGENT_STATE_QUERY, AgentState)
    assert (report.status, report.turns, report.queued) == (SessionStatus.IDLE, 2, 0)
    assert (state.turns, state.seq, state.agent.name) == (2, len(probe.log), "actor")


async def test_the_pending_actions_query_and_the_client_agree(stage: "Stage") -> None:
    from sojourn.types import PermissionPolicy

    def pay() -> None:
        return None

    probe = await stage.session(
        ScriptedTurn(calls=[ScriptedCall("pay")]), tools=[pay], policy=PermissionPolicy(default="ask")
    )
    await probe.session.send("go")
    (call,) = await probe.parked()

    asked = await probe.query(PENDING_ACTIONS_QUERY, list[PendingAction])

    assert asked == await probe.session.pending_actions()
    assert [(action.id, action.name, action.kind) for action in asked] == [(call, "pay", "confirmation")]


async def test_status_is_a_search_attribute_that_lists_show(stage: "Stage", eventually: "Eventually") -> None:
    probe = await stage.session(ScriptedTurn(text="hi"), title="a talk", metadata={"k": "v"})
    await probe.session.send_and_wait("hi")

    async def listed() -> bool:
        page = await stage.runtime.list_sessions(statuses=[SessionStatus.IDLE])
        return [each.id for each in page.data] == [probe.session.id]

    await eventually(listed, "the session is listed as idle")
    info = (await stage.runtime.list_sessions()).data[0]

    assert (info.status, info.stop_reason, info.title, info.metadata) == (
        SessionStatus.IDLE,
        "end_turn",
        "a talk",
        {"k": "v"},
    )
    assert info == await probe.session.info()


async def test_an_empty_answer_ends_the_turn(stage: "Stage") -> None:
    probe = await stage.session(ScriptedTurn())

    answer = await probe.session.send_and_wait("hi")
    await probe.idle(reason="end_turn")

    assert isinstance(answer, AgentMessage)
    assert answer.text == ""
    assert probe.texts() == []


async def test_a_workflow_task_whose_worker_died_is_given_away_soon(stage: "Stage") -> None:
    probe = await stage.session()

    described = await stage.client.get_workflow_handle(probe.workflow_id).describe()

    timeout = described.raw_description.execution_config.default_workflow_task_timeout.ToTimedelta()
    assert timeout == TASK_TIMEOUT
