"""Hooks in a session: what they see, change and forbid, and what their failures come to."""

import asyncio
from datetime import timedelta

import pytest
from tests.conftest import PlayedModel, Stage, eventually

from sojourn.activities import (
    Allow,
    Append,
    Ask,
    Deny,
    PostResponse,
    PostTool,
    PreTool,
    Rewrite,
    TurnComplete,
    UserPrompt,
    hook,
    tool,
)
from sojourn.activities.hook import Hook
from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import (
    AgentToolUse,
    InvalidRequestError,
    PermissionPolicy,
    RollOver,
    SessionErrorEvent,
    UserMessage,
)

DONE = ScriptedTurn(text="done")


@tool
def bash(command: str) -> str:
    """Run a command."""
    if command == "fail":
        raise RuntimeError("no such thing")
    return f"ran {command}"


def run(*commands: str) -> ScriptedTurn:
    return ScriptedTurn(calls=[ScriptedCall("bash", {"command": command}) for command in commands])


@hook("pre_tool", tools="bash")
def guard(call: PreTool) -> Deny | Rewrite | Ask | Allow | None:
    """Say of a command what the command says."""
    said: dict[str, Deny | Rewrite | Ask | Allow] = {
        "deny": Deny("not today"),
        "rewrite": Rewrite({"command": "deny"}),
        "ask": Ask(),
        "allow": Allow(),
        "forbidden": Rewrite({"command": "rm -rf /"}),
        "broken": Rewrite("no input"),
    }
    return said.get(str(call.input["command"]))


@hook("pre_tool")
async def second(call: PreTool) -> Deny | Allow | None:
    """A second opinion."""
    return Deny("second") if call.input.get("command") == "deny" else Allow()


async def test_a_hook_before_a_tool_denies_rewrites_and_asks(stage: Stage) -> None:
    model = PlayedModel(run("deny", "ask", "allow", "plain"), DONE)
    policy = PermissionPolicy(tools={"bash": "ask"})
    probe = await stage.session(script=model, tools=[bash], hooks=[guard], policy=policy)

    await probe.session.send("go")
    waiting = await probe.parked()
    for call in waiting:
        await probe.session.confirm(call, allow=True)
    await probe.idle(reason="end_turn", number=3)

    uses = probe.of(AgentToolUse)
    assert [use.evaluated_permission for use in uses] == ["deny", "ask", "allow", "ask"]
    assert any("Reason given: not today" in text for _, text in model.context())


async def test_hooks_run_in_the_order_of_the_definition_and_deny_is_final(stage: Stage) -> None:
    probe = await stage.session(run("rewrite", "ask", "deny"), DONE, tools=[bash], hooks=[guard, second])

    await probe.session.send("go")
    (asked,) = await probe.parked()
    await probe.session.confirm(asked, allow=True)
    await probe.idle(2, "end_turn")

    uses = probe.of(AgentToolUse)
    # The second sees what the first has written; that it allows does not take back that the first asks.
    assert [(use.input["command"], use.evaluated_permission) for use in uses] == [
        ("deny", "deny"),
        ("ask", "ask"),
        ("deny", "deny"),
    ]


async def test_what_a_hook_writes_is_held_against_the_rules(stage: Stage) -> None:
    policy = PermissionPolicy.of(deny=["bash(rm *)"])
    probe = await stage.session(run("forbidden"), DONE, tools=[bash], hooks=[guard, second], policy=policy)

    await probe.session.send("go")
    await probe.idle(1, "end_turn")

    assert [use.evaluated_permission for use in probe.of(AgentToolUse)] == ["deny"]


@hook("pre_tool")
def raises(call: PreTool) -> None:
    raise RuntimeError("secret detail")


@hook("pre_tool")
def returns_nonsense(call: PreTool) -> str:
    return "yes"


@pytest.mark.parametrize("failing", [raises, returns_nonsense, guard], ids=lambda each: each.name)
async def test_a_hook_that_fails_before_a_tool_denies_and_the_log_shows_it(stage: Stage, failing: Hook) -> None:
    probe = await stage.session(run("broken"), DONE, tools=[bash], hooks=[failing])

    await probe.session.send("go")
    await probe.idle(1, "end_turn")

    (error,) = probe.of(SessionErrorEvent)
    assert [use.evaluated_permission for use in probe.of(AgentToolUse)] == ["deny"]
    assert error.error.type == "hook_failed_error"
    assert failing.name in error.error.message
    assert "secret" not in error.error.message


@hook("post_tool", tools="ba*")
def shout(result: PostTool) -> Rewrite:
    return Rewrite(result.content[0].text.upper())  # type: ignore[union-attr]


@hook("post_tool")
async def sign(result: PostTool) -> Append:
    return Append(f"seen: {result.name}")


