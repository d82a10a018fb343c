"""Whole sessions, observed: each span and each count exactly once, however often the workflow is replayed."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from sojourn.activities import tool
from sojourn.testing import ScriptedCall, ScriptedFailure, ScriptedTurn
from sojourn.types import CustomTool, Limits, PermissionPolicy, RollOver, SessionErrorEvent, SessionIdle, UserMessage
from sojourn.types.telemetry import DURATION_METRIC, TOKEN_USAGE_METRIC
from sojourn.worker import WorkerOptions

if TYPE_CHECKING:
    from tests.conftest import Eventually, Probe
    from tests.telemetry.conftest import Observed

STOP = timedelta(0)
SECRET = "a-secret-that-nobody-may-see"
CACHES = {
    "cached": WorkerOptions(graceful_shutdown=STOP),
    "no-cache": WorkerOptions(max_cached_sessions=0, graceful_shutdown=STOP),
}


def add(a: int, b: int) -> int:
    return a + b


def pay(to: str) -> str:
    raise ValueError(f"no money for {to}")


LOOK = CustomTool(name="look", description="Look.", input_schema={"type": "object"})
TURNS = (
    ScriptedTurn(calls=[ScriptedCall("add", {"a": 1, "b": 2}), ScriptedCall("add", {"a": 3, "b": 4})]),
    ScriptedTurn(text=SECRET, failure=ScriptedFailure(message=SECRET)),
    ScriptedTurn(calls=[ScriptedCall("pay", {"to": SECRET}), ScriptedCall("look"), ScriptedCall("nothing")]),
    ScriptedTurn(text="paid"),
    ScriptedTurn(text="half a", stall=True),
)


async def play(observed: "Observed", options: WorkerOptions, *, restart: bool = False) -> "Probe":
    """Parallel tools, a failure with a retry, an approval, a custom tool, an interrupt; three turns."""
    stage = observed.stage
    probe = await stage.session(
        *TURNS,
        tools=[add, pay],
        custom=[LOOK],
        policy=PermissionPolicy(tools={"pay": "ask"}),
        limits=Limits(retry_interval=timedelta(milliseconds=10)),
        options=options,
    )
    session = probe.session
    with trace.get_tracer("caller").start_as_current_span("request"):
        await session.send(SECRET)
    await probe.idle(1, "end_turn")
    await session.send("pay")
    pay_call, look_call = await probe.parked()
    if restart:
        await stage.stop(stage.workers[0])
        await stage.work(TURNS, tools=[add, pay], options=options)
    await session.confirm(pay_call, allow=True)
    await probe.parked(2)
    await session.answer(look_call, SECRET)
    await probe.idle(4, "end_turn")
    await session.send("talk")
    await probe.written("half a")
    await session.interrupt()
    await probe.idle(5, "end_turn")
    return probe


@pytest.mark.parametrize("restart", [False, True], ids=["", "restart"])
@pytest.mark.parametrize("options", CACHES.values(), ids=CACHES.keys())
async def test_every_span_and_every_count_comes_once(
    observed: "Observed", eventually: "Eventually", options: WorkerOptions, restart: bool
) -> None:
    await play(observed, options, restart=restart)

    async def complete() -> bool:
        return len(observed.mine()) >= 12

    await eventually(complete, f"12 spans, not {sorted(span.name for span in observed.mine())}")
    assert Counter(span.name for span in observed.mine()) == {
        "invoke_agent actor": 3,
        "chat play": 6,
        "execute_tool add": 2,
        "execute_tool pay": 1,
    }
    spans = [span.context.span_id for span in observed.mine() if span.context]
    assert len(set(spans)) == len(spans)
    assert observed.counted("sojourn.turns", "sojourn.stop_reason") == {("end_turn",): 3}
    assert observed.counted("sojourn.tool.calls", "gen_ai.tool.name", "sojourn.outcome") == {
        ("add", "ok"): 2,
        ("pay", "error"): 1,
        ("look", "ok"): 1,
        ("nothing", "error"): 1,
    }
    assert observed.counted("sojourn.model.failures", "sojourn.kind") == {("retryable",): 1}
    assert observed.counted("sojourn.interrupts", "gen_ai.agent.name") == {("actor",): 1}
    assert observed.counted(TOKEN_USAGE_METRIC, "gen_ai.token.type") == {("input",): 40, ("output",): 20}
    assert observed.counted(DURATION_METRIC, "gen_ai.operation.name", "error.type", each=True) == {
        ("chat", None): 4,
        ("chat", "retryable"): 1,
        ("chat", "cancelled"): 1,
        ("execute_tool", None): 2,
        ("execute_tool", "ValueError"): 1,
    }


async def test_turns_hold_their_steps_and_hang_on_their_senders(observed: "Observed") -> None:
    await play(observed, CACHES["cached"])
    first, second, third = observed.named("invoke_agent")
    request = next(span for span in observed.spans.get_finished_spans() if span.name == "request")

    assert parent(first) == id_of(request)
    assert trace_of(first) == trace_of(request)
    assert second.parent is None
    assert third.parent is None
    assert len({trace_of(turn) for turn in (first, second, third)}) == 3
    assert Counter(parent(span) for span in (*observed.named("chat"), *observed.named("execute_tool"))) == {
        id_of(first): 5,
        id_of(second): 3,
        id_of(third): 1,
    }
    for span in observed.mine():
        turn = next(turn for turn in (first, second, third) if trace_of(turn) == trace_of(span))
        assert (turn.start_time or 0) <= (span.start_time or 0)
        assert (span.end_time or 0) <= (turn.end_time or 0)


async def test_spans_say_what_the_conventions_ask_for_and_no_content(observed: "Observed") -> None:
    probe = await play(observed, CACHES["cached"])
    turn, chat, tool = (observed.named(name)[0].attributes or {} for name in ("invoke_agent", "chat", "execute_tool"))
    shared = {
        "gen_ai.conversation.id": probe.session.id,
        "sojourn.session.id": probe.session.id,
        "sojourn.workspace": observed.stage.owner.workspace,
        "gen_ai.agent.name": "actor",
        "gen_ai.agent.version": "1",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "play",
    }

    for span in observed.mine():
        attributes = span.attributes or {}
        assert shared.items() <= attributes.items()
        assert str(attributes["gen_ai.agent.id"]).startswith("agent_")
    assert turn["gen_ai.operation.name"] == "invoke_agent"
    assert (turn["sojourn.turn"], turn["sojourn.steps"], turn["sojourn.stop_reason"]) == (1, 2, "end_turn")
    assert (turn["gen_ai.usage.input_tokens"], turn["gen_ai.usage.output_tokens"]) == (20, 10)
    assert chat["gen_ai.operation.name"] == "chat"
    assert chat["gen_ai.response.model"] == "scripted:play"
    assert chat["gen_ai.response.finish_reasons"] == ("tool_calls",)
    assert (chat["gen_ai.usage.input_tokens"], chat["gen_ai.usage.output_tokens"]) == (10, 5)
    assert str(chat["sojourn.step"]).startswith("sevt_")
    assert tool["gen_ai.operation.name"] == "execute_tool"
    assert (tool["gen_ai.tool.name"], tool["gen_ai.tool.call.id"]) == ("add", "call_0_0")
    assert (tool["sojourn.outcome"], tool["sojourn.attempt"]) == ("ok", 1)
    assert SECRET not in "".join(span.to_json() for span in observed.spans.get_finished_spans())


async def test_attempt_that_failed_is_a_span_of_its_own(observed: "Observed") -> None:
    await play(observed, CACHES["cached"])
    failed, answered = observed.named("chat")[1:3]

    assert (failed.attributes or {})["sojourn.attempt"] == 1
    assert (failed.attributes or {})["error.type"] == "retryable"
    assert failed.status.status_code is StatusCode.ERROR
    assert not failed.events
    assert (answered.attributes or {})["sojourn.attempt"] == 2
    assert answered.status.status_code is StatusCode.UNSET


async def test_turn_that_fails_says_so(observed: "Observed") -> None:
    failing = ScriptedTurn(failure=ScriptedFailure(kind="fatal", message=SECRET))
    probe = await observed.stage.session(failing)
    await probe.session.send("talk")
    await probe.idle(1, "retries_exhausted")
    (turn,) = observed.named("invoke_agent")

    assert (turn.attributes or {})["error.type"] == "model_request_failed_error"
    assert turn.status.status_code is StatusCode.ERROR
    assert observed.counted("sojourn.turns", "sojourn.stop_reason") == {("retries_exhausted",): 1}
    assert SECRET not in turn.to_json()


async def test_turn_that_goes_on_in_the_next_run_is_one_trace(observed: "Observed") -> None:
    steps = [ScriptedTurn(calls=[ScriptedCall("add", {"a": 1, "b": step})]) for step in range(5)]
    probe = await observed.stage.session(
        *steps, ScriptedTurn(text="done"), tools=[add], roll_over=RollOver(max_events=30)
    )
    await probe.session.send("add")
    await probe.idle(1, "end_turn")
    turns = observed.named("invoke_agent")

    assert 1 < len(turns) <= await probe.runs()
    assert len({trace_of(span) for span in observed.mine()}) == 1
    assert [parent(turn) for turn in turns] == [None, *(id_of(turn) for turn in turns[:-1])]
    assert [(turn.attributes or {})["sojourn.stop_reason"] for turn in turns] == [
        *("continued" for _ in turns[:-1]),
        "end_turn",
    ]
    assert len(observed.named("chat")) == 6
    assert observed.counted("sojourn.turns", "sojourn.stop_reason") == {("end_turn",): 1}


async def test_first_message_in_the_start_call_brings_its_sender(observed: "Observed") -> None:
    stage = observed.stage
    await stage.work()
    agent = await stage.agent(model="scripted:echo")
    with trace.get_tracer("caller").start_as_current_span("request") as request:
        probe = await stage.open(agent, initial_events=[UserMessage.text("hello")])
    await probe.idle()
    await probe.session.send("again")
    await probe.idle(2)
    first, second = observed.named("invoke_agent")

    assert parent(first) == request.get_span_context().span_id
    assert not first.links
    assert [link.context.span_id for link in second.links] == [request.get_span_context().span_id]


async def test_limits_that_are_met_are_counted_and_told(observed: "Observed") -> None:
    soon = timedelta(milliseconds=200)

    @tool(timeout=soon)
    async def dawdle() -> str:
        await asyncio.Event().wait()
        return ""

    def shout() -> str:
        return "a" * 40_000_000

    calls = [ScriptedCall("dawdle"), ScriptedCall("shout"), ScriptedCall("look")]
    probe = await observed.stage.session(
        ScriptedTurn(calls=calls),
        tools=[dawdle, shout],
        custom=[LOOK],
        limits=Limits(max_steps=1, custom_tool_timeout=soon),
    )
    await probe.session.send("go")
    await probe.saw(SessionIdle, where=lambda idle: idle.stop_reason.type == "retries_exhausted")

    assert observed.counted("sojourn.limits", "sojourn.limit") == {
        ("tool_timeout",): 1,
        ("custom_tool_timeout",): 1,
        ("tool_result",): 1,
        ("max_steps",): 1,
    }
    assert {name: result.outcome for name, result in probe.results().items()} == {
        "dawdle": "timed_out",
        "shout": "error",
        "look": "timed_out",
    }
    assert "max_steps" in probe.of(SessionErrorEvent)[0].error.message


def parent(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def trace_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.trace_id)
