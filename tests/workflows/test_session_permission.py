"""Who may run a tool, and the answers of the client."""

import asyncio
from typing import TYPE_CHECKING

import pytest

from sojourn.activities.tool import tool
from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import (
    AgentToolResult,
    AgentToolUse,
    InvalidRequestError,
    PermissionPolicy,
    SessionStatus,
    ToolCallNotFoundError,
    ToolCallSettledError,
    UserMessage,
    UserToolConfirmation,
)
from sojourn.types.id import EventId, new_event_id
from sojourn.worker import WorkerOptions

if TYPE_CHECKING:
    from tests.conftest import PlayedModel, Stage

ASK = PermissionPolicy(default="ask")


class Till:
    """Tools with an effect that can be counted."""

    def __init__(self) -> None:
        self.paid: list[int] = []

    @property
    def pay(self) -> object:
        def pay(amount: int) -> str:
            self.paid.append(amount)
            return f"paid {amount}"

        return tool(pay)

    @property
    def look(self) -> object:
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

    # A deny beats everything, the exception for one tool included.
    assert {name: result.outcome for name, result in probe.results().items()} == {"look": "denied", "pay": "denied"}


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


async def test_an_answer_that_overtakes_the_workflow_is_kept(stage: "Stage", till: Till) -> None:
    """The call is in the log as soon as the model has answered; the workflow may hear of the answer first."""
    asked, release = asyncio.Event(), asyncio.Event()

    class Slow:
        def __call__(self, request: object) -> ScriptedTurn:
            return ScriptedTurn(text="ok") if release.is_set() else _pay(1)

    from sojourn.activities.model import ModelRequest

    def script(request: ModelRequest) -> ScriptedTurn:
        asked.set()
        return _pay(1) if request.step == 0 else ScriptedTurn(text="ok")

    leaving = await stage.work(script, tools=[till.pay, hold(release)], options=WorkerOptions())
    agent = await stage.agent("pay", "hold", policy=PermissionPolicy(tools={"pay": "ask"}))
    probe = await stage.open(agent)
    await probe.session.send("go")
    assert leaving
