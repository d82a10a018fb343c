import pytest

from sojourn.client.answer import Answer, OpenCalls, answers
from sojourn.types.agent import AgentDefinition, AgentVersion
from sojourn.types.content import TextBlock
from sojourn.types.error import InvalidRequestError, ToolCallNotFoundError, ToolCallSettledError
from sojourn.types.event import (
    AgentMcpToolResult,
    AgentToolResult,
    UserCustomToolResult,
    UserEvent,
    UserInterrupt,
    UserMessage,
    UserToolConfirmation,
)
from sojourn.types.id import AgentId, EventId, SessionId
from sojourn.types.mcp import McpOutcome, McpQuestion
from sojourn.types.model import ModelRef
from sojourn.types.record import (
    CallModelInput,
    CallModelResult,
    Record,
    RunToolInput,
    RunToolResult,
    Said,
    ToolCallPart,
    UserEvents,
)
from sojourn.types.session import CallState, Owner, SessionInput, SessionState, SessionStatus, TurnState

PAY, ASK, RUN = EventId("sevt_pay"), EventId("sevt_ask"), EventId("sevt_run")


def call(id: EventId, *, kind: str = "function", permission: str = "ask") -> ToolCallPart:
    return ToolCallPart.model_validate(
        {"id": id, "call_id": "c", "name": id[5:], "input": {}, "kind": kind, "permission": permission}
    )


STEP = CallModelResult(
    step=EventId("sevt_step"),
    parts=(call(PAY), call(ASK, kind="custom", permission="allow"), call(RUN, permission="allow")),
)

TIMED_OUT = AgentToolResult(tool_use_id=ASK, is_error=True, outcome="timed_out")


def fed(*records: Record) -> OpenCalls:
    calls = OpenCalls()
    for record in records:
        calls.feed(record)
    return calls


def confirmation(id: str = PAY, *, allow: bool = True, event_id: str = "") -> UserToolConfirmation:
    return UserToolConfirmation(tool_use_id=EventId(id), result="allow" if allow else "deny", id=EventId(event_id))


def result(id: str = ASK, *, text: str = "42", event_id: str = "") -> UserCustomToolResult:
    return UserCustomToolResult(custom_tool_use_id=EventId(id), content=(TextBlock(text=text),), id=EventId(event_id))


def sent(*events: Answer) -> UserEvents:
    return UserEvents(sent=events)


def started(*states: CallState) -> SessionInput:
    return SessionInput(
        session_id=SessionId("sesn_1"),
        owner=Owner("acme", "ada"),
        agent=AgentVersion(
            id=AgentId("agent_1"), version=1, definition=AgentDefinition(name="a", model=ModelRef.of("scripted:echo"))
        ),
        state=SessionState(seq=9, user_events=1, status=SessionStatus.IDLE, turn=TurnState(calls=states)),
    )


def pending(calls: OpenCalls) -> list[tuple[str, str]]:
    return [(action.id, action.kind) for action in calls.pending]


def test_calls_that_wait_are_pending_in_the_models_order() -> None:
    assert pending(fed(STEP)) == [(PAY, "confirmation"), (ASK, "custom_tool_result")]


def test_answer_is_taken_as_soon_as_the_call_is_in_the_log() -> None:
    """The session may not have parked yet: other calls of the step still run."""
    calls = fed(STEP)

    assert calls.admit(confirmation())
    assert calls.admit(result())
    assert calls.pending == []


def test_answer_equal_to_the_one_in_the_log_is_no_news() -> None:
    calls = fed(STEP, sent(confirmation(event_id="sevt_1"), result(event_id="sevt_2")))

    assert not calls.admit(confirmation(event_id="sevt_3"))
    assert not calls.admit(result(event_id="sevt_4"))


def test_equal_answer_is_no_news_even_after_the_call_has_run() -> None:
    calls = fed(STEP, sent(confirmation()), RunToolInput(tool_use_id=PAY, name="pay"), RunToolResult(tool_use_id=PAY))

    assert not calls.admit(confirmation())


