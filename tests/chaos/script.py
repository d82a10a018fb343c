"""What the scripted model and its tools do: as a message orders it, in JSON."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from pydantic import BaseModel, ConfigDict, JsonValue
from tests.chaos.journal import Effect, Journal
from tests.chaos.shell import READ, SHELL, command, toolset

from sojourn.activities.context import ToolContext
from sojourn.activities.conversation import AssistantTurn, Message, ToolResults, UserTurn
from sojourn.activities.model import ModelRequest
from sojourn.activities.tool import Tool, tool
from sojourn.testing import ScriptedCall, ScriptedFailure, ScriptedTurn
from sojourn.types import AgentDefinition, CustomTool, FunctionTool, Limits, ModelRef, Usage, text_of
from sojourn.types.agent import Compaction

SCRIPT = "chaos"
AGENT = "chaos"

REPEATABLE = ("reserve", "search")
"""Tools that are safe to repeat; all others may be attempted once only."""
CUSTOM = "sign"
WINDOW = 1000
"""Tokens of the model's window."""
ASKS = "wire"
DENIED = "destroy"

PATIENCE = timedelta(seconds=3)
"""How long a call waits for the worker with its workspace. Workers are back sooner as a rule, and later at times."""
READINGS = 20
"""How often a reading of the ledger is tried before it is given up."""


class Ordered(BaseModel):
    """A tool call that the model shall make."""

    model_config = ConfigDict(frozen=True)
    tool: str
    seconds: float = 0
    key: str = ""
    """What a command of the shell writes into the ledger of its workspace."""
    left: bool = False
    """Whether the command leaves something running in the background."""


class Order(BaseModel):
    """What one message makes the model do."""

    model_config = ConfigDict(frozen=True)
    words: int = 3
    pace: float = 0
    """Seconds between two words."""
    steps: tuple[tuple[Ordered, ...], ...] = ()
    """The tool calls of each model step before the last."""
    failures: int = 0
    """Attempts of the first step that fail."""
    stall: bool = False
    """Never finish the first step."""
    big: bool = False
    """Use so many tokens in the last step that the context is compacted before the next turn."""
    reads: bool = False
    """Read the ledger of the workspace back, again and again until that succeeds."""


def play(request: ModelRequest, *, marker: str) -> ScriptedTurn:
    """The model's next step: the order is the latest message, the step the number of answers since.

    Args:
        marker: Of the campaign, for the command lines of its commands.
    """
    place = max(place for place, message in enumerate(request.messages) if isinstance(message, UserTurn))
    message = request.messages[place]
    assert isinstance(message, UserTurn)
    order = Order.model_validate_json(text_of(message.content).rpartition("\n")[2])
    step = sum(isinstance(each, AssistantTurn) for each in request.messages[place:])
    first = step == 0
    return ScriptedTurn(
        text=" ".join(f"word{number}" for number in range(order.words)),
        chunk_delay=timedelta(seconds=order.pace),
        calls=_calls(order, step, request.messages[place:], marker),
        failure=ScriptedFailure(attempts=order.failures, retry_after=timedelta(milliseconds=200)) if first else None,
        stall=order.stall and first,
        usage=Usage(input_tokens=WINDOW if order.big and step >= len(order.steps) else 10, output_tokens=5),
    )


def _calls(order: Order, step: int, since: Sequence[Message], marker: str) -> list[ScriptedCall]:
    if order.reads:
        answers = [result for each in since if isinstance(each, ToolResults) for result in each.results]
        again = step < READINGS and (not answers or answers[-1].is_error)
        return [ScriptedCall(SHELL, {"command": READ})] if again else []
    return [_call(each, marker) for each in order.steps[step]] if step < len(order.steps) else []


def _call(ordered: Ordered, marker: str) -> ScriptedCall:
    if ordered.tool == SHELL:
        text = command(ordered.key, seconds=ordered.seconds, left=ordered.left, marker=marker)
        return ScriptedCall(SHELL, {"command": text})
    return ScriptedCall(ordered.tool, {"seconds": ordered.seconds})


def tools(ledger: Journal, struck: Callable[[str, str], None]) -> list[Tool]:
    """The tools, with a ledger outside for their effects.

    Args:
        ledger: Where an effect is written.
        struck: Called right after an effect with the step's name and the session; it may not return.
    """

    def effect(name: str, call: ToolContext) -> None:
        ledger.write(
            Effect(
                session=call.session_id,
                tool=name,
                key=call.tool_use_id,
                attempt=call.attempt,
                pid=os.getpid(),
                at=time.time(),
            )
        )
        struck(f"{kind(name)}.effect", call.session_id)

    @tool(idempotent=True)
    async def reserve(seconds: float, call: ToolContext) -> str:
        effect("reserve", call)
        await asyncio.sleep(seconds)
        return "reserved"

    @tool(idempotent=True)
    def search(seconds: float, call: ToolContext) -> str:
        effect("search", call)
        call.sleep_blocking(timedelta(seconds=seconds))
        return "found"

    @tool
    async def charge(seconds: float, call: ToolContext) -> str:
        effect("charge", call)
        await asyncio.sleep(seconds)
        return "charged"

    @tool
    def post(seconds: float, call: ToolContext) -> str:
        effect("post", call)
        call.sleep_blocking(timedelta(seconds=seconds))
        return "posted"

    @tool(permission="ask")
    async def wire(seconds: float, call: ToolContext) -> str:
        effect("wire", call)
        await asyncio.sleep(seconds)
        return "wired"

    @tool(permission="deny")
    async def destroy(seconds: float, call: ToolContext) -> str:
        effect("destroy", call)
        return "destroyed"

    return [reserve, search, charge, post, wire, destroy]


def kind(name: str) -> str:
    """How kill points call a tool: ``repeat``, ``once`` or ``shell``."""
    if name == SHELL:
        return "shell"
    return "repeat" if name in REPEATABLE else "once"


def definition(*, shell: bool = False) -> AgentDefinition:
    """The agent of all sessions without the shell, or with it."""
    schema: dict[str, JsonValue] = {"type": "object", "properties": {"seconds": {"type": "number"}}}
    return AgentDefinition(
        name=f"{AGENT}-shell" if shell else AGENT,
        model=ModelRef.of(f"scripted:{SCRIPT}"),
        tools=(
            *(FunctionTool(name=name) for name in (*REPEATABLE, "charge", "post", ASKS, DENIED)),
            CustomTool(name=CUSTOM, description="Signs.", input_schema=schema),
            *([toolset()] if shell else []),
        ),
        compaction=Compaction(window_tokens=WINDOW, keep=0),
        limits=Limits(retry_interval=timedelta(milliseconds=200), model_attempts=20, workspace_timeout=PATIENCE),
    )
