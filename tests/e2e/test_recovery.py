"""Workers killed with SIGKILL at the worst moments, and sessions handed from process to process.

The file is also the program of those processes: ``python test_recovery.py ROLE ADDRESS QUEUE WORKSPACE FOLDER …``.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sojourn.activities.conversation import UserTurn
from sojourn.activities.model import ModelRequest
from sojourn.activities.tool import Tool, tool
from sojourn.client import AgentRuntime, connect_client
from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import (
    AgentDefinition,
    AgentToolResult,
    FunctionTool,
    ModelRef,
    ModelRequestStart,
    Owner,
    PermissionPolicy,
    SessionEvent,
    SessionStatus,
    read_event,
    text_of,
)
from sojourn.types.event import Event
from sojourn.worker import EmbeddedServer, SojournWorker, WorkerOptions

if TYPE_CHECKING:
    from tests.conftest import Probe, Stage

USER = "ada"

# --- the processes -------------------------------------------------------------------------------------------------


def _tools(folder: Path) -> list[Tool]:
    """Two tools that write to a ledger, then hang until they may go on."""

    async def effect(key: str, name: str) -> str:
        with (folder / "ledger").open("a") as ledger:
            ledger.write(f"{name} {key}\n")
        (folder / f"began-{name}").touch()
        while not (folder / "release").exists():  # noqa: ASYNC110 (another process creates the file)
            await asyncio.sleep(0.02)
        return f"{name} done"

    @tool(idempotent=True)
    async def repeatable(key: str) -> str:
        return await effect(key, "repeatable")

    @tool
    async def once(key: str) -> str:
        return await effect(key, "once")

    return [repeatable, once]


def _script(folder: Path, request: ModelRequest) -> ScriptedTurn:
    last = request.messages[-1]
    word = text_of(last.content) if isinstance(last, UserTurn) else ""
    if word == "talk":
        return ScriptedTurn(text="half a", stall=True) if not (folder / "release").exists() else ScriptedTurn(text="ok")
    if word in ("once", "repeatable"):
        return ScriptedTurn(calls=[ScriptedCall(word, {"key": "k"})])
    return ScriptedTurn(text="done" if not word else f"You said: {word}")


async def _work(address: str, queue: str, folder: Path) -> None:
    client = await connect_client(address)
    worker = SojournWorker(
        client,
        tools=_tools(folder),
        scripts={"play": lambda request: _script(folder, request)},
        options=WorkerOptions(task_queue=queue),
    )
    await worker.run()


async def _start(runtime: AgentRuntime) -> None:
    agent = await runtime.create(
        AgentDefinition(
            name="remote",
            model=ModelRef.of("scripted:play"),
            tools=(FunctionTool(name="once"),),
            permission_policy=PermissionPolicy(default="ask"),
        )
    )
    session = await runtime.start_session(agent)
    await session.send("once")
    sys.stdout.write(session.id)


async def _stream(runtime: AgentRuntime, session_id: str) -> None:
    async for event in runtime.stream_events(session_id, from_seq=0):
        if isinstance(event, Event):
            sys.stdout.write(event.model_dump_json() + "\n")
            sys.stdout.flush()


async def _approve(runtime: AgentRuntime, session_id: str) -> None:
    for action in await runtime.pending_actions(session_id):
        await runtime.session(session_id).confirm(action, allow=True)


async def _main(role: str, address: str, queue: str, workspace: str, folder: str, *rest: str) -> None:
    if role == "work":
        return await _work(address, queue, Path(folder))
    async with AgentRuntime.connect(address, owner=Owner(workspace, USER), task_queue=queue) as runtime:
        await {"start": _start, "stream": _stream, "approve": _approve}[role](runtime, *rest)  # type: ignore[operator]


# --- the tests -----------------------------------------------------------------------------------------------------


@dataclass
class Fleet:
    """Processes of one test."""

    address: str
    queue: str
    workspace: str
    folder: Path
    running: list[asyncio.subprocess.Process] = field(default_factory=list)

    async def start(self, role: str, *rest: str) -> asyncio.subprocess.Process:
        arguments = (role, self.address, self.queue, self.workspace, str(self.folder), *rest)
        process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, *arguments, stdout=asyncio.subprocess.PIPE
        )
        self.running.append(process)
        return process

    async def kill(self, process: asyncio.subprocess.Process) -> None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
        self.running.remove(process)

    async def output(self, role: str, *rest: str) -> str:
        process = await self.start(role, *rest)
        written, _ = await asyncio.wait_for(process.communicate(), 60)
        self.running.remove(process)
        assert process.returncode == 0
        return written.decode()

    def release(self) -> None:
        (self.folder / "release").touch()

    async def began(self, name: str) -> None:
        async with asyncio.timeout(60):
            while not (self.folder / f"began-{name}").exists():  # noqa: ASYNC110 (another process creates the file)
                await asyncio.sleep(0.02)

    @property
    def ledger(self) -> list[str]:
        return (self.folder / "ledger").read_text().splitlines()


@pytest.fixture
async def fleet(server: EmbeddedServer, stage: "Stage", tmp_path: Path) -> AsyncGenerator[Fleet, None]:
    fleet = Fleet(server.address, stage.task_queue, stage.owner.workspace, tmp_path)
    try:
        yield fleet
    finally:
        for process in list(fleet.running):
            await fleet.kill(process)


async def _session(stage: "Stage", *, policy: PermissionPolicy | None = None) -> "Probe":
    return await stage.open(await stage.agent("once", "repeatable", policy=policy))


async def _goes_on(probe: "Probe", idles: int) -> None:
    """The session takes the next message, and its log is whole."""
    assert (await probe.session.send_and_wait("hello", timeout=timedelta(seconds=60))).text == "You said: hello"
    await probe.idle(idles)
    await probe.check(served=True)


async def test_a_worker_killed_in_the_middle_of_an_answer(stage: "Stage", fleet: Fleet) -> None:
    worker = await fleet.start("work")
    probe = await _session(stage)
    await probe.session.send("talk")
    await probe.written("half a")

    await fleet.kill(worker)
    fleet.release()
    await fleet.start("work")
    await probe.idle(reason="end_turn")

    assert probe.texts() == ["ok"]
    assert len(probe.of(ModelRequestStart)) == 1
    await _goes_on(probe, 2)


async def test_a_worker_killed_in_the_middle_of_a_repeatable_tool(stage: "Stage", fleet: Fleet) -> None:
    worker = await fleet.start("work")
    probe = await _session(stage)
    await probe.session.send("repeatable")
    await fleet.began("repeatable")

    await fleet.kill(worker)
    fleet.release()
    await fleet.start("work")
    await probe.idle(reason="end_turn")

    assert probe.results()["repeatable"].text == "repeatable done"
    assert fleet.ledger == ["repeatable k", "repeatable k"]
    await _goes_on(probe, 2)


async def test_a_worker_killed_in_the_middle_of_a_tool_that_must_not_be_repeated(stage: "Stage", fleet: Fleet) -> None:
    worker = await fleet.start("work")
    probe = await _session(stage)
    await probe.session.send("once")
    await fleet.began("once")

    await fleet.kill(worker)
    fleet.release()
    await fleet.start("work")
    await probe.idle(reason="end_turn")

    (result,) = probe.of(AgentToolResult)
    assert (result.outcome, result.is_error) == ("unknown", True)
    assert "Outcome unknown" in result.text
    assert fleet.ledger == ["once k"]
    await _goes_on(probe, 2)


async def test_a_repeatable_tool_that_is_interrupted_while_its_worker_is_gone(stage: "Stage", fleet: Fleet) -> None:
    worker = await fleet.start("work")
    probe = await _session(stage)
    await probe.session.send("repeatable")
    await fleet.began("repeatable")

    await fleet.kill(worker)
    await probe.session.interrupt()
    await fleet.start("work")
    await probe.idle(reason="end_turn")

    (result,) = probe.of(AgentToolResult)
    assert result.outcome == "interrupted"
    await _goes_on(probe, 2)


async def test_a_worker_killed_while_the_session_is_parked(stage: "Stage", fleet: Fleet) -> None:
    worker = await fleet.start("work")
    probe = await _session(stage, policy=PermissionPolicy(default="ask"))
    await probe.session.send("once")
    (call,) = await probe.parked()

    await fleet.kill(worker)
    fleet.release()
    assert [action.id for action in await probe.session.pending_actions()] == [call]
    await probe.session.confirm(call, allow=True)
    await fleet.start("work")
    await probe.idle(2, reason="end_turn")

    assert probe.results()["once"].outcome == "ok"
    assert fleet.ledger == ["once k"]
    await _goes_on(probe, 3)


async def test_a_worker_killed_while_the_session_is_idle(stage: "Stage", fleet: Fleet) -> None:
    worker = await fleet.start("work")
    probe = await _session(stage)
    await probe.session.send("one")
    await probe.idle()

    await fleet.kill(worker)
    assert await probe.session.status() is SessionStatus.IDLE
    await fleet.start("work")

    await _goes_on(probe, 2)


async def test_a_worker_killed_again_and_again_changes_nothing_that_was_seen(stage: "Stage", fleet: Fleet) -> None:
    probe = await _session(stage)
    fleet.release()
    seen: list[SessionEvent] = []

    for place in range(2):
        worker = await fleet.start("work")
        await probe.session.send(f"{place}")
        await probe.saw(ModelRequestStart, place + 1)
        await fleet.kill(worker)
        assert probe.log[: len(seen)] == seen
        seen = list(probe.log)
    await fleet.start("work")
    await probe.idle(2)

    assert probe.texts() == ["You said: 0", "You said: 1"]
    await _goes_on(probe, 3)


async def test_a_second_worker_takes_over_at_once(stage: "Stage", fleet: Fleet) -> None:
    first = await fleet.start("work")
    probe = await _session(stage)
    await probe.session.send("one")
    await probe.idle()
    await fleet.start("work")

    await fleet.kill(first)

    await _goes_on(probe, 2)


async def test_one_process_starts_another_streams_a_third_approves(stage: "Stage", fleet: Fleet) -> None:
    await fleet.start("work")
    fleet.release()
    session_id = await fleet.output("start")
    stream = await fleet.start("stream", session_id)
    probe = stage.watch(stage.runtime.session(session_id))
    await probe.parked()

    await fleet.output("approve", session_id)
    await probe.idle(2, "end_turn")
    await probe.session.archive()
    written, _ = await asyncio.wait_for(stream.communicate(), 60)
    fleet.running.remove(stream)
    await probe.ended()

    assert [read_event(line) for line in written.splitlines()] == probe.log
    assert fleet.ledger == ["once k"]
    assert probe.results()["once"].outcome == "ok"


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
