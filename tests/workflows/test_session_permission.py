"""Who may run a tool, and the answers of the client."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from sojourn.activities.tool import Tool, tool
from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import (
    AgentToolResult,
    AgentToolUse,
    InvalidRequestError,
    ModelRequestStart,
    PermissionPolicy,
    SessionStatus,
    ToolCallNotFoundError,
    ToolCallSettledError,
    UserCustomToolResult,
    UserMessage,
    UserToolConfirmation,
)
from sojourn.types.id import EventId, new_event_id
from sojourn.types.name import USER_EVENTS_SIGNAL
from sojourn.types.record import UserEvents
from sojourn.worker import WorkerOptions

if TYPE_CHECKING:
    from tests.conftest import Eventually, PlayedModel, Stage

ASK = PermissionPolicy(default="ask")


class Till:
    """Tools with an effect that can be counted."""

    def __init__(self) -> None:
        self.paid: list[int] = []

    @property
    def pay(self) -> Tool:
        def pay(amount: int) -> str:
            self.paid.append(amount)
            return f"paid {amount}"

        return tool(pay)

    @property
    def look(self) -> Tool:
        def look() -> str:
            return "seen"

        return tool(look)


@pytest.fixture
def till() -> Till:
    return Till()


def _pay(*amounts: int) -> ScriptedTurn:
    return ScriptedTurn(calls=[ScriptedCall("pay", {"amount": amount}) for amount in amounts])


async def test_without_rules_a_tool_is_allowed(stage: "Stage", till: Till) -> None:
    probe = await stage.session(_pay(1), ScriptedTurn(text="ok"), tools=[till.pay])

    await probe.session.send_and_wait("go")
    await probe.idle()

    assert till.paid == [1]
    assert probe.of(AgentToolUse)[0].evaluated_permission == "allow"


@pytest.mark.parametrize(
    "policy", [PermissionPolicy(tools={"pay": "deny"}), PermissionPolicy(default="deny")], ids=["tool", "default"]
)
async def test_a_denied_tool_answers_with_an_error_at_once(
    stage: "Stage", till: Till, played: "type[PlayedModel]", policy: PermissionPolicy
) -> None:
    model = played(_pay(1), ScriptedTurn(text="then not"))
    probe = await stage.session(script=model, tools=[till.pay], policy=policy)

    await probe.session.send_and_wait("go")
    await probe.idle(reason="end_turn")

    assert till.paid == []
    assert (probe.results()["pay"].outcome, probe.results()["pay"].is_error) == ("denied", True)
    assert model.context()[-1] == ("error", "The call was not permitted. The tool did not run.")


async def test_rules_differ_by_tool(stage: "Stage", till: Till) -> None:
    policy = PermissionPolicy(default="deny", tools={"look": "allow"})
    both = ScriptedTurn(calls=[ScriptedCall("look"), ScriptedCall("pay", {"amount": 1})])
    probe = await stage.session(both, ScriptedTurn(text="ok"), tools=[till.pay, till.look], policy=policy)

    await probe.session.send_and_wait("go")
    await probe.idle()

    # A default of deny is a list of what is allowed.
    assert {name: result.outcome for name, result in probe.results().items()} == {"look": "ok", "pay": "denied"}


async def test_a_tool_rule_beats_a_default_that_asks(stage: "Stage", till: Till) -> None:
    policy = PermissionPolicy(default="ask", tools={"pay": "allow"})
    probe = await stage.session(_pay(3), ScriptedTurn(text="ok"), tools=[till.pay], policy=policy)

    await probe.session.send_and_wait("go")

    assert till.paid == [3]


async def test_session_rules_beat_the_agents(stage: "Stage", till: Till) -> None:
    probe = await stage.session(
        _pay(1),
        ScriptedTurn(text="ok"),
        tools=[till.pay],
        policy=ASK,
        permissions=PermissionPolicy(tools={"pay": "allow"}),
    )

    await probe.session.send_and_wait("go")

    assert till.paid == [1]


async def test_a_deny_of_the_worker_beats_an_allow_of_the_session(stage: "Stage", till: Till) -> None:
    probe = await stage.session(
        _pay(1),
        ScriptedTurn(text="ok"),
        tools=[till.pay],
        permissions=PermissionPolicy(tools={"pay": "allow"}),
        options=WorkerOptions(permissions=PermissionPolicy(tools={"pay": "deny"})),
    )

    await probe.session.send_and_wait("go")
    await probe.idle()

    assert till.paid == []
    assert probe.results()["pay"].outcome == "denied"


async def test_a_tools_own_declaration_holds_where_nobody_has_a_rule(stage: "Stage", till: Till) -> None:
    @tool(permission="ask")
    def careful() -> str:
        return "done"

    probe = await stage.session(ScriptedTurn(calls=[ScriptedCall("careful")]), tools=[careful])

    await probe.session.send("go")

    assert len(await probe.parked()) == 1


async def test_an_allowed_call_runs_after_it_was_confirmed(stage: "Stage", till: Till) -> None:
    probe = await stage.session(_pay(7), ScriptedTurn(text="paid"), tools=[till.pay], policy=ASK)
    await probe.session.send("go")
    (call,) = await probe.parked()
    assert till.paid == []

    await probe.session.confirm(call, allow=True)
    await probe.idle(2, "end_turn")

    assert till.paid == [7]
    assert probe.story() == [
        "user.message",
        "session.status_running",
        "agent.tool_use",
        "session.status_idle",
        "user.tool_confirmation",
        "session.status_running",
        "agent.tool_result",
        "agent.message",
        "session.status_idle",
    ]


async def test_the_reason_of_a_denial_reaches_the_model(
    stage: "Stage", till: Till, played: "type[PlayedModel]"
) -> None:
    model = played(_pay(7), ScriptedTurn(text="I see"))
    probe = await stage.session(script=model, tools=[till.pay], policy=ASK)
    await probe.session.send("go")
    (call,) = await probe.parked()

    await probe.session.confirm(call, allow=False, message="too expensive")
    await probe.idle(2, "end_turn")

    role, text = model.context()[-1]
    assert role == "error"
    assert "too expensive" in text
    assert till.paid == []
    assert probe.results()["pay"].outcome == "denied"


async def test_a_partial_answer_asks_again_for_what_is_left(stage: "Stage", till: Till) -> None:
    probe = await stage.session(_pay(1, 2, 3), ScriptedTurn(text="ok"), tools=[till.pay], policy=ASK)
    await probe.session.send("go")
    first, second, third = await probe.parked()

    await probe.session.confirm(second, allow=True)
    assert await probe.parked(2) == [first, third]
    await probe.session.confirm(first, allow=False)
    assert await probe.parked(3) == [third]
    assert till.paid == []
    await probe.session.confirm(third, allow=True)
    await probe.idle(4, "end_turn")

    assert sorted(till.paid) == [2, 3]


async def test_several_answers_in_one_call_resume_at_once(stage: "Stage", till: Till) -> None:
    probe = await stage.session(_pay(1, 2), ScriptedTurn(text="ok"), tools=[till.pay], policy=ASK)
    await probe.session.send("go")
    calls = await probe.parked()

    answers = [UserToolConfirmation(tool_use_id=EventId(call), result="allow") for call in calls]
    await stage.runtime.send_event(probe.session, *answers)
    await probe.idle(2, "end_turn")

    assert sorted(till.paid) == [1, 2]


async def test_an_answer_may_come_while_another_tool_of_the_step_still_runs(stage: "Stage", till: Till) -> None:
    running, release = asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        running.set()
        await release.wait()
        return "at last"

    both = ScriptedTurn(calls=[ScriptedCall("slow"), ScriptedCall("pay", {"amount": 1})])
    policy = PermissionPolicy(tools={"pay": "ask"})
    probe = await stage.session(both, ScriptedTurn(text="ok"), tools=[slow, till.pay], policy=policy)
    await probe.session.send("go")
    await running.wait()
    call = await probe.saw(AgentToolUse, where=lambda use: use.name == "pay")

    await probe.session.confirm(call, allow=True)
    await probe.saw(AgentToolResult)
    assert till.paid == [1]
    release.set()
    await probe.idle(1, "end_turn")


@pytest.mark.parametrize("allow", [True, False], ids=["allow", "deny"])
async def test_an_answer_that_overtakes_the_workflow_is_kept(stage: "Stage", till: Till, allow: bool) -> None:
    """The call is in the log as soon as the model has answered; the workflow may hear of the client's answer first."""
    turns = (replace(_pay(1), text="slow", chunk_delay=timedelta(seconds=0.5)), ScriptedTurn(text="ok"))
    leaving = await stage.work(turns, tools=[till.pay], options=WorkerOptions())
    probe = await stage.open(await stage.agent("pay", policy=ASK))
    await probe.session.send("go")
    await probe.saw(ModelRequestStart)
    # It finishes the model call on its way out, but takes no more workflow tasks.
    await stage.stop(leaving)
    call = await probe.saw(AgentToolUse)

    await probe.session.confirm(call, allow=allow)
    await stage.work(turns, tools=[till.pay])
    await probe.idle(reason="end_turn")

    assert till.paid == [1] * allow
    assert probe.results()["pay"].outcome == ("ok" if allow else "denied")


