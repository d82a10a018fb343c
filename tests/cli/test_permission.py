from typing import Any

import pytest

from sojourn.client import AgentRuntime


async def test_rules_live_from_allow_to_remove(sojourn: Any, runtime: AgentRuntime) -> None:
    allowed = await sojourn("permissions", "allow", "bash(git *)", "--json")
    denied = await sojourn("permissions", "deny", "write(/etc/**)")
    agent = await sojourn("permissions", "ask", "bash", "--agent", "agent_1")
    shown = await sojourn("permissions", "show", "--json")

    assert allowed.code == 0, allowed.err
    assert allowed.document["policy"]["rules"] == [{"rule": "bash(git *)", "permission": "allow"}]
    assert "all\tdeny\twrite(/etc/**)" in denied.out
    assert "agent_1\task\tbash" in agent.out
    assert shown.document["version"] == 3

    strict = await sojourn("permissions", "default", "ask")
    for rule, more in (("bash(git *)", ()), ("write(/etc/**)", ()), ("bash", ("--agent", "agent_1"))):
        await sojourn("permissions", "remove", rule, *more)
    empty = await sojourn("permissions", "default", "none")

    assert "all\task\t(default)" in strict.out
    assert "no rules in this workspace" in empty.err


@pytest.mark.parametrize("arguments", [("allow", "bash("), ("default", "perhaps")])
async def test_what_is_no_rule_or_permission_is_refused(sojourn: Any, arguments: tuple[str, str]) -> None:
    ended = await sojourn("permissions", *arguments)

    assert (ended.code, "\n" in ended.err.strip()) == (2, False)


async def test_a_session_skips_permissions_and_asks_again(sojourn: Any, park: Any, runtime: AgentRuntime) -> None:
    session, call = await park("weather")

    on = await sojourn("permissions", "skip", session)
    confirmed = await sojourn("sessions", "confirm", session, call, "--remember", "session")
    off = await sojourn("permissions", "skip", session, "--off", "--json")
    wrong = await sojourn("sessions", "confirm", session, call, "--remember", "for ever")

    assert "skips permissions" in on.out
    assert confirmed.code == 0, confirmed.err
    assert off.document == {"id": session, "skip_permissions": False}
    assert wrong.code == 2


async def test_a_session_without_anybody_to_ask_denies(sojourn: Any, agents: dict[str, str]) -> None:
    started = await sojourn("sessions", "start", agents["weather"], "--not-interactive")
    said = await sojourn("sessions", "send", started.out.strip(), "weather?", "--wait")
    events = await sojourn("sessions", "events", started.out.strip())

    assert said.out.strip() == "It is nice."
    assert "nobody can be asked" in events.out