def test_equal_answers_in_one_batch_are_one() -> None:
    calls = fed(STEP)

    assert [calls.admit(confirmation()), calls.admit(confirmation())] == [True, False]


@pytest.mark.parametrize("answer", [confirmation(allow=False), result(text="43")], ids=lambda answer: answer.type)
def test_different_answer_is_refused(answer: Answer) -> None:
    calls = fed(STEP, sent(confirmation(), result()))

    with pytest.raises(ToolCallSettledError) as error:
        calls.admit(answer)

    assert error.value.tool_use_id in (PAY, ASK)


@pytest.mark.parametrize(
    "settled",
    [
        Said(said=(AgentToolResult(tool_use_id=ASK, is_error=True, outcome="timed_out"),)),
        CallModelInput(
            step=EventId("s"), said=(AgentToolResult(tool_use_id=ASK, is_error=True, outcome="interrupted"),)
        ),
        RunToolInput(
            tool_use_id=RUN, name="run", said=(AgentToolResult(tool_use_id=ASK, is_error=True, outcome="timed_out"),)
        ),
    ],
    ids=["memo", "step", "tool"],
)
def test_late_answer_is_refused(settled: Record) -> None:
    calls = fed(STEP, settled)

    with pytest.raises(ToolCallSettledError):
        calls.admit(result())
    assert (ASK, "custom_tool_result") not in pending(calls)


def test_answer_to_a_call_that_runs_already_is_refused() -> None:
    calls = fed(STEP, RunToolInput(tool_use_id=RUN, name="run"))

    with pytest.raises(ToolCallSettledError):
        calls.admit(confirmation(RUN))


def test_answer_to_a_call_of_an_earlier_step_is_late() -> None:
    calls = fed(STEP, CallModelResult(step=EventId("sevt_next")))

    assert calls.pending == []
    with pytest.raises(ToolCallSettledError):
        calls.admit(confirmation())


@pytest.mark.parametrize("answer", [confirmation("sevt_x"), result("sevt_x")], ids=lambda answer: answer.type)
def test_answer_to_a_call_that_nobody_made_is_refused(answer: Answer) -> None:
    with pytest.raises(ToolCallNotFoundError) as error:
        fed(STEP).admit(answer)

    assert error.value.tool_use_id == "sevt_x"


@pytest.mark.parametrize(
    ("answer", "param", "text"),
    [
        (result(PAY), "custom_tool_use_id", "'pay' runs on the worker and takes no result"),
        (confirmation(ASK), "tool_use_id", "'ask' takes a result with user.custom_tool_result"),
        (confirmation(RUN), "tool_use_id", "'run' takes no confirmation"),
    ],
    ids=["result for an approval", "confirmation for a custom tool", "confirmation of what is allowed"],
)
def test_answer_of_the_wrong_kind_is_refused_and_changes_nothing(answer: Answer, param: str, text: str) -> None:
    calls = fed(STEP)
    before = calls.pending

    with pytest.raises(InvalidRequestError, match=text) as error:
        calls.admit(answer)

    assert error.value.param == param
    assert calls.pending == before


def test_calls_that_the_run_before_has_left_open_wait_still() -> None:
    calls = OpenCalls()

    calls.begin(
        started(
            CallState(id=PAY, name="pay", kind="function", permission="ask"),
            CallState(id=ASK, name="ask", kind="custom", permission="allow", settled=True),
            CallState(id=RUN, name="run", kind="function", permission="ask", approved=True),
        )
    )

    assert calls.begun
    assert pending(calls) == [(PAY, "confirmation")]
    assert calls.admit(confirmation())
    for late in (result(), confirmation(RUN)):
        with pytest.raises(ToolCallSettledError):
            calls.admit(late)


