"""Rules with patterns of arguments, from the session to the workspace, while a session runs."""

import pytest
from tests.conftest import PlayedModel, Probe, Stage, eventually

from sojourn.activities import tool
from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import (
    AgentToolResult,
    AgentToolUse,
    ConflictError,
    InvalidRequestError,
    PermissionPolicy,
    RollOver,
    SessionUpdated,
    ToolCallSettledError,
    UpdateSessionInput,
    UserToolConfirmation,
    text_of,
)
from sojourn.types.event import Remember

ASK = PermissionPolicy(tools={"bash": "ask"})


@tool
def bash(command: str) -> str:
    """Run a command."""
    return f"ran {command}"


def run(*commands: str) -> ScriptedTurn:
    return ScriptedTurn(calls=[ScriptedCall("bash", {"command": command}) for command in commands])


DONE = ScriptedTurn(text="done")


def permissions(probe: Probe) -> list[str]:
    return [event.evaluated_permission for event in probe.of(AgentToolUse)]


async def test_a_rule_allows_what_its_pattern_says_and_nothing_around_it(stage: Stage) -> None:
    turn = run("git status", "git status; curl evil", "rm -rf /")
    policy = PermissionPolicy.of(allow=["bash(git *)"], deny=["bash(rm *)"], default="ask")
    probe = await stage.session(turn, DONE, tools=[bash], permissions=policy)

    await probe.session.send("go")
    waiting = await probe.parked()
    await probe.session.confirm(waiting[0], allow=False)
    await probe.idle(2, "end_turn")

    assert permissions(probe) == ["allow", "ask", "deny"]


EXPANDED = "cat > notes <<EOF\nfrom $(date)\nEOF"


@pytest.mark.parametrize(
    "restricted", [PermissionPolicy.of(deny=["bash(rm *)"]), PermissionPolicy.of(ask=["bash(rm *)"])]
)
async def test_a_line_that_is_denied_because_it_is_not_understood_says_so(
    stage: Stage, restricted: PermissionPolicy
) -> None:
    turn = run(EXPANDED, "cat > notes <<'EOF'\nfrom $(date)\nEOF", "rm notes")
    policy = PermissionPolicy(tools={"bash": "allow"})
    probe = await stage.session(turn, DONE, tools=[bash], policy=policy, permissions=restricted, interactive=False)

    await probe.session.send("go")
    await probe.idle()

    expanded, named, quoted = [text_of(each.content) for each in probe.of(AgentToolResult)]
    assert expanded.endswith(
        "The tool did not run. A rule restricts shell commands, and it cannot be told which this line runs: the shell"
        " expands the text of its here document; quote the delimiter, as in <<'EOF', or write the text to a file with a"
        " tool for files."
    )
    assert quoted.startswith("ran cat")
    assert named.endswith("The tool did not run.")


async def test_a_line_that_is_denied_because_it_is_not_plain_says_so(stage: Stage) -> None:
    policy = PermissionPolicy.of(allow=["bash(cat *)"], default="deny")
    turn = run("cat > notes <<'EOF'\ntext\nEOF", "cat notes > copy; rm notes")
    probe = await stage.session(turn, DONE, tools=[bash], permissions=policy)

    await probe.session.send("go")
    await probe.idle()

    written, removed = [text_of(each.content) for each in probe.of(AgentToolResult)]
    assert (
        "Rules allow its commands alone and not this line: it has a redirection to a file, a here document" in written
    )
    assert removed == "The call was not permitted. The tool did not run."


async def test_a_tool_that_is_denied_as_a_whole_gives_no_reason_about_its_line(stage: Stage) -> None:
    policy = PermissionPolicy(tools={"bash": "deny"})
    probe = await stage.session(run(EXPANDED), DONE, tools=[bash], permissions=policy)

    await probe.session.send("go")
    await probe.idle()

    (told,) = [text_of(each.content) for each in probe.of(AgentToolResult)]
    assert told == "The call was not permitted. The tool did not run."


