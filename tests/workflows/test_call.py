from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.types.event import AgentMcpToolResult, ToolOutcome, UserCustomToolResult, UserToolConfirmation
from sojourn.types.id import EventId
from sojourn.types.mcp import McpOutcome, McpQuestion
from sojourn.types.record import ToolCallPart
from sojourn.types.session import CallState
from sojourn.workflows.call import Call, Calls

START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def part(id: str, **fields: object) -> ToolCallPart:
    usual = {"call_id": "c", "name": "pay", "input": {}, "kind": "function", "permission": "allow"}
    return ToolCallPart.model_validate({**usual, "id": id, **fields})


def custom(id: str, **fields: object) -> ToolCallPart:
    return part(id, kind="custom", **fields)


def asking(id: str) -> ToolCallPart:
    return part(id, permission="ask")


def asked(*parts: ToolCallPart) -> Calls:
    return Calls.asked(parts, at=START)


def ids(calls: list[Call]) -> list[str]:
    return [call.id for call in calls]


def confirmation(id: str, *, allow: bool = True) -> UserToolConfirmation:
    return UserToolConfirmation(tool_use_id=EventId(id), result="allow" if allow else "deny")


def result(id: str) -> UserCustomToolResult:
    return UserCustomToolResult(custom_tool_use_id=EventId(id))


def test_permitted_call_is_ready_and_the_others_wait() -> None:
    calls = asked(part("a"), asking("b"), custom("c"), custom("d", permission="ask"))

    assert ids(calls.ready) == ["a"]
    assert ids(calls.waiting) == ["b", "c", "d"]
    assert ids(calls.open) == ["a", "b", "c", "d"]


def test_started_call_is_open_and_not_ready() -> None:
    calls = asked(part("a"))

    calls.ready[0].started = True

    assert calls.ready == []
    assert ids(calls.open) == ["a"]


def test_settled_call_is_over() -> None:
    calls = asked(part("a"), asking("b"), custom("c"))

    for call in calls.open:
        call.settled = True

    assert (calls.open, calls.ready, calls.waiting) == ([], [], [])


def test_confirmed_call_becomes_ready() -> None:
    calls = asked(asking("a"), asking("b"))

    assert calls.confirm(confirmation("b")) is None

    assert ids(calls.ready) == ["b"]
    assert ids(calls.waiting) == ["a"]


def test_denied_call_is_handed_to_the_caller() -> None:
    calls = asked(asking("a"))

    denied = calls.confirm(confirmation("a", allow=False))

    assert denied is not None
    assert denied.id == "a"
    assert calls.ready == []


def test_second_answer_to_an_approval_changes_nothing() -> None:
    calls = asked(asking("a"))
    calls.confirm(confirmation("a"))

    assert calls.confirm(confirmation("a", allow=False)) is None

    assert ids(calls.ready) == ["a"]


@pytest.mark.parametrize("id", ["unknown", "allowed", "custom"])
@pytest.mark.parametrize("allow", [True, False])
def test_confirmation_of_anything_else_changes_nothing(id: str, allow: bool) -> None:
    calls = asked(part("allowed"), custom("custom", permission="ask"))
    before = calls.carry()

    assert calls.confirm(confirmation(id, allow=allow)) is None

    assert calls.carry() == before


def test_answered_custom_call_is_settled() -> None:
    calls = asked(custom("a"), custom("b"))

    calls.answer(result("a"))

    assert ids(calls.open) == ["b"]


@pytest.mark.parametrize("id", ["unknown", "allowed", "asking"])
def test_custom_result_for_anything_else_changes_nothing(id: str) -> None:
    calls = asked(part("allowed"), asking("asking"))
    before = calls.carry()

    calls.answer(result(id))

    assert calls.carry() == before


def test_deadline_is_the_first_one_of_the_custom_calls() -> None:
    calls = asked(custom("a", timeout=30), custom("b", timeout=10), custom("c"))

    assert calls.deadline(MINUTE) == START + timedelta(seconds=10)


def test_limit_of_the_agent_holds_for_a_custom_call_without_its_own() -> None:
    assert asked(custom("a")).deadline(MINUTE) == START + MINUTE


def test_wait_without_limit_has_no_deadline() -> None:
    assert asked(custom("a")).deadline(None) is None


def test_approval_waits_for_ever() -> None:
    """A tool's timeout is about its run, not about the person who approves it."""
    calls = asked(part("a", permission="ask", timeout=1))

    assert calls.deadline(MINUTE) is None
    assert calls.expired(MINUTE, now=START + timedelta(days=7)) == []


def test_settled_call_has_no_deadline() -> None:
    calls = asked(custom("a", timeout=10), custom("b", timeout=20))

    calls.answer(result("a"))

    assert calls.deadline(MINUTE) == START + timedelta(seconds=20)


def test_call_expires_at_its_deadline_and_not_before() -> None:
    calls = asked(custom("a", timeout=10), custom("b", timeout=20))
    end = START + timedelta(seconds=10)

    assert calls.expired(MINUTE, now=end - timedelta(microseconds=1)) == []
    assert ids(calls.expired(MINUTE, now=end)) == ["a"]
    assert calls.expired(None, now=end) == calls.expired(MINUTE, now=end)


def test_deadline_does_not_move_when_it_is_carried_to_the_next_run() -> None:
    calls = asked(custom("a", timeout=10))

    carried = Calls.carried(calls.carry(), now=START + timedelta(seconds=9))

    assert carried.deadline(MINUTE) == START + timedelta(seconds=10)