async def test_an_equal_answer_given_twice_is_one(stage: "Stage", till: Till) -> None:
    probe = await stage.session(_pay(1, 2), ScriptedTurn(text="ok"), tools=[till.pay], policy=ASK)
    await probe.session.send("go")
    first, second = await probe.parked()

    await probe.session.confirm(first, allow=True)
    await probe.session.confirm(first, allow=True)
    await probe.session.confirm(second, allow=True)
    await probe.idle(3, "end_turn")
    await probe.session.confirm(first, allow=True)

    assert len(probe.of(UserToolConfirmation)) == 2
    assert sorted(till.paid) == [1, 2]


async def test_a_different_second_answer_is_refused(stage: "Stage", till: Till) -> None:
    probe = await stage.session(_pay(1, 2), ScriptedTurn(text="ok"), tools=[till.pay], policy=ASK)
    await probe.session.send("go")
    first, _ = await probe.parked()
    await probe.session.confirm(first, allow=True)
    await probe.parked(2)
    before = len(probe.log)

    with pytest.raises(ToolCallSettledError) as error:
        await probe.session.confirm(first, allow=False)

    assert error.value.tool_use_id == first
    assert len(await stage.runtime.list_events(probe.session)) == before


async def test_a_late_answer_is_refused(stage: "Stage", till: Till) -> None:
    probe = await stage.session(_pay(1), ScriptedTurn(text="ok"), tools=[till.pay], policy=ASK)
    await probe.session.send("go")
    (call,) = await probe.parked()
    await probe.session.interrupt()
    await probe.idle(2, "end_turn")
    before = len(probe.log)

    with pytest.raises(ToolCallSettledError):
        await probe.session.confirm(call, allow=True)

    assert till.paid == []
    assert len(await stage.runtime.list_events(probe.session)) == before


