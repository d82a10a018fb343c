"""P-5, the primary gate: whoever answers, the same script gives the same sequence of event types."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from sojourn.activities import Tool, tool
from sojourn.testing import ScriptedCall, ScriptedFailure, ScriptedTurn
from sojourn.testing.protocol import Reply, Text, Thinking, ToolCall
from sojourn.testing.provider import Broken, FakeProvider, Fault, Scripted
from sojourn.types import (
    AgentDefinition,
    CustomTool,
    FunctionTool,
    Limits,
    ModelRef,
    PermissionPolicy,
    Provider,
    SessionEvent,
    SessionIdle,
)

if TYPE_CHECKING:
    from tests.conftest import Probe, Stage

PROVIDERS: tuple[Provider, ...] = ("openai-compatible", "openai", "anthropic", "google")
LIMITS = Limits(retry_interval=timedelta(milliseconds=20), model_attempts=3)
DONE = Reply([Text("It is done.")])
DONE_TOO = ScriptedTurn(text="It is done.")


def _calls(*names: str) -> Reply:
    calls = [ToolCall(name, '{"city": "Lisbon"}', f"call_{place}") for place, name in enumerate(names)]
    return Reply([Text("One moment."), *calls])


def _scripted(*names: str) -> ScriptedTurn:
    return ScriptedTurn(text="One moment.", calls=[ScriptedCall(name, {"city": "Lisbon"}) for name in names])


FAILED = ScriptedTurn(text="It is done.", failure=ScriptedFailure())
LOST = ScriptedTurn(failure=ScriptedFailure("fatal", attempts=9))

SCRIPTS: dict[str, tuple[Sequence[Scripted], Sequence[ScriptedTurn]]] = {
    "text": ([DONE], [DONE_TOO]),
    "long text": ([Reply([Text("word " * 200)])], [ScriptedTurn(text="word " * 200)]),
    "thinking": (
        [Reply([Thinking("Let me think.", "c2ln"), Text("It is done.")])],
        [ScriptedTurn(thinking="Let me think.", text="It is done.")],
    ),
    "one tool": ([_calls("weather"), DONE], [_scripted("weather"), DONE_TOO]),
    "parallel tools": (
        [_calls("weather", "weather", "ghost"), DONE],
        [_scripted("weather", "weather", "ghost"), DONE_TOO],
    ),
    "two steps with tools": (
        [_calls("weather"), _calls("weather"), DONE],
        [_scripted("weather"), _scripted("weather"), DONE_TOO],
    ),
    "a tool that fails": ([_calls("broken"), DONE], [_scripted("broken"), DONE_TOO]),
    "a denied tool": ([_calls("forbidden"), DONE], [_scripted("forbidden"), DONE_TOO]),
    "an approval": ([_calls("careful", "weather"), DONE], [_scripted("careful", "weather"), DONE_TOO]),
    "a custom tool": ([_calls("look"), DONE], [_scripted("look"), DONE_TOO]),
    "only a tool": (
        [Reply([ToolCall("weather", '{"city": "Lisbon"}')]), DONE],
        [ScriptedTurn(calls=[ScriptedCall("weather", {"city": "Lisbon"})]), DONE_TOO],
    ),
    "an overload": ([Fault(503), DONE], [FAILED]),
    "a rate limit": ([Fault(429), DONE], [FAILED]),
    "a broken stream": ([Broken(DONE, after=2, how="cut"), DONE], [FAILED]),
    "a refused key": ([Fault(401)], [LOST]),
    "max tokens": (
        [Reply([Text("It is")], finish="max_tokens")],
        [ScriptedTurn(text="It is", finish_reason="max_tokens")],
    ),
    "a refusal": (
        [Reply([Text("I will not.")], finish="refusal")],
        [ScriptedTurn(text="I will not.", finish_reason="refusal")],
    ),
}


OTHERS = {"long text", "two steps with tools", "a tool that fails", "only a tool", "an overload", "max tokens"}
"""Scripts that show one more variant of what another does."""


def _tools() -> list[Tool]:
    @tool
    async def weather(city: str) -> str:
        return f"{city}: sunny"

    @tool
    async def broken(city: str) -> str:
        raise ValueError(city)

    @tool
    async def forbidden(city: str) -> str:
        return city

    @tool
    async def careful(city: str) -> str:
        return city

    return [weather, broken, forbidden, careful]


def _definition(model: ModelRef) -> AgentDefinition:
    return AgentDefinition(
        name="guide",
        model=model,
        tools=(
            *(FunctionTool(name=each.name) for each in _tools()),
            CustomTool(name="look", description="Look.", input_schema={"type": "object"}),
        ),
        permission_policy=PermissionPolicy(tools={"forbidden": "deny", "careful": "ask"}),
        limits=LIMITS,
    )


async def _session(stage: "Stage", model: ModelRef) -> "Probe":
    """A whole session: one message, the client's answers where it is asked, the end of the turn, the archive."""
    probe = await stage.open(await stage.runtime.create(_definition(model)))
    await probe.session.send("How is the weather in Lisbon?")
    idle = await probe.idle()
    if idle.stop_reason.type == "requires_action":
        for action in await probe.session.pending_actions():
            if action.kind == "confirmation":
                await probe.session.confirm(action, allow=True)
            else:
                await probe.session.answer(action, "a bird")
        await probe.idle(2)
    await probe.session.archive()
    await probe.ended()
    return probe


def _told(log: Sequence[SessionEvent]) -> list[str]:
    """Types, with the stop reasons and outcomes, which say more than the property asks for."""
    told = []
    for event in log:
        said = event.stop_reason.type if isinstance(event, SessionIdle) else getattr(event, "outcome", "")
        told.append(f"{event.type} {said}".strip())
    return told


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.thorough] if name in OTHERS else []) for name in SCRIPTS],
)
async def test_p5_the_same_script_gives_the_same_events_with_every_provider(
    stage: "Stage", monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Four providers through their own SDKs and protocols, and the scripted model: five times the same types."""
    for provider in ("ANTHROPIC", "OPENAI", "GOOGLE"):
        monkeypatch.setenv(f"{provider}_API_KEY", "sk-test")
    replies, turns = SCRIPTS[name]
    await stage.work(turns, tools=_tools())

    async def told(provider: Provider) -> list[str]:
        async with FakeProvider(*replies, patient=True) as server:
            return _told((await _session(stage, server.ref(provider))).log)

    logs = await asyncio.gather(*(told(provider) for provider in PROVIDERS))
    scripted = _told((await _session(stage, ModelRef.of("scripted:play"))).log)

    assert dict(zip(PROVIDERS, logs, strict=True)) == dict.fromkeys(PROVIDERS, scripted)
