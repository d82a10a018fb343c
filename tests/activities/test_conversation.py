from itertools import permutations

import pytest

from sojourn.activities.conversation import (
    AssistantTurn,
    Conversation,
    Message,
    SystemTurn,
    ToolResult,
    ToolResults,
    UserTurn,
)
from sojourn.types.content import TextBlock, text_of
from sojourn.types.event import (
    AgentMcpToolResult,
    AgentToolResult,
    ModelRequestEnd,
    SessionRescheduled,
    SystemMessage,
    UserCustomToolResult,
    UserInterrupt,
    UserMessage,
    UserToolConfirmation,
)
from sojourn.types.id import EventId, SessionId
from sojourn.types.log import LogCursor
from sojourn.types.mcp import ListMcpToolsResult, McpFailure, McpListing, McpOutcome, McpQuestion, McpTool
from sojourn.types.record import (
    AssistantPart,
    CallModelInput,
    CallModelResult,
    CompactContextInput,
    CompactContextResult,
    Record,
    RunToolInput,
    RunToolResult,
    Said,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    UserEvents,
)
from sojourn.types.usage import Usage

HELLO = (TextBlock(text="hello"),)


def folded(*records: Record) -> Conversation:
    conversation, cursor = Conversation(), LogCursor(SessionId("sesn_1"))
    for record in records:
        events = cursor.accept(record) if isinstance(record, UserEvents) else None
        conversation.feed(record, events)
    return conversation


def message(id: str, text: str = "hello") -> UserMessage:
    return UserMessage.text(text, id=id)


def system(id: str, *lines: str) -> SystemMessage:
    return SystemMessage(id=EventId(id), content=tuple(TextBlock(text=line) for line in lines))


def sent(*events: UserMessage | SystemMessage | UserInterrupt | UserToolConfirmation | UserCustomToolResult) -> Record:
    return UserEvents(sent=events)


def step(*consumes: str, name: str = "s", said: tuple[AgentToolResult, ...] = ()) -> CallModelInput:
    return CallModelInput(step=EventId(name), consumes=tuple(map(EventId, consumes)), said=said)


def answer(*parts: AssistantPart, name: str = "s") -> CallModelResult:
    return CallModelResult(step=EventId(name), parts=parts)


def text(text: str) -> TextPart:
    return TextPart(id=EventId("p"), text=text)


def call(id: str, *, kind: str = "function", permission: str = "allow") -> ToolCallPart:
    return ToolCallPart.model_validate(
        {"id": id, "call_id": f"call_{id}", "name": f"tool_{id}", "input": {}, "kind": kind, "permission": permission}
    )


def ran(id: str, words: str = "done") -> RunToolResult:
    return RunToolResult(tool_use_id=EventId(id), content=(TextBlock(text=words),))


def result(id: str, words: str, *, is_error: bool = False) -> ToolResult:
    return ToolResult(f"call_{id}", f"tool_{id}", (TextBlock(text=words),), is_error)


# --- compaction ------------------------------------------------------------------------------------------------------


def compaction(name: str = "c") -> CompactContextInput:
    return CompactContextInput(step=EventId(name))


def summed(words: str, *, kept: int = 0, message: bool = False, name: str = "c") -> CompactContextResult:
    return CompactContextResult(step=EventId(name), summary=words, kept=kept, kept_message=message)


def words_of(conversation: Conversation) -> list[str]:
    """Each message in a word."""
    return [_word(message) for message in conversation.messages]


def _word(message: Message) -> str:
    match message:
        case UserTurn(summary=True):
            return text_of(message.content).split("<summary>")[1].split("</summary>")[0].strip()
        case UserTurn():
            return text_of(message.content)
        case SystemTurn():
            return message.text
        case AssistantTurn():
            return "+".join(getattr(part, "text", "") or str(part.id) for part in message.parts)
        case ToolResults():
            return "+".join(text_of(each.content) for each in message.results)


def test_compaction_closes_the_calls_as_a_step_would() -> None:
    records = (sent(message("u1")), step("u1"), answer(call("a"), call("b")), ran("b", "2"), ran("a", "1"))

    assert folded(*records, compaction()).messages == folded(*records, step(name="t")).messages