def test_run_that_begins_between_turns_has_left_nothing_open() -> None:
    calls = OpenCalls()

    calls.begin(started().model_copy(update={"state": None}))

    assert (calls.begun, calls.pending) == (True, [])


def test_answers_are_told_from_other_events() -> None:
    events: list[UserEvent] = [UserMessage.text("hi"), confirmation(), UserInterrupt(), result()]

    assert answers(events) == [confirmation(), result()]


@pytest.mark.parametrize(
    "answer", [result(PAY), confirmation(ASK), confirmation(RUN), confirmation("sevt_x")], ids=lambda event: event.type
)
def test_answer_that_came_past_the_checks_and_does_not_fit_changes_nothing(answer: Answer) -> None:
    """The workflow ignores it too: the call waits on, and the right answer is taken."""
    calls = fed(STEP, sent(answer))

    assert pending(calls) == [(PAY, "confirmation"), (ASK, "custom_tool_result")]
    assert calls.admit(confirmation())
    assert calls.admit(result())


def test_of_two_answers_in_the_log_the_first_counts() -> None:
    calls = fed(STEP, sent(confirmation(allow=False)), sent(confirmation(allow=True)))

    assert not calls.admit(confirmation(allow=False))
    with pytest.raises(ToolCallSettledError):
        calls.admit(confirmation(allow=True))


def test_answer_that_stands_before_the_models_result_counts() -> None:
    """The server writes a result that came while the workflow was busy behind the signals that came meanwhile."""
    step = CallModelInput(step=EventId("sevt_step"))

    assert pending(fed(step, sent(confirmation()), STEP)) == [(ASK, "custom_tool_result")]
    assert pending(fed(sent(confirmation()), step, STEP)) == [(PAY, "confirmation"), (ASK, "custom_tool_result")]


def test_a_repeated_event_is_not_taken_again() -> None:
    calls = fed(sent(result(event_id="sevt_1")), STEP, sent(result(event_id="sevt_1")))

    assert pending(calls) == [(PAY, "confirmation"), (ASK, "custom_tool_result")]


def test_an_event_that_is_in_the_log_is_no_news() -> None:
    calls = fed(STEP, sent(confirmation(event_id="sevt_1")), CallModelResult(step=EventId("sevt_next")))

    assert not calls.admit(confirmation(event_id="sevt_1"))


def test_a_later_run_says_that_there_were_runs_before() -> None:
    first, later = OpenCalls(), OpenCalls()
    first.begin(started().model_copy(update={"state": None}))
    later.begin(started())

    assert (first.continued, later.continued) == (False, True)


QUESTION = EventId("sevt_question")
ASKED = RunToolResult(
    tool_use_id=RUN, mcp=McpOutcome(questions=(McpQuestion(id=QUESTION, mcp_server_name="docs", message="Which?"),))
)


def test_question_of_a_server_is_answered_like_a_custom_tool() -> None:
    calls = fed(STEP, ASKED)

    assert (QUESTION, "custom_tool_result") in pending(calls)
    with pytest.raises(InvalidRequestError):
        calls.admit(confirmation(QUESTION))
    assert calls.admit(result(QUESTION))
    assert QUESTION not in dict(pending(calls))


@pytest.mark.parametrize(
    "settled",
    [
        RunToolResult(tool_use_id=RUN, mcp=McpOutcome()),
        Said(said=(AgentMcpToolResult(mcp_tool_use_id=RUN, is_error=True, outcome="interrupted"),)),
    ],
    ids=["by the server", "by the workflow"],
)
def test_answer_after_the_result_of_a_call_to_a_server_is_late(settled: Record) -> None:
    calls = fed(STEP, ASKED, sent(result(QUESTION)), settled)

    with pytest.raises(ToolCallSettledError):
        calls.admit(result(QUESTION, text="another"))
    with pytest.raises(ToolCallSettledError):
        calls.admit(confirmation(RUN))