async def test_an_answer_to_an_unknown_call_is_refused(stage: "Stage", till: Till) -> None:
    probe = await stage.session(_pay(1), tools=[till.pay], policy=ASK)
    await probe.session.send("go")
    await probe.parked()
    before = len(probe.log)

    with pytest.raises(ToolCallNotFoundError):
        await probe.session.confirm(new_event_id(), allow=True)

    assert len(await stage.runtime.list_events(probe.session)) == before


async def test_a_batch_with_a_wrong_answer_stores_nothing(stage: "Stage", till: Till) -> None:
    probe = await stage.session(_pay(1), tools=[till.pay], policy=ASK)
    await probe.session.send("go")
    (call,) = await probe.parked()
    before = len(probe.log)

    right = UserToolConfirmation(tool_use_id=EventId(call), result="allow")
    wrong = UserToolConfirmation(tool_use_id=new_event_id(), result="allow")
    with pytest.raises(ToolCallNotFoundError):
        await stage.runtime.send_event(probe.session, UserMessage.text("and"), right, wrong)

    assert len(await stage.runtime.list_events(probe.session)) == before
    assert till.paid == []


async def test_a_call_that_runs_by_itself_takes_no_answer(stage: "Stage", till: Till) -> None:
    both = ScriptedTurn(calls=[ScriptedCall("look"), ScriptedCall("pay", {"amount": 1})])
    policy = PermissionPolicy(tools={"pay": "ask"})
    probe = await stage.session(both, tools=[till.pay, till.look], policy=policy)
    await probe.session.send("go")
    (pay,) = await probe.parked()
    look = probe.of(AgentToolUse)[0]

    with pytest.raises(ToolCallSettledError):
        await probe.session.confirm(look, allow=True)
    with pytest.raises(InvalidRequestError):
        await probe.session.answer(pay, "a result of my own")


async def test_messages_wait_while_the_session_is_parked(
    stage: "Stage", till: Till, played: "type[PlayedModel]"
) -> None:
    model = played(_pay(1), ScriptedTurn(text="paid"), ScriptedTurn(text="next"))
    probe = await stage.session(script=model, tools=[till.pay], policy=ASK)
    await probe.session.send("go")
    (call,) = await probe.parked()

    await probe.session.send("and then")
    await probe.session.confirm(call, allow=True)
    await probe.idle(3, "end_turn")

    assert probe.texts() == ["paid", "next"]
    assert ("user", "and then") not in model.context(1)


async def test_a_parked_session_is_listed_as_waiting(stage: "Stage", till: Till, eventually: "Eventually") -> None:
    probe = await stage.session(_pay(1), tools=[till.pay], policy=ASK)
    await probe.session.send("go")
    await probe.parked()

    async def listed() -> bool:
        return [each.id for each in (await stage.runtime.list_sessions(stop_reason="requires_action")).data] == [
            probe.session.id
        ]

    await eventually(listed, "the session is listed as waiting for an answer")
    assert await probe.session.status() is SessionStatus.IDLE


async def test_a_raw_answer_of_the_wrong_kind_leaves_the_call_pending(stage: "Stage", till: Till) -> None:
    """Nobody can refuse a signal; the log shows it, and the call still waits for the right answer."""
    probe = await stage.session(_pay(1), ScriptedTurn(text="ok"), tools=[till.pay], policy=ASK)
    await probe.session.send("go")
    (call,) = await probe.parked()

    wrong = UserCustomToolResult(id=new_event_id(), custom_tool_use_id=EventId(call))
    handle = stage.client.get_workflow_handle(probe.workflow_id)
    await handle.signal(USER_EVENTS_SIGNAL, UserEvents(sent=(wrong,)))
    await probe.caught_up()
    assert [action.id for action in await probe.session.pending_actions()] == [call]
    await probe.session.confirm(call, allow=True)
    await probe.idle(2, "end_turn")

    assert till.paid == [1]
