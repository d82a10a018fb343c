"""Records the histories of representative sessions, for `tests/workflows/test_replay.py`.

Run it (``make record-histories``) for a release, and whenever workflow code has changed on purpose in a way that old
histories cannot follow. A session that runs on keeps its history, so a recording is only ever replaced together with a
version number that says so. With names of plays it records only these, beside what is there.
"""

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from temporalio.client import Client, WorkflowHistory

from sojourn.client import AgentRuntime, SessionHandle
from sojourn.testing import ScriptedCall, ScriptedFailure, ScriptedTurn
from sojourn.types import (
    AgentDefinition,
    Compaction,
    CustomTool,
    FunctionTool,
    Limits,
    ModelRef,
    Owner,
    PermissionPolicy,
    RollOver,
    SystemMessage,
    TextBlock,
    Usage,
)
from sojourn.types.event import SessionErrorEvent, SessionIdle
from sojourn.types.session import UpdateSessionInput
from sojourn.worker import SojournWorker, WorkerOptions, embedded_server

FOLDER = Path(__file__).parent
OWNER = Owner("recorded", "ada")
LOOK = CustomTool(name="look", description="Look.", input_schema={"type": "object"})
DONE = ScriptedTurn(text="done")
FULL = Usage(input_tokens=800, output_tokens=100)
AGENT = "agent-versions"


def add(a: int, b: int) -> int:
    return a + b


def pay(amount: int) -> str:
    return f"paid {amount}"


@dataclass(frozen=True)
class Play:
    """One session to record."""

    turns: tuple[ScriptedTurn, ...]
    act: Callable[[SessionHandle], Awaitable[None]]
    policy: PermissionPolicy = field(default_factory=PermissionPolicy)
    max_events: int = 1500
    compaction: Compaction = field(default_factory=Compaction)
    fails: bool = False


async def idle(session: SessionHandle, number: int) -> SessionIdle:
    """Wait for an idle of the session, by its number from the start."""
    async with asyncio.timeout(30):
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
    async with asyncio.timeout(30):
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
    async with asyncio.timeout(30):
        async for event in session.events(from_seq=0):
            if event.type == "span.model_request_start":
                return


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
}


async def _sent(session: SessionHandle, text: str) -> None:
    await session.send(text)
    await idle(session, 1)


async def record(*names: str) -> None:
    """Play the named plays and write them to this folder; without names everything, in place of what is there."""
    if unknown := set(names) - {*PLAYS, AGENT}:
        raise SystemExit(f"no play is called {min(unknown)!r}; there are {', '.join([*PLAYS, AGENT])}")
    for old in FOLDER.glob("*.json") if not names else ():
        old.unlink()
    async with embedded_server() as server:
        scripts = {name: play.turns for name, play in PLAYS.items()}
        options = WorkerOptions(identity="recorder", graceful_shutdown=timedelta(0))
        async with SojournWorker(server.client, tools=[add, pay], scripts=scripts, options=options):
            runtime = AgentRuntime(server.client, owner=OWNER)
            for name, play in PLAYS.items():
                if name in (names or PLAYS):
                    await _record_session(runtime, name, play)
            if not names or AGENT in names:
                await _record_agent(runtime)
            await runtime.close()


async def _record_session(runtime: AgentRuntime, name: str, play: Play) -> None:
    agent = await runtime.create(_definition(name, play))
    session = await runtime.start_session(
        agent, session_id=f"sesn_{name}", title=name, roll_over=RollOver(max_events=play.max_events)
    )
    await play.act(session)
    failed = any(isinstance(event, SessionErrorEvent) for event in await runtime.list_events(session))
    assert failed == play.fails, f"{name} did not go as planned"
    await session.archive()
    await _write(runtime.client, f"{OWNER.workspace}/{session.id}", f"session-{name}")


async def _record_agent(runtime: AgentRuntime) -> None:
    definition = _definition("turn", PLAYS["turn"])
    agent = await runtime.create(definition)
    await agent.update(definition.model_copy(update={"system": "two"}))
    await agent.update(definition.model_copy(update={"system": "two"}))
    await agent.update(definition.model_copy(update={"name": "three"}), version=2)
    await agent.archive()
    await _write(runtime.client, f"{OWNER.workspace}/{agent.id}", AGENT)


def _definition(name: str, play: Play) -> AgentDefinition:
    return AgentDefinition(
        name=name,
        model=ModelRef.of(f"scripted:{name}"),
        tools=(FunctionTool(name="add"), FunctionTool(name="pay"), LOOK),
        permission_policy=play.policy,
        compaction=play.compaction,
        limits=Limits(
            retry_interval=timedelta(milliseconds=20), model_attempts=3, custom_tool_timeout=timedelta(seconds=1)
        ),
    )


async def _write(client: Client, workflow_id: str, name: str) -> None:
    """One file for each run, the first run first."""
    runs: list[WorkflowHistory] = []
    run_id: str | None = None
    while True:
        history = await client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history()
        runs.insert(0, history)
        started = history.events[0].workflow_execution_started_event_attributes
        run_id = started.continued_execution_run_id
        if not run_id:
            break
    for number, history in enumerate(runs, 1):
        path = FOLDER / f"{name}{f'-{number}' if len(runs) > 1 else ''}.json"
        path.write_text(_cleaned(history.to_json(), workflow_id))
        print(f"{path.name}: {len(history.events)} events")


def _cleaned(text: str, workflow_id: str) -> str:
    """Without the names of the machine it was recorded on, and its paths."""
    text = re.sub(r'"stackTrace":\s*"(?:[^"\\]|\\.)*"', '"stackTrace": ""', text)
    loose = json.loads(re.sub(r'"identity":\s*"[^"]*"', '"identity": "recorder"', text))
    return json.dumps({"workflowId": workflow_id, **loose}, indent=1) + "\n"


if __name__ == "__main__":
    asyncio.run(record(*sys.argv[1:]))