def test_summary_takes_the_place_of_what_is_not_kept() -> None:
    conversation = folded(
        sent(message("u1", "one"), system("u2", "rule"), message("u3", "two")),
        step("u1", "u2"),
        answer(text("1")),
        step("u3", name="t"),
        answer(text("2"), name="t"),
        compaction(),
        summed("short", kept=2),
    )

    assert words_of(conversation) == ["rule", "short", "two", "2"]
    assert conversation.steps == 2


def test_request_being_worked_on_comes_after_the_summary_if_it_was_kept() -> None:
    records = (
        sent(message("u1", "one")),
        step("u1"),
        answer(call("a")),
        ran("a", "A"),
        step(name="t"),
        answer(call("b"), name="t"),
        ran("b", "B"),
        compaction(),
    )

    assert words_of(folded(*records, summed("short", kept=2, message=True))) == ["short", "one", "b", "B"]
    assert words_of(folded(*records, summed("short", kept=2))) == ["short", "b", "B"]


def test_second_summary_takes_the_place_of_the_first() -> None:
    conversation = folded(
        sent(message("u1", "one"), message("u2", "two")),
        step("u1"),
        answer(text("1")),
        compaction(),
        summed("first"),
        step("u2", name="t"),
        answer(text("2"), name="t"),
        compaction("d"),
        summed("second", name="d"),
    )

    assert words_of(conversation) == ["second"]


@pytest.mark.parametrize("records", [(), (compaction(), compaction("d"))], ids=["failed", "failed twice"])
def test_compaction_without_a_result_leaves_the_conversation_as_it_is(records: tuple[Record, ...]) -> None:
    before = (sent(message("u1", "one"), message("u2", "two")), step("u1"), answer(text("1")), compaction())

    assert words_of(folded(*before, *records, step("u2", name="t"))) == ["one", "1", "two"]
    assert words_of(folded(*before, CompactContextResult(step=EventId("c")))) == ["one", "1"]


def test_providers_count_is_for_the_messages_up_to_its_answer() -> None:
    counted = CallModelResult(step=EventId("s"), parts=(text("1"),), usage=Usage(input_tokens=7, output_tokens=3))
    conversation = folded(sent(message("u1"), message("u2")), step("u1"), counted, step("u2", name="t"))

    assert (conversation.used_tokens, conversation.measured) == (10, 2)

    conversation.feed(compaction())
    conversation.feed(summed("short"))

    assert (conversation.used_tokens, conversation.measured) == (0, 0)


# --- messages --------------------------------------------------------------------------------------------------------


def test_message_enters_when_a_step_takes_it() -> None:
    assert folded(sent(message("u1"))).messages == []
    assert folded(sent(message("u1")), step("u1")).messages == [UserTurn(HELLO)]


def test_message_that_waits_in_the_queue_stays_out() -> None:
    """It has arrived before the step, and the model must not see it before its own turn."""
    conversation = folded(sent(message("u1", "one"), message("u2", "two")), step("u1"), answer(text("1")))

    assert conversation.messages == [UserTurn((TextBlock(text="one"),)), AssistantTurn((text("1"),))]

    conversation.feed(step("u2"))

    assert conversation.messages[-1] == UserTurn((TextBlock(text="two"),))


def test_messages_enter_in_the_order_in_which_they_are_taken() -> None:
    conversation = folded(sent(message("u1", "one"), system("u2", "brief", "now")), step("u2", "u1"))

    assert conversation.messages == [SystemTurn("brief\nnow"), UserTurn((TextBlock(text="one"),))]


def test_message_sent_twice_enters_once() -> None:
    conversation = folded(sent(message("u1")), sent(message("u1")), step("u1"), step("u1"))

    assert conversation.messages == [UserTurn(HELLO)]


def test_message_without_an_id_is_found_by_the_id_it_was_given() -> None:
    cursor = LogCursor(SessionId("sesn_1"))
    (event,) = cursor.accept(UserEvents(sent=(message(""),)))

    assert folded(sent(message("")), step(event.id)).messages == [UserTurn(HELLO)]


def test_interrupt_and_confirmation_are_no_messages() -> None:
    confirmation = UserToolConfirmation(tool_use_id=EventId("a"), result="allow", id=EventId("u2"))

    assert folded(sent(UserInterrupt(id=EventId("u1")), confirmation), step("u1", "u2")).messages == []