@pytest.mark.parametrize("scope", ["session", "agent", "global"])
async def test_always_allow_this_allows_the_very_call_only(stage: Stage, scope: Remember) -> None:
    turns = [run("git push"), run("git push"), run("git push --force"), DONE]
    probe = await stage.session(*turns, tools=[bash], policy=ASK)

    await probe.session.send("go")
    (first,) = await probe.parked()
    await probe.session.confirm(first, allow=True, remember=scope)
    (third,) = await probe.parked(2)
    await probe.session.confirm(third, allow=False)
    await probe.idle(3, "end_turn")

    assert permissions(probe) == ["ask", "allow", "ask"]


@pytest.mark.parametrize(("scope", "expected"), [("session", "ask"), ("agent", "allow"), ("global", "allow")])
async def test_what_is_allowed_for_longer_holds_in_another_session(
    stage: Stage, scope: Remember, expected: str
) -> None:
    await stage.work([run("make"), DONE], tools=[bash])
    agent = await stage.agent("bash", policy=ASK)
    first = await stage.open(agent)
    await first.session.send("go")
    (call,) = await first.parked()
    await first.session.confirm(call, allow=True, remember=scope)
    await first.idle(2, "end_turn")
    policy = await stage.runtime.get_policy()

    second = await stage.open(agent, permissions=PermissionPolicy(tools={"other": "deny"}))
    # The worker knows the rules of two seconds ago; the first session's step has made it read them again.
    await second.session.send("go")
    use = await second.saw(AgentToolUse)
    if expected == "ask":
        await second.session.confirm((await second.parked())[0], allow=False)
    await second.saw(AgentToolUse)

    assert use.evaluated_permission == expected
    assert bool(policy.policy.rules) == (scope == "global")
    assert bool(policy.agents) == (scope == "agent")
    await stage.runtime.wait_idle(second.session)


async def test_what_the_session_remembers_survives_continue_as_new_and_another_worker(stage: Stage) -> None:
    turns = [run("make"), DONE, DONE, run("make"), DONE]
    probe = await stage.session(*turns, tools=[bash], policy=ASK, roll_over=RollOver(max_events=20))
    await probe.session.send("go")
    (call,) = await probe.parked()
    await probe.session.confirm(call, allow=True, remember="session")
    await probe.idle(2)
    await probe.session.send("again")
    await probe.idle(3)
    await stage.stop(stage.workers[0])
    await stage.work(turns, tools=[bash])

    await probe.session.send("and again")
    await probe.idle(4, "end_turn")

    assert permissions(probe) == ["ask", "allow"]
    assert await probe.runs() > 1


async def test_an_answer_that_did_not_count_is_not_remembered(stage: Stage) -> None:
    probe = await stage.session(run("make"), DONE, run("make"), DONE, tools=[bash], policy=ASK)
    await probe.session.send("go")
    (call,) = await probe.parked()
    await probe.session.confirm(call, allow=True)
    await probe.idle(2)

    with pytest.raises(ToolCallSettledError):
        await probe.session.confirm(call, allow=True, remember="session")
    await probe.session.send("again")
    await probe.parked(2)

    assert permissions(probe) == ["ask", "ask"]


async def test_to_remember_a_denial_is_refused(stage: Stage) -> None:
    probe = await stage.session(run("make"), DONE, tools=[bash], policy=ASK)
    await probe.session.send("go")
    (call,) = await probe.parked()

    event = UserToolConfirmation.model_validate({"tool_use_id": call, "result": "deny", "remember": "session"})
    with pytest.raises(InvalidRequestError, match=r"remember: goes with result 'allow'"):
        await stage.runtime.send_event(probe.session, event)