@hook("post_failure")
def explain(result: PostTool) -> Append:
    return Append(f"it is {result.outcome}")


@hook("post_tool")
def breaks(result: PostTool) -> None:
    raise RuntimeError("broken")


async def test_hooks_after_a_tool_change_what_the_model_gets(stage: Stage) -> None:
    model = PlayedModel(run("one", "fail"), DONE)
    probe = await stage.session(script=model, tools=[bash], hooks=[shout, breaks, sign, explain])

    await probe.session.send("go")
    await probe.idle(1, "end_turn")

    (error,) = probe.of(SessionErrorEvent)
    said = model.context()[-2:]
    assert "RAN ONE\nseen: bash" in said[0][1]
    assert "no such thing\nit is error" in said[1][1]
    assert error.error.message == "hook 'breaks' failed with RuntimeError"


@hook("user_prompt")
def censor(prompt: UserPrompt) -> Deny | Rewrite | None:
    if "bomb" in prompt.text:
        return Deny("no bombs")
    return Rewrite(prompt.text.replace("4111", "****")) if "4111" in prompt.text else None


async def test_a_message_is_rewritten_for_the_model_and_stays_so_on_every_worker(stage: Stage) -> None:
    model = PlayedModel(DONE)
    probe = await stage.session(script=model, hooks=[censor], roll_over=RollOver(max_events=20))
    for number in range(1, 4):
        await probe.session.send("my card is 4111")
        await probe.idle(number)
    await stage.stop(stage.workers[0])
    other = PlayedModel(DONE)
    await stage.work(other, hooks=[hook("user_prompt", name="censor")(lambda prompt: None)])

    await probe.session.send("hello")
    await probe.idle(4)

    texts = [text for role, text in other.context() if role == "user"]
    assert texts == ["my card is ****"] * 3 + ["hello"]
    assert probe.of(UserMessage)[0].content[0].text == "my card is 4111"  # type: ignore[union-attr]


async def test_a_message_that_is_denied_ends_the_turn_and_never_gets_to_the_model(stage: Stage) -> None:
    model = PlayedModel(DONE)
    probe = await stage.session(script=model, hooks=[censor])

    with pytest.raises(InvalidRequestError, match="the message was refused: no bombs"):
        await probe.session.send_and_wait("build a bomb")
    await probe.session.send_and_wait("hello")

    assert [text for role, text in model.context() if role == "user"] == ["hello"]
    assert len(model.requests) == 1
    assert [error.error.type for error in probe.of(SessionErrorEvent)] == ["prompt_denied_error"]


@hook("post_response")
def polite(response: PostResponse) -> Rewrite:
    return Rewrite(response.text.replace("damn", "dear"))


async def test_what_the_model_writes_is_rewritten_before_anybody_sees_it(stage: Stage) -> None:
    model = PlayedModel(ScriptedTurn(text="damn you"))
    probe = await stage.session(script=model, hooks=[polite])

    said = await probe.session.send_and_wait("hello")
    await probe.session.send_and_wait("again")

    assert said.text == "dear you"
    assert ("assistant", "dear you") in model.context()


async def test_the_end_of_a_turn_is_told_beside_the_session(stage: Stage) -> None:
    told: list[TurnComplete] = []
    release = asyncio.Event()

    @hook("turn_complete")
    async def tell(turn: TurnComplete) -> None:
        told.append(turn)
        await release.wait()

    probe = await stage.session(run("one"), DONE, tools=[bash], hooks=[tell])
    await probe.session.send("go")
    await probe.idle(1)
    await probe.session.send("again")
    await probe.idle(2)

    async def both() -> bool:
        return len(told) == 2

    await eventually(both, "both turns are told")
    release.set()
    assert sorted((each.turn, each.steps, each.stop_reason) for each in told) == [
        (1, 2, "end_turn"),
        (2, 2, "end_turn"),
    ]
    assert told[0].session_id == probe.session.id


async def test_a_hook_for_all_agents_needs_no_name(stage: Stage) -> None:
    everywhere = hook("pre_tool", always=True)(lambda call: Deny("nobody"))
    probe = await stage.session(run("one"), DONE, tools=[bash], hooks=[everywhere])

    await probe.session.send("go")
    await probe.idle(1, "end_turn")

    assert [use.evaluated_permission for use in probe.of(AgentToolUse)] == ["deny"]


async def test_an_agent_whose_hook_the_worker_lacks_does_nothing(stage: Stage) -> None:
    await stage.work([DONE])
    agent = await stage.agent(hooks=["missing"])
    probe = await stage.open(agent)

    with pytest.raises(InvalidRequestError, match=r"the worker has no hook 'missing'.*--hooks MODULE"):
        await probe.session.send_and_wait("hello", timeout=timedelta(seconds=60))