@pytest.mark.parametrize("order", list(permutations("abc")))
def test_results_are_in_the_order_of_the_calls(order: tuple[str, ...]) -> None:
    conversation = folded(answer(call("a"), call("b"), call("c")), *(ran(id, id) for id in order), step(name="s2"))

    assert conversation.messages[-1] == ToolResults((result("a", "a"), result("b", "b"), result("c", "c")))


def test_results_come_before_a_message_that_came_meanwhile() -> None:
    conversation = folded(answer(call("a")), sent(system("u1", "hurry")), ran("a"), step("u1"))

    assert conversation.messages[1:] == [ToolResults((result("a", "done"),)), SystemTurn("hurry")]


def test_results_are_told_once() -> None:
    conversation = folded(answer(call("a")), ran("a"), step(), step(name="retry"))

    assert [type(each) for each in conversation.messages] == [AssistantTurn, ToolResults]


def test_custom_result_is_the_clients() -> None:
    reply = UserCustomToolResult(custom_tool_use_id=EventId("a"), content=HELLO, is_error=True)

    conversation = folded(answer(call("a", kind="custom")), sent(reply), step())

    assert conversation.messages[-1] == ToolResults((result("a", "hello", is_error=True),))


def test_first_result_of_a_call_counts() -> None:
    """A client's late answer to a call that has timed out changes nothing."""
    out_of_time = AgentToolResult(
        tool_use_id=EventId("a"), content=(TextBlock(text="late"),), is_error=True, outcome="timed_out"
    )
    reply = UserCustomToolResult(custom_tool_use_id=EventId("a"), content=HELLO)

    conversation = folded(answer(call("a", kind="custom")), Said(said=(out_of_time,)), sent(reply), step())

    assert conversation.messages[-1] == ToolResults((result("a", "late", is_error=True),))


def denied(id: str) -> AgentToolResult:
    return AgentToolResult(tool_use_id=EventId(id), content=(TextBlock(text="No."),), is_error=True, outcome="denied")


def test_denied_call_tells_the_reason_of_the_person() -> None:
    confirmation = UserToolConfirmation(tool_use_id=EventId("a"), result="deny", deny_message="too expensive")

    conversation = folded(answer(call("a")), sent(confirmation), Said(said=(denied("a"),)), step())

    assert conversation.messages[-1] == ToolResults(
        (ToolResult("call_a", "tool_a", (TextBlock(text="No."), TextBlock(text="Reason given: too expensive")), True),)
    )


def test_denied_call_without_a_reason_tells_none() -> None:
    conversation = folded(answer(call("a")), Said(said=(denied("a"),)), step())

    assert conversation.messages[-1] == ToolResults((result("a", "No.", is_error=True),))


@pytest.mark.parametrize("carrier", ["memo", "tool", "step"])
def test_result_that_the_workflow_says_counts_wherever_it_rides(carrier: str) -> None:
    said = (denied("a"),)
    records: dict[str, list[Record]] = {
        "memo": [Said(said=said), step()],
        "tool": [RunToolInput(tool_use_id=EventId("b"), name="t", said=said), ran("b"), step()],
        "step": [step(said=said)],
    }
    calls = [call("a"), call("b")] if carrier == "tool" else [call("a")]

    conversation = folded(answer(*calls), *records[carrier])

    (results,) = [each for each in conversation.messages if isinstance(each, ToolResults)]
    assert results.results[0] == result("a", "No.", is_error=True)


def test_call_without_a_result_gets_a_placeholder() -> None:
    """Providers refuse a conversation in which a call has no result."""
    conversation = folded(answer(call("a"), call("b")), ran("b"), step())

    assert conversation.messages[-1] == ToolResults(
        (result("a", "No result was recorded.", is_error=True), result("b", "done"))
    )


def test_result_of_a_call_that_nobody_made_is_left_out() -> None:
    conversation = folded(sent(message("u1")), ran("x"), step("u1"))

    assert conversation.messages == [UserTurn(HELLO)]


