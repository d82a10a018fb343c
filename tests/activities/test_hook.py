"""The hooks of a worker and the chain of a session."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import ModuleType
from typing import Any, cast

import pytest

from sojourn.activities.hook import Allow, Ask, Deny, Hook, HookContext, HookEvent, Hooks, PreTool, Rewrite, hook
from sojourn.activities.hook_chain import HookChain
from sojourn.types import AgentId, InvalidRequestError, Owner, Permission, SessionId

CONTEXT = HookContext(session_id=SessionId("sesn_1"), agent_id=AgentId("agent_1"), owner=Owner())


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


def says(name: str, result: Any) -> Hook:
    return hook("pre_tool", name=name)(lambda call: result)


def chain(threads: ThreadPoolExecutor, *hooks: Hook, timeout: timedelta = timedelta(seconds=30)) -> HookChain:
    return HookChain(CONTEXT, list(hooks), threads, timeout)


@pytest.mark.parametrize(
    ("ruled", "said", "expected"),
    [
        ("allow", [], "allow"),
        ("ask", [None], "ask"),
        ("ask", [Allow()], "allow"),
        ("allow", [Ask()], "ask"),
        ("ask", [Ask(), Allow()], "ask"),
        ("ask", [Allow(), Ask()], "ask"),
        ("deny", [Allow()], "deny"),
        ("allow", [Deny(), Allow()], "deny"),
        ("allow", [Allow(), Deny()], "deny"),
        ("allow", [Rewrite({"x": 1}), None], "allow"),
    ],
)
async def test_deny_beats_ask_beats_allow(
    threads: ThreadPoolExecutor, ruled: Permission, said: list[Any], expected: str
) -> None:
    hooks = [says(f"hook_{number}", each) for number, each in enumerate(said)]

    verdict = await chain(threads, *hooks).before_tool("bash", {}, lambda input: ruled)

    assert verdict.permission == expected


async def test_after_a_deny_no_hook_is_asked(threads: ThreadPoolExecutor) -> None:
    asked: list[str] = []
    later = hook("pre_tool")(lambda call: asked.append("later"))

    verdict = await chain(threads, says("no", Deny("why")), later).before_tool("bash", {}, lambda input: "allow")

    assert (verdict.reason, asked) == ("why", [])


async def test_a_rewritten_input_is_ruled_again(threads: ThreadPoolExecutor) -> None:
    def ruled(input: Any) -> Permission:
        return "deny" if input.get("command") == "rm" else "allow"

    verdict = await chain(threads, says("bad", Rewrite({"command": "rm"})), says("ok", Allow())).before_tool(
        "bash", {"command": "ls"}, ruled
    )

    assert (verdict.permission, verdict.input) == ("deny", {"command": "rm"})


async def test_a_hook_that_hangs_before_a_tool_denies(threads: ThreadPoolExecutor) -> None:
    release = threading.Event()

    @hook("pre_tool")
    def blocks(call: PreTool) -> None:
        release.wait(60)

    @hook("pre_tool")
    async def hangs(call: PreTool) -> None:
        await asyncio.Event().wait()

    for slow in (blocks, hangs):
        made = chain(threads, slow, timeout=timedelta(milliseconds=20))
        verdict = await made.before_tool("bash", {}, lambda input: "allow")
        assert (verdict.permission, len(made.warnings)) == ("deny", 1)
    release.set()


async def test_a_hook_passes_by_the_tools_it_is_not_for(threads: ThreadPoolExecutor) -> None:
    only = hook("pre_tool", tools="mcp__*")(lambda call: Deny())

    assert (await chain(threads, only).before_tool("bash", {}, lambda input: "allow")).permission == "allow"
    assert (await chain(threads, only).before_tool("mcp__a__b", {}, lambda input: "allow")).permission == "deny"


def test_hooks_are_found_in_modules_and_names_are_unique() -> None:
    module = ModuleType("shop.hooks")
    one, other = says("one", None), says("other", None)
    vars(module).update(one=one, again=one, other=other, number=1)

    assert Hooks.of([module, one]).names == ("one", "other")
    with pytest.raises(InvalidRequestError, match="two hooks are called 'one'"):
        Hooks.of([one, says("one", None)])
    with pytest.raises(InvalidRequestError, match="holds no hooks"):
        Hooks.of([ModuleType("empty")])
    with pytest.raises(InvalidRequestError, match="cannot import hooks from"):
        Hooks.of(["no.such.module"])


def test_hooks_for_all_come_first_and_once() -> None:
    one, always = says("one", None), hook("pre_tool", name="always", always=True)(lambda call: None)
    hooks = Hooks([one, always])

    assert [each.name for each in hooks.chain(["one", "always"])] == ["always", "one"]
    with pytest.raises(KeyError, match="missing"):
        hooks.chain(["missing"])


def test_there_are_no_other_events() -> None:
    with pytest.raises(ValueError, match="hook event 'before': there are pre_tool"):
        hook(cast("HookEvent", "before"))
