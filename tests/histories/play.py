"""The sessions that `record.py` records: an agent's script, and what the client does.

A feature of sessions that no recording shows makes `tests/workflows/test_replay.py` fail; add a play for it here.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

from sojourn.activities import Deny, PostTool, PreTool, Rewrite, TurnComplete, UserPrompt, hook
from sojourn.client import SessionHandle
from sojourn.testing import ScriptedCall, ScriptedFailure, ScriptedTurn
from sojourn.types import (
    AgentDefinition,
    AgentVersion,
    AskUserTool,
    Budget,
    Compaction,
    CustomTool,
    FunctionTool,
    Limits,
    ModelRef,
    PermissionPolicy,
    SystemMessage,
    TextBlock,
    Usage,
)
from sojourn.types.account import MICROCENTS_PER_CENT
from sojourn.types.event import (
    AgentCustomToolUse,
    AgentToolUse,
    Event,
    SessionErrorEvent,
    SessionIdle,
    SessionRescheduled,
)
from sojourn.types.resource import RepositoryMount
from sojourn.types.session import UpdateSessionInput

E = TypeVar("E", bound=Event)
LOOK = CustomTool(name="look", description="Look.", input_schema={"type": "object"})
LIMITS = Limits(retry_interval=timedelta(milliseconds=20), model_attempts=3, custom_tool_timeout=timedelta(seconds=1))
FULL = Usage(input_tokens=800, output_tokens=100)
DONE = ScriptedTurn(text="done")
PAY = ScriptedTurn(calls=[ScriptedCall("pay", {"amount": 1})])
ASK = PermissionPolicy(tools={"pay": "ask"})
FULL = Usage(input_tokens=800, output_tokens=100)


def add(a: int, b: int) -> int:
    return a + b


def pay(amount: int) -> str:
    return f"paid {amount}"


async def hang() -> None:
    await asyncio.Event().wait()


@hook("pre_tool", tools="pay")
def guard(call: PreTool) -> Deny:
    return Deny("not today")


@hook("post_tool", tools="add")
def broken(result: PostTool) -> None:
    raise RuntimeError("broken")


@hook("user_prompt")
def censor(prompt: UserPrompt) -> Deny | Rewrite:
    return Deny("no bombs") if "bomb" in prompt.text else Rewrite(prompt.text.upper())


@hook("turn_complete")
async def tell(turn: TurnComplete) -> None:
    return None


HOOKS = (guard, broken, censor, tell)


@dataclass(frozen=True)
class Play:
    """One session to record."""

    turns: tuple[ScriptedTurn, ...]
    act: Callable[[SessionHandle], Awaitable[None]]
    policy: PermissionPolicy = field(default_factory=PermissionPolicy)
    limits: Limits = LIMITS
    compaction: Compaction = field(default_factory=Compaction)
    budget: Budget | None = None
    max_events: int = 1500
    hooks: tuple[str, ...] = ()
    fails: bool = False
    exports: bool = False
    """The export at its end is recorded too."""
    ends: bool = False
    """It comes to its end by itself and cannot be archived."""


async def idle(session: SessionHandle, number: int) -> SessionIdle:
    """Wait for an idle of the session, by its number from the start."""
    async with asyncio.timeout(60):
        async for event in session.events(from_seq=0):
            if isinstance(event, SessionIdle):
                number -= 1
                if number == 0:
                    return event
    raise AssertionError("the session ended before it was idle so often")


async def _turn(session: SessionHandle) -> None:
    await session.send_and_wait("hello")
    await session.send_and_wait("and again")


async def _approval(session: SessionHandle) -> None:
    await session.send("pay twice")
    await idle(session, 1)
    first, second = await session.pending_actions()
    await session.confirm(first, allow=True)
    await idle(session, 2)
    await session.confirm(second, allow=False, message="once is enough")
    await idle(session, 3)


async def _custom(session: SessionHandle) -> None:
    await session.send("look")
    await idle(session, 1)
    (action,) = await session.pending_actions()
    await session.answer(action, "seen")
    await idle(session, 2)
    await session.send("look again")
    await idle(session, 4)


async def _interrupt(session: SessionHandle) -> None:
    async with asyncio.timeout(60):
        events = session.events(from_seq=0, previews=True)
        await session.send("talk")
        await session.send("queued")
        async for event in events:
            if event.type == "event_delta":
                break
    await session.interrupt()
    await idle(session, 2)
    await session.interrupt()
    await idle(session, 3)


async def _pause(session: SessionHandle) -> None:
    await session.send_and_wait("hello")
    await session.pause()
    await session.send("wait")
    await session.update(UpdateSessionInput(title="paused", metadata={"k": "v"}))
    await session.resume()
    await idle(session, 2)


async def _rolling(session: SessionHandle) -> None:
    await session.send(SystemMessage(content=(TextBlock(text="be brief"),)))
    await session.send("pay")
    await idle(session, 1)
    for place in range(8):
        await session.send(f"{place}")
    (action,) = await session.pending_actions()
    await session.confirm(action, allow=True)
    await idle(session, 10)


async def _compaction(session: SessionHandle) -> None:
    for text in ("one", "two", "three"):
        await session.send_and_wait(text)
    await session.send("four")
    await idle(session, 4)


async def _archive(session: SessionHandle) -> None:
    await session.send("talk for ever")
    async with asyncio.timeout(60):
        async for event in session.events(from_seq=0):
            if event.type == "span.model_request_start":
                return


async def saw(session: SessionHandle, kind: type[E], number: int = 1) -> E:
    """Wait for an event of the session, by its kind and its number from the start."""
    async with asyncio.timeout(60):
        async for event in session.events(from_seq=0):
            if isinstance(event, kind):
                number -= 1
                if number == 0:
                    return event
    raise AssertionError(f"the session ended without {kind.__name__}")


async def _early(session: SessionHandle) -> None:
    """The answer comes while another tool of the step still runs; the second comes twice."""
    await session.send("look")
    look = await saw(session, AgentCustomToolUse)
    await saw(session, AgentToolUse)
    await session.answer(look, "early")
    await session.interrupt()
    await idle(session, 1)


async def _held(session: SessionHandle) -> None:
    """Paused while a tool runs, while parked, and while the model is being tried again."""
    await session.send("pay")
    await idle(session, 1)
    await session.pause()
    (action,) = await session.pending_actions()
    await session.confirm(action, allow=True)
    await session.resume()
    await idle(session, 2)


async def _stopped(session: SessionHandle) -> None:
    """Interrupted while a tool runs, and while paused with messages waiting."""
    await session.send("hang")
    await saw(session, AgentToolUse)
    await session.pause()
    await session.send("queued")
    await session.interrupt()
    await idle(session, 1)
    await session.resume()
    await saw(session, AgentToolUse, 2)
    await session.interrupt()
    await idle(session, 2)


async def _parked_interrupt(session: SessionHandle) -> None:
    await session.send("pay")
    await idle(session, 1)
    await session.interrupt()
    await idle(session, 2)


async def _parked_archive(session: SessionHandle) -> None:
    await session.send("pay")
    await idle(session, 1)


async def _retry_interrupt(session: SessionHandle) -> None:
    await session.send("hello")
    await saw(session, SessionRescheduled)
    await session.interrupt()
    await idle(session, 1)


async def _agent(session: SessionHandle) -> None:
    await session.send_and_wait("hello")
    await idle(session, 1)
    changed = definition("agent-change", PLAYS["agent-change"]).model_copy(update={"system": "be brief"})
    agent = AgentVersion(id=(await session.info()).agent_id, version=2, definition=changed)
    await session.update(UpdateSessionInput(agent=agent))
    await session.send_and_wait("again")
    await idle(session, 2)


async def _budget(session: SessionHandle) -> None:
    """Stopped at the budget, raised, stopped again, interrupted, and free at last."""
    await session.send("add")
    await idle(session, 1)
    await session.update(UpdateSessionInput(budget=Budget(max_list_cost_cents=3)))
    await idle(session, 2)
    await session.send("add")
    await idle(session, 3)
    await session.interrupt()
    await idle(session, 4)
    await session.interrupt()
    await idle(session, 5)
    await session.update(UpdateSessionInput(remove_budget=True))
    await session.send("add")
    await idle(session, 6)


async def _resources(session: SessionHandle) -> None:
    """What is mounted changes before, between and after turns; runs give way to each other meanwhile."""
    app = RepositoryMount(url="https://github.com/acme/app")
    tools = await session.add_resource(app.model_copy(update={"mount_path": "/workspace/tools"}))
    await session.send("hello")
    await idle(session, 1)
    await session.add_resource(app)
    await session.remove_resource(tools.id)
    for number in (2, 3, 4):
        await session.send("again")
        await idle(session, number)
    await session.add_resource(app.model_copy(update={"mount_path": "/workspace/again"}))


async def _hooked(session: SessionHandle) -> None:
    """Hooks deny, fail, refuse a message and are told of the end; questions that cannot be asked come back."""
    await session.send("pay, add and ask")
    await idle(session, 1)
    await session.send("build a bomb")
    await idle(session, 2)
    for number in range(3, 7):
        await session.send("go on")
        await idle(session, number)


async def _remembering(session: SessionHandle) -> None:
    """One call is allowed for good, then all of them, then none any more."""
    await session.send("pay")
    await idle(session, 1)
    (action,) = await session.pending_actions()
    await session.confirm(action, allow=True, remember="session")
    await idle(session, 2)
    await session.update(UpdateSessionInput(skip_permissions=True))
    await session.send("pay")
    await idle(session, 3)
    await session.update(UpdateSessionInput(skip_permissions=False))
    await session.send("pay")
    await idle(session, 4)


async def _two(session: SessionHandle) -> None:
    for number in (1, 2):
        await session.send("hello")
        await idle(session, number)


async def _failed(session: SessionHandle) -> None:
    await session.send("hello")
    await saw(session, SessionErrorEvent)


PLAYS = {
    "turn": Play((DONE,), _turn),
    "parallel-tools": Play(
        (
            ScriptedTurn(
                calls=[
                    ScriptedCall("add", {"a": 1, "b": 2}),
                    ScriptedCall("add", {"a": 3, "b": 4}),
                    ScriptedCall("nothing"),
                ]
            ),
            DONE,
        ),
        _turn,
    ),
    "approval": Play(
        (ScriptedTurn(calls=[ScriptedCall("pay", {"amount": 1}), ScriptedCall("pay", {"amount": 2})]), DONE),
        _approval,
        policy=PermissionPolicy(tools={"pay": "ask"}),
    ),
    "denied": Play(
        (ScriptedTurn(calls=[ScriptedCall("pay", {"amount": 1})]), DONE),
        _turn,
        policy=PermissionPolicy(tools={"pay": "deny"}),
    ),
    "custom-tool": Play((ScriptedTurn(calls=[ScriptedCall("look")]), DONE), _custom),
    "interrupt": Play((ScriptedTurn(text="half a", stall=True), DONE), _interrupt),
    "pause": Play((DONE,), _pause),
    "retry": Play((ScriptedTurn(text="at last", failure=ScriptedFailure(attempts=2)),), _turn, fails=True),
    "exhausted": Play(
        (ScriptedTurn(failure=ScriptedFailure(attempts=9)), DONE), lambda s: _sent(s, "hello"), fails=True
    ),
    "rolling": Play(
        (ScriptedTurn(calls=[ScriptedCall("pay", {"amount": 1})]), DONE, *([DONE] * 20)),
        _rolling,
        policy=PermissionPolicy(tools={"pay": "ask"}),
        max_events=30,
    ),
    "exported": Play(
        (PAY, DONE, *([DONE] * 20)),
        _rolling,
        policy=ASK,
        max_events=30,
        exports=True,
    ),
    "compaction": Play(
        (
            ScriptedTurn(text="word " * 200, usage=FULL),
            ScriptedTurn(calls=[ScriptedCall("add", {"a": 1, "b": 2})], usage=Usage(input_tokens=100, output_tokens=9)),
            ScriptedTurn(text="word " * 200, usage=FULL),
            DONE,
            ScriptedTurn(text="at last", failure=ScriptedFailure("fatal", "too long", too_long=True)),
        ),
        _compaction,
        compaction=Compaction(window_tokens=1000),
        fails=True,
    ),
    "archive": Play((ScriptedTurn(text="half a", stall=True),), _archive),
    "archive-parked": Play((PAY,), _parked_archive, policy=ASK),
    "early-answer": Play((ScriptedTurn(calls=[ScriptedCall("look"), ScriptedCall("hang")]),), _early),
    "pause-parked": Play((PAY, DONE), _held, policy=ASK),
    "interrupt-tool": Play((ScriptedTurn(calls=[ScriptedCall("hang")]),), _stopped),
    "interrupt-parked": Play((PAY,), _parked_interrupt, policy=ASK),
    "interrupt-retry": Play(
        (ScriptedTurn(failure=ScriptedFailure(attempts=9)),),
        _retry_interrupt,
        limits=LIMITS.model_copy(update={"retry_interval": timedelta(minutes=1)}),
        fails=True,
    ),
    "agent-change": Play((ScriptedTurn(thinking="hm", text="done"),), _agent),
    "budget": Play(
        (
            ScriptedTurn(calls=[ScriptedCall("add", {"a": 1, "b": 2})], cost_microcents=MICROCENTS_PER_CENT),
            ScriptedTurn(text="done", cost_microcents=MICROCENTS_PER_CENT),
        ),
        _budget,
        budget=Budget(max_list_cost_cents=1),
    ),
    "resources": Play((DONE,), _resources, max_events=30),
    "hooks": Play(
        (
            ScriptedTurn(
                calls=[
                    ScriptedCall("pay", {"amount": 1}),
                    ScriptedCall("add", {"a": 1, "b": 2}),
                    ScriptedCall("ask_user"),
                ]
            ),
            *([DONE] * 9),
        ),
        _hooked,
        hooks=("guard", "broken", "censor", "tell"),
        max_events=30,
        fails=True,
    ),
    "remember": Play((PAY, DONE), _remembering, policy=ASK),
    "stop-reasons": Play(
        (ScriptedTurn(text="cut", finish_reason="max_tokens"), ScriptedTurn(text="no", finish_reason="refusal")), _two
    ),
    "step-limit": Play(
        (ScriptedTurn(calls=[ScriptedCall("add", {"a": 1, "b": 2})]),),
        lambda s: _sent(s, "add for ever"),
        limits=LIMITS.model_copy(update={"max_steps": 2}),
        fails=True,
    ),
    "failed": Play(
        (ScriptedTurn(failure=ScriptedFailure(kind="refused")),),
        _failed,
        limits=LIMITS.model_copy(update={"on_exhausted": "failed"}),
        fails=True,
        ends=True,
    ),
}


async def _sent(session: SessionHandle, text: str) -> None:
    await session.send(text)
    await idle(session, 1)


def definition(name: str, play: Play) -> AgentDefinition:
    """The agent of a play; its model is the play's script."""
    return AgentDefinition(
        name=name,
        model=ModelRef.of(f"scripted:{name}"),
        tools=(*(FunctionTool(name=tool) for tool in ("add", "pay", "hang")), LOOK, AskUserTool()),
        permission_policy=play.policy,
        hooks=play.hooks,
        compaction=play.compaction,
        limits=play.limits,
    )