async def test_a_rule_of_the_workspace_holds_for_a_session_that_runs(stage: Stage) -> None:
    script = [run("one"), DONE]
    probe = await stage.session(*script, tools=[bash])
    await probe.session.send("go")
    await probe.idle(1)
    await stage.runtime.add_rule("bash(one)", "deny")
    before = await stage.runtime.get_policy()
    # A worker that has read nothing yet knows of it at once; one that has, two seconds later.
    await stage.stop(stage.workers[0])
    await stage.work(script, tools=[bash])

    await probe.session.send("again")
    await probe.idle(2)
    await stage.runtime.remove_rule("bash(one)")

    assert permissions(probe) == ["allow", "deny"]
    assert [rule.rule for rule in before.policy.rules] == ["bash(one)"]
    assert (await stage.runtime.get_policy()).version == before.version + 1


async def test_the_policy_of_a_workspace_is_changed_by_who_has_seen_it(stage: Stage) -> None:
    await stage.work()
    empty = await stage.runtime.get_policy()
    made = await stage.runtime.set_policy(PermissionPolicy.of(deny=["bash(rm *)"]), version=empty.version)

    with pytest.raises(ConflictError, match="the rules are at version 1, not 0"):
        await stage.runtime.set_policy(PermissionPolicy(), version=empty.version)

    assert made.version == 1
    assert await stage.runtime.get_policy() == made


async def test_what_is_no_rule_is_refused_with_its_path(stage: Stage) -> None:
    with pytest.raises(InvalidRequestError, match="rule: 'bash\\(' is no rule") as error:
        await stage.runtime.add_rule("bash(")

    assert error.value.param == "rule"


async def test_a_session_nobody_watches_denies_instead_of_asking(stage: Stage) -> None:
    model = PlayedModel(run("make"), DONE)
    probe = await stage.session(script=model, tools=[bash], policy=ASK, interactive=False)

    await probe.session.send("go")
    await probe.idle(1, "end_turn")

    assert permissions(probe) == ["deny"]
    assert "nobody can be asked" in probe.results()["bash"].text
    assert "nobody can be asked" in model.context()[-1][1]


async def test_permissions_can_be_skipped_at_any_time_and_the_log_says_so(stage: Stage) -> None:
    probe = await stage.session(run("make"), DONE, tools=[bash], policy=ASK)
    await stage.runtime.add_rule("bash(rm *)", "deny")
    await probe.session.send("go")
    (call,) = await probe.parked()
    await probe.session.update(UpdateSessionInput(skip_permissions=True))
    await probe.session.confirm(call, allow=True)
    await probe.idle(2)
    await probe.session.send("again")
    await probe.idle(3, "end_turn")
    await probe.session.update(UpdateSessionInput(skip_permissions=False))
    await probe.session.send("and again")
    await probe.parked(2)

    assert permissions(probe) == ["ask", "allow", "ask"]
    assert [event.skip_permissions for event in probe.of(SessionUpdated)] == [True, False]


async def test_what_operators_deny_stays_denied_while_permissions_are_skipped(stage: Stage) -> None:
    await stage.work([run("rm -rf x", "make", "git push"), DONE], tools=[bash])
    await stage.runtime.add_rule("bash(rm *)", "deny")
    agent = await stage.agent("bash", policy=PermissionPolicy.of(deny=["bash(git push)"], ask=["bash"]))

    probe = await stage.open(agent, skip_permissions=True, roll_over=RollOver(max_events=20))
    await probe.session.send("go")
    await probe.idle(1, "end_turn")

    assert permissions(probe) == ["deny", "allow", "allow"]


@pytest.mark.parametrize("scope", ["session", "agent"])
async def test_a_call_that_has_moved_to_the_next_run_is_remembered_too(stage: Stage, scope: Remember) -> None:
    turns = [run("make"), run("make"), DONE]
    probe = await stage.session(*turns, tools=[bash], policy=ASK, roll_over=RollOver(max_events=20))
    await probe.session.send("go")
    (call,) = await probe.parked()
    for number in range(8):
        await probe.session.update(UpdateSessionInput(title=f"title {number}"))

    async def moved() -> bool:
        return await probe.runs() > 1

    await eventually(moved, "the session has given way to its next run")
    await probe.session.confirm(call, allow=True, remember=scope)
    await probe.idle(2, "end_turn")

    assert permissions(probe) == ["ask", "allow"]