def test_wait_of_an_older_release_counts_from_now() -> None:
    state = CallState(id=EventId("a"), name="pay", kind="custom", permission="allow")

    assert Calls.carried([state], now=START).deadline(MINUTE) == START + MINUTE


calls_of_a_step = st.lists(
    st.builds(
        CallState,
        id=st.uuids().map(lambda id: EventId(f"sevt_{id.hex}")),
        name=st.sampled_from(["pay", "search"]),
        kind=st.sampled_from(["function", "custom", "unknown"]),
        permission=st.sampled_from(["allow", "ask", "deny"]),
        idempotent=st.booleans(),
        timeout=st.none() | st.just(MINUTE),
        asked_at=st.just(START),
        approved=st.booleans(),
        settled=st.booleans(),
    ),
    max_size=5,
    unique_by=lambda state: state.id,
).map(tuple)


@given(calls_of_a_step)
def test_calls_survive_continue_as_new(states: tuple[CallState, ...]) -> None:
    calls = Calls.carried(states, now=START)

    assert calls.carry() == states
    assert ids(calls.waiting) == [state.id for state in states if state.waits_for_client]


@given(calls_of_a_step)
def test_call_is_settled_waiting_ready_or_started(states: tuple[CallState, ...]) -> None:
    calls = Calls.carried(states, now=START)

    settled = {state.id for state in states if state.settled}
    assert settled | set(ids(calls.waiting)) | set(ids(calls.ready)) == {state.id for state in states}
    assert not set(ids(calls.waiting)) & set(ids(calls.ready))


def test_started_call_runs_again_after_continue_as_new() -> None:
    """A run is only left when nothing is in flight, so what was started has been settled, too."""
    calls = asked(part("a"), part("b"))
    for call in calls.ready:
        call.started = True
    calls.open[0].settled = True

    assert ids(Calls.carried(calls.carry(), now=START).ready) == ["b"]


@pytest.mark.parametrize("outcome", ["denied", "interrupted", "timed_out", "unknown", "error"])
def test_result_given_by_the_workflow_is_an_error_in_words(outcome: ToolOutcome) -> None:
    found = asked(part("a")).open[0].result(outcome)

    assert (found.tool_use_id, found.outcome, found.is_error) == ("a", outcome, True)
    assert found.text.endswith(".")


def test_lost_attempt_warns_that_it_may_have_had_its_effect() -> None:
    assert "may have had its effect" in asked(part("a")).open[0].result("unknown").text


def test_title_shows_the_arguments_and_is_short() -> None:
    calls = asked(part("a", input={"amount": 5, "to": "ada"}), part("b", input={"text": "x" * 500}))

    assert [call.title for call in calls.open] == ["pay(amount=5, to='ada')", f"pay(text='{'x' * 109}…"]
    assert len(calls.open[1].title) == 120


# --- questions of MCP servers --------------------------------------------------------------------------------------


def questions(*ids: str) -> McpOutcome:
    return McpOutcome(
        questions=tuple(McpQuestion(id=EventId(id), mcp_server_name="docs", message="Which?") for id in ids),
        queue="own",
    )


def asking_server(*ids: str) -> tuple[Calls, Call]:
    calls = asked(part("a", kind="mcp", mcp_server_name="docs"))
    (call,) = calls.ready
    call.started = True
    calls.ask(call, questions(*ids), at=START)
    return calls, call


def test_call_whose_server_asks_waits_for_all_answers() -> None:
    calls, call = asking_server("q1", "q2")

    assert (ids(calls.waiting), ids(calls.ready)) == (["q1", "q2"], [])
    calls.answer(result("q1"))
    assert (ids(calls.waiting), ids(calls.ready)) == (["q2"], [])
    calls.answer(result("q2"))
    assert (ids(calls.waiting), ids(calls.ready)) == ([], ["a"])

    resumption = calls.resume(call)
    assert resumption is not None
    assert (resumption.queue, resumption.answered, resumption.withdrawn) == ("own", ("q1", "q2"), ())
    assert ids(calls.open) == ["a"]
    assert calls.resume(call) is None


def test_question_whose_time_is_up_is_withdrawn() -> None:
    calls, call = asking_server("q1")

    (late,) = calls.expired(MINUTE, now=START + MINUTE)
    late.settled = True
    resumption = calls.resume(call)

    assert resumption is not None
    assert (resumption.answered, resumption.withdrawn) == ((), ("q1",))


def test_open_question_is_carried_to_the_next_run() -> None:
    calls, _ = asking_server("q1", "q2")
    calls.answer(result("q1"))
    carried = Calls.carried(calls.carry(), now=START)

    assert ids(carried.waiting) == ["q2"]
    assert carried.asking == {"a": "own"}
    carried.answer(result("q2"))
    (call,) = carried.ready
    resumption = carried.resume(call)
    assert call.mcp_server_name == "docs"
    assert resumption is not None
    assert resumption.answered == ("q1", "q2")


@pytest.mark.parametrize("outcome", ["denied", "interrupted", "timed_out", "unknown", "error"])
def test_result_that_the_workflow_gives_a_call_to_a_server_is_of_its_kind(outcome: ToolOutcome) -> None:
    (call,) = asked(part("a", kind="mcp", mcp_server_name="docs")).open
    given = call.result(outcome)

    assert isinstance(given, AgentMcpToolResult)
    assert (given.mcp_tool_use_id, given.outcome, given.is_error) == ("a", outcome, True)