def test_partial_text_of_an_interrupted_answer_stays() -> None:
    partial = CallModelResult(step=EventId("s"), parts=(text("I was ab"),), finish_reason="interrupted")

    conversation = folded(sent(message("u1"), message("u2")), step("u1"), partial, step("u2"))

    assert conversation.messages == [UserTurn(HELLO), AssistantTurn((text("I was ab"),)), UserTurn(HELLO)]


def test_answer_of_nothing_leaves_no_message_and_is_a_step() -> None:
    conversation = folded(sent(message("u1")), step("u1"), answer())

    assert conversation.messages == [UserTurn(HELLO)]
    assert conversation.steps == 1


def test_failed_attempts_leave_nothing() -> None:
    failed = Said(said=(ModelRequestEnd(model_request_start_id=EventId("s1"), is_error=True), SessionRescheduled()))

    conversation = folded(sent(message("u1")), step("u1", name="s1"), failed, step(name="s2"), answer(text("hi")))

    assert conversation.messages == [UserTurn(HELLO), AssistantTurn((text("hi"),))]
    assert conversation.steps == 1


def test_thoughts_stay_with_the_answer_they_belong_to() -> None:
    thinking = ThinkingPart(id=EventId("p1"), text="hm", signature="sig")

    assert folded(answer(thinking, text("hi"))).messages == [AssistantTurn((thinking, text("hi")))]


def test_open_call_is_found_until_the_next_step() -> None:
    conversation = folded(answer(call("a")))

    assert conversation.call(EventId("a")) == call("a")
    assert conversation.call(EventId("b")) is None

    conversation.feed(step())

    assert conversation.call(EventId("a")) is None


# --- MCP servers -----------------------------------------------------------------------------------------------------


def listing(server: str, *tools: str, failed: bool = False) -> ListMcpToolsResult:
    failure = McpFailure(type="mcp_connection_failed_error", message="gone") if failed else None
    return ListMcpToolsResult(
        listings=(McpListing(server=server, tools=tuple(McpTool(name=tool) for tool in tools), failure=failure),)
    )


def offered(conversation: Conversation) -> dict[str, list[str]]:
    return {server: [tool.name for tool in tools] for server, tools in conversation.mcp_tools.items()}


def test_tools_of_a_server_are_those_of_its_last_listing() -> None:
    conversation = Conversation()
    for record in (listing("docs", "a", "b"), listing("shop", "c"), listing("docs", "b", "d")):
        conversation.feed(record)

    assert offered(conversation) == {"docs": ["b", "d"], "shop": ["c"]}
    assert conversation.messages == []


def test_server_that_fails_offers_nothing_until_it_is_back() -> None:
    conversation = Conversation()
    conversation.feed(listing("docs", "a"))
    conversation.feed(listing("docs", failed=True))
    assert offered(conversation) == {}
    conversation.feed(listing("docs", "a"))

    assert offered(conversation) == {"docs": ["a"]}


def test_question_of_a_server_is_no_result_and_its_answer_no_message() -> None:
    question = McpQuestion(id=EventId("q"), mcp_server_name="docs", message="Which?")
    reply = UserCustomToolResult(id=EventId("u"), custom_tool_use_id=EventId("q"), content=(TextBlock(text="3"),))
    conversation = Conversation()
    conversation.feed(step("m"))
    conversation.feed(answer(call("a", kind="mcp")))
    conversation.feed(RunToolResult(tool_use_id=EventId("a"), mcp=McpOutcome(questions=(question,))))
    conversation.feed(sent(reply), [reply])
    assert conversation.answer(EventId("q")) == reply
    conversation.feed(RunToolResult(tool_use_id=EventId("a"), content=(TextBlock(text="ok"),), mcp=McpOutcome()))
    conversation.feed(step(name="s2"))

    assert conversation.messages[-1] == ToolResults((result("a", "ok"),))


def test_result_that_the_workflow_gives_a_call_to_a_server_settles_it() -> None:
    said = AgentMcpToolResult(
        mcp_tool_use_id=EventId("a"), content=(TextBlock(text="No."),), is_error=True, outcome="denied"
    )
    conversation = Conversation()
    conversation.feed(step("m"))
    conversation.feed(answer(call("a", kind="mcp")))
    conversation.feed(Said(said=(said,)))
    conversation.feed(step(name="s2"))

    assert conversation.messages[-1] == ToolResults((result("a", "No.", is_error=True),))
