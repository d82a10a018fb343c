import pytest

from sojourn.types.content import TextBlock
from sojourn.types.event import (
    AgentCustomToolUse,
    AgentMcpToolResult,
    AgentMcpToolUse,
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
from sojourn.types.mcp import ListMcpToolsInput, ListMcpToolsResult, McpListing, McpOutcome, McpQuestion
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


# --- MCP servers -----------------------------------------------------------------------------------------------------


def test_call_to_a_server_is_shown_by_the_servers_own_name_for_the_tool() -> None:
    names = {"mcp_server_name": "docs", "mcp_tool_name": "a.b"}
    part = call("e1", kind="mcp", permission="ask").model_copy(update=names)

    assert next(CallModelResult(step=STEP, parts=(part,)).events()) == AgentMcpToolUse(
        id=EventId("e1"), mcp_server_name="docs", name="a.b", input={"a": 1}, evaluated_permission="ask"
    )


def test_result_of_a_call_to_a_server_is_of_its_kind() -> None:
    record = RunToolResult(tool_use_id=EventId("e1"), outcome="error", mcp=McpOutcome())

    assert list(record.events()) == [AgentMcpToolResult(mcp_tool_use_id=EventId("e1"), is_error=True, outcome="error")]


def test_questions_of_a_server_are_shown_in_place_of_a_result() -> None:
    schema = {"type": "object", "properties": {"size": {"type": "integer"}}}
    questions = tuple(
        McpQuestion(id=EventId(id), mcp_server_name="docs", message=id, requested_schema=schema)  # type: ignore[arg-type]
        for id in ("q1", "q2")
    )
    record = RunToolResult(tool_use_id=EventId("e1"), mcp=McpOutcome(questions=questions, queue="own"))

    assert not record.is_final
    assert list(record.events()) == [
        AgentCustomToolUse(
            id=EventId(id),
            name="elicitation",
            input={"mcp_server_name": "docs", "message": id, "requested_schema": schema},  # type: ignore[dict-item]
        )
        for id in ("q1", "q2")
    ]


def test_listing_is_in_the_log_without_events_of_its_own() -> None:
    assert list(ListMcpToolsResult(listings=(McpListing(server="docs"),)).events()) == []
    assert list(ListMcpToolsInput(id=STEP, servers=("docs",), said=(SessionRunning(),)).events()) == [SessionRunning()]
