import pytest

from sojourn.types.content import TextBlock
from sojourn.types.event import (
    AgentCustomToolUse,
    AgentMessage,
    AgentThinking,
    AgentToolResult,
    AgentToolUse,
    ContextCompacted,
    ModelRequestEnd,
    ModelRequestStart,
    SessionRescheduled,
    SessionRunning,
    ToolOutcome,
)
from sojourn.types.id import EventId
from sojourn.types.record import (
    CallModelInput,
    CallModelResult,
    CompactContextInput,
    CompactContextResult,
    RunToolInput,
    RunToolResult,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from sojourn.types.usage import Usage

STEP = EventId("sevt_step")


def call(id: str, *, kind: str = "function", permission: str = "allow") -> ToolCallPart:
    return ToolCallPart.model_validate(
        {"id": id, "call_id": f"call_{id}", "name": "t", "input": {"a": 1}, "kind": kind, "permission": permission}
    )


def test_step_says_what_was_said_and_then_that_it_begins() -> None:
    record = CallModelInput(step=STEP, consumes=(EventId("sevt_1"),), said=(SessionRunning(), SessionRescheduled()))

    assert list(record.events()) == [
        SessionRunning(),
        SessionRescheduled(),
        ModelRequestStart(id=STEP, consumed_event_ids=(EventId("sevt_1"),)),
    ]


def test_answer_is_one_event_for_each_part_in_order_and_an_end() -> None:
    usage = Usage(input_tokens=3, output_tokens=4)
    record = CallModelResult(
        step=STEP,
        parts=(
            ThinkingPart(id=EventId("e1"), text="secret thoughts", signature="s"),
            TextPart(id=EventId("e2"), text="hello"),
            call("e3", permission="ask"),
            call("e4", kind="custom"),
            call("e5", kind="unknown"),
        ),
        usage=usage,
    )

    assert list(record.events()) == [
        AgentThinking(id=EventId("e1")),
        AgentMessage(id=EventId("e2"), content=(TextBlock(text="hello"),)),
        AgentToolUse(id=EventId("e3"), name="t", input={"a": 1}, evaluated_permission="ask"),
        AgentCustomToolUse(id=EventId("e4"), name="t", input={"a": 1}),
        AgentToolUse(id=EventId("e5"), name="t", input={"a": 1}, evaluated_permission="allow"),
        ModelRequestEnd(model_request_start_id=STEP, model_usage=usage),
    ]


def test_thoughts_are_not_shown() -> None:
    record = CallModelResult(step=STEP, parts=(ThinkingPart(id=EventId("e1"), text="secret thoughts"),))

    assert "secret" not in "".join(event.model_dump_json() for event in record.events())


def test_only_the_last_message_of_an_interrupted_answer_is_incomplete() -> None:
    parts = (TextPart(id=EventId("e1"), text="whole"), TextPart(id=EventId("e2"), text="ha"))

    events = list(CallModelResult(step=STEP, parts=parts, finish_reason="interrupted").events())

    assert [event.incomplete for event in events if isinstance(event, AgentMessage)] == [False, True]


def test_calls_of_an_answer_are_in_the_models_order() -> None:
    record = CallModelResult(step=STEP, parts=(call("e2"), TextPart(id=EventId("e3"), text="x"), call("e1")))

    assert [each.id for each in record.calls] == ["e2", "e1"]


def test_compaction_says_what_was_said_and_then_that_its_call_begins() -> None:
    record = CompactContextInput(step=STEP, said=(SessionRunning(),))

    assert list(record.events()) == [SessionRunning(), ModelRequestStart(id=STEP)]


def test_compaction_is_one_event_and_the_end_of_its_call() -> None:
    usage = Usage(input_tokens=3, output_tokens=4)
    record = CompactContextResult(step=STEP, summary="all of it", kept=2, usage=usage)

    assert list(record.events()) == [
        ContextCompacted(),
        ModelRequestEnd(model_request_start_id=STEP, model_usage=usage),
    ]


def test_compaction_that_replaced_nothing_is_not_told() -> None:
    assert list(CompactContextResult(step=STEP).events()) == [ModelRequestEnd(model_request_start_id=STEP)]


def test_tool_that_runs_says_only_what_was_said() -> None:
    record = RunToolInput(tool_use_id=EventId("e1"), name="t", said=(SessionRunning(),))

    assert list(record.events()) == [SessionRunning()]


@pytest.mark.parametrize("outcome", ["ok", "error", "denied", "interrupted", "timed_out", "unknown"])
def test_every_outcome_but_ok_is_an_error(outcome: ToolOutcome) -> None:
    record = RunToolResult(tool_use_id=EventId("e1"), content=(TextBlock(text="x"),), outcome=outcome)

    assert list(record.events()) == [
        AgentToolResult(
            tool_use_id=EventId("e1"), content=(TextBlock(text="x"),), is_error=outcome != "ok", outcome=outcome
        )
    ]
