"""Extensions of ours for permissions: remembering, skipping, nobody to ask, and questions."""

from typing import Any

import anthropic
import pytest
from pydantic import JsonValue

from sojourn.activities import tool
from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import AgentCustomToolUse, AgentToolUse, SessionUpdated

PAY = {"type": "function", "name": "pay", "permission_policy": {"type": "always_ask"}}


@tool
def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


def asked(amount: int = 1) -> ScriptedTurn:
    return ScriptedTurn(calls=[ScriptedCall("pay", {"amount": amount})])


async def started(gateway: Any, *turns: ScriptedTurn, tools: list[Any], **fields: Any) -> Any:
    await gateway.stage.work([*turns], tools=[pay])
    agent = await gateway.sdk.beta.agents.create(name="actor", model="scripted:play", tools=tools)
    session = await gateway.sdk.beta.sessions.create(
        agent=agent.id, environment_id=gateway.environment, extra_body=fields
    )
    return gateway.stage.watch(gateway.stage.runtime.session(session.id))


async def test_a_confirmation_may_be_remembered(gateway: Any) -> None:
    probe = await started(gateway, asked(), asked(), ScriptedTurn(text="done"), tools=[PAY])
    await probe.session.send("go")
    (call,) = await probe.parked()
    confirmation = {"type": "user.tool_confirmation", "tool_use_id": call, "result": "allow", "remember": "session"}

    await gateway.sdk.beta.sessions.events.send(probe.session.id, events=[confirmation])
    await probe.idle(2, "end_turn")

    assert [use.evaluated_permission for use in probe.of(AgentToolUse)] == ["ask", "allow"]
    events = await gateway.sdk.beta.sessions.events.list(probe.session.id)
    shown = [event.to_dict() async for event in events]
    assert [each["remember"] for each in shown if each["type"] == "user.tool_confirmation"] == ["session"]


@pytest.mark.parametrize("wrong", [{"remember": "for ever"}, {"remember": "agent", "result": "deny"}])
async def test_only_what_is_allowed_can_be_remembered(gateway: Any, wrong: dict[str, str]) -> None:
    probe = await started(gateway, asked(), tools=[PAY])
    event = {"type": "user.tool_confirmation", "tool_use_id": "sevt_1", "result": "allow", **wrong}

    with pytest.raises(anthropic.BadRequestError, match=r"events\.0\.remember"):
        await gateway.sdk.beta.sessions.events.send(probe.session.id, events=[event])


async def test_a_session_may_have_nobody_to_ask(gateway: Any) -> None:
    probe = await started(gateway, asked(), ScriptedTurn(text="done"), tools=[PAY], interactive=False)

    await probe.session.send("go")
    await probe.idle(1, "end_turn")

    assert [use.evaluated_permission for use in probe.of(AgentToolUse)] == ["deny"]


async def test_permissions_are_skipped_by_an_update(gateway: Any) -> None:
    probe = await started(gateway, asked(), ScriptedTurn(text="done"), tools=[PAY])

    await gateway.sdk.beta.sessions.update(probe.session.id, extra_body={"skip_permissions": True})
    await probe.session.send("go")
    await probe.idle(1, "end_turn")

    assert [use.evaluated_permission for use in probe.of(AgentToolUse)] == ["allow"]
    assert [event.skip_permissions for event in probe.of(SessionUpdated)] == [True]


async def test_ask_user_is_a_tool_that_the_client_answers(gateway: Any) -> None:
    question: dict[str, JsonValue] = {
        "question": "Which?",
        "header": "Which",
        "options": [{"label": "a"}, {"label": "b"}],
    }
    turn = ScriptedTurn(calls=[ScriptedCall("ask_user", {"questions": [question]})])
    probe = await started(gateway, turn, ScriptedTurn(text="done"), tools=[{"type": "ask_user"}])
    await probe.session.send("go")
    (call,) = await probe.parked()

    await gateway.sdk.beta.sessions.events.send(
        probe.session.id,
        events=[
            {"type": "user.custom_tool_result", "custom_tool_use_id": call, "content": [{"type": "text", "text": "a"}]}
        ],
    )
    await probe.idle(2, "end_turn")

    assert [use.name for use in probe.of(AgentCustomToolUse)] == ["ask_user"]
    agent = (await gateway.sdk.beta.sessions.retrieve(probe.session.id)).agent
    assert [each.type for each in agent.tools] == ["ask_user"]
