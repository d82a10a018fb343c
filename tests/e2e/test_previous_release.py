"""Sessions of the previous release go on with today's code, and both may serve and read at the same time.

The file is also the program of the other processes, which run it with the wheel of that release ahead on their path:
``python test_previous_release.py ROLE ADDRESS QUEUE WORKSPACE FOLDER …``. It may only use what both releases have.
"""

import asyncio
import json
import os
import signal
import sys
import zipfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import sojourn.activities
import sojourn.types
import sojourn.workflows
from sojourn.activities.model import ModelRequest
from sojourn.activities.tool import Tool, tool
from sojourn.client import AgentRuntime, SessionHandle, connect_client
from sojourn.testing import ScriptedCall, ScriptedFailure, ScriptedTurn, last_text
from sojourn.types import (
    AgentDefinition,
    CustomTool,
    FunctionTool,
    Limits,
    ModelRef,
    Owner,
    RollOver,
    SessionStatus,
    SystemMessage,
    TextBlock,
)
from sojourn.worker import EmbeddedServer, SojournWorker, WorkerOptions

if TYPE_CHECKING:
    from tests.conftest import Probe, Stage

RELEASES = sorted((Path(__file__).parents[1] / "releases").glob("*.whl"))
PREVIOUS = RELEASES[-1]
LOOK = CustomTool(name="look", description="Look.", input_schema={"type": "object"}, timeout=timedelta(days=90))

# --- the processes -------------------------------------------------------------------------------------------------


def tools_of(folder: Path) -> list[Tool]:
    """Two tools that write to a ledger and hang until they may go on, and one that is quick."""

    async def effect(name: str) -> str:
        with (folder / "ledger").open("a") as ledger:
            ledger.write(f"{name}\n")
        while not (folder / "release").exists():  # noqa: ASYNC110 (another process creates the file)
            await asyncio.sleep(0.02)
        return f"{name} done"

    @tool(idempotent=True)
    async def repeatable() -> str:
        return await effect("repeatable")

    @tool
    async def once() -> str:
        return await effect("once")

    @tool(permission="ask")
    async def pay() -> str:
        return "paid"

    return [repeatable, once, pay]


def script_of(folder: Path, request: ModelRequest) -> ScriptedTurn:
    word = last_text(request)
    if word in ("once", "repeatable", "pay", "look"):
        return ScriptedTurn(calls=[ScriptedCall(word)])
    if word == "talk" and not (folder / "release").exists():
        return ScriptedTurn(text="half a", stall=True)
    if word == "fail":
        return ScriptedTurn(text="at last", failure=ScriptedFailure(attempts=1))
    return ScriptedTurn(text=f"You said: {word}")


def definition() -> AgentDefinition:
    return AgentDefinition(
        name="actor",
        model=ModelRef.of("scripted:play"),
        tools=(*(FunctionTool(name=name) for name in ("repeatable", "once", "pay")), LOOK),
        limits=Limits(retry_interval=timedelta(seconds=3)),
    )


async def _work(address: str, queue: str, folder: Path) -> None:
    options = WorkerOptions(task_queue=queue, graceful_shutdown=timedelta(0), identity="old")
    scripts = {"play": lambda request: script_of(folder, request)}
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with SojournWorker(await connect_client(address), tools=tools_of(folder), scripts=scripts, options=options):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await stop.wait()


async def _read(runtime: AgentRuntime, *sessions: str) -> None:
    found = {each: await runtime.list_events(each) for each in sessions}
    json.dump({id: [[each.seq, each.type, each.id] for each in events] for id, events in found.items()}, sys.stdout)


async def _play(runtime: AgentRuntime) -> None:
    session = await runtime.start_session(await runtime.create(definition()), title="played")
    said = [(await session.send_and_wait("hello")).text]
    await session.pause()
    await session.resume()
    await session.send("pay")
    while not (actions := await session.pending_actions()):  # noqa: ASYNC110 (a person would look, too)
        await asyncio.sleep(0.05)
    await session.confirm(actions[0], allow=True)
    await session.wait_idle(timeout=timedelta(seconds=60))
    said.append((await session.send_and_wait("bye")).text)
    json.dump({"id": session.id, "said": said}, sys.stdout)


async def _main(role: str, address: str, queue: str, workspace: str, folder: str, *rest: str) -> None:
    for package in (sojourn.types, sojourn.workflows, sojourn.activities):
        # A checkout on the path would make the release test itself.
        assert str(package.__file__).startswith(os.environ["PYTHONPATH"]), package.__file__
    if role == "work":
        return await _work(address, queue, Path(folder))
    async with AgentRuntime.connect(address, owner=Owner(workspace, "ada"), task_queue=queue) as runtime:
        await {"read": _read, "play": _play}[role](runtime, *rest)


# --- the tests -----------------------------------------------------------------------------------------------------


@dataclass
class Release:
    """Processes of the previous release."""

    stage: "Stage"
    address: str
    folder: Path
    running: list[asyncio.subprocess.Process] = field(default_factory=list)

    async def start(self, role: str, *rest: str) -> asyncio.subprocess.Process:
        owner, queue = self.stage.owner, self.stage.task_queue
        arguments = (role, self.address, queue, owner.workspace, str(self.folder), *rest)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            __file__,
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(self.folder / "previous")},
        )
        self.running.append(process)
        return process

    async def worker(self) -> asyncio.subprocess.Process:
        process = await self.start("work")
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        return process

    async def says(self, role: str, *rest: str) -> Any:
        written, _ = await asyncio.wait_for((await self.start(role, *rest)).communicate(), 60)
        return json.loads(written)

    async def new_worker(self) -> SojournWorker:
        options = WorkerOptions(graceful_shutdown=timedelta(0), identity="new")
        return await self.stage.work(
            lambda request: script_of(self.folder, request), tools=tools_of(self.folder), options=options
        )

    def go_on(self) -> None:
        (self.folder / "release").touch()

    async def check(self, *probes: "Probe") -> None:
        """Both releases read the same log, and the session takes the next message."""
        for probe in probes:
            text = (await probe.session.send_and_wait("hello", timeout=timedelta(seconds=60))).text
            assert text == "You said: hello"
            await probe.caught_up()
            await probe.check(served=True)
        read = await self.says("read", *(probe.session.id for probe in probes))
        assert read == {probe.session.id: [[each.seq, each.type, each.id] for each in probe.log] for probe in probes}


@pytest.fixture
async def release(server: EmbeddedServer, stage: "Stage", tmp_path: Path) -> AsyncGenerator[Release, None]:
    with zipfile.ZipFile(PREVIOUS) as wheel:
        wheel.extractall(tmp_path / "previous")
    release = Release(stage, server.address, tmp_path)
    try:
        yield release
    finally:
        for process in release.running:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@dataclass(frozen=True)
class State:
    """A state to find a session in: how it comes there, and how it goes on from there."""

    enter: "Callable[[Probe], Awaitable[None]]"
    leave: "Callable[[Probe], Awaitable[None]]"
    roll_over: RollOver | None = None


async def _send(probe: "Probe", word: str, calls: int) -> None:
    await probe.session.send(word)
    await probe.saw(sojourn.types.AgentToolUse, calls)


async def _tool(probe: "Probe", name: str) -> None:
    await _send(probe, name, 1)
    # The call has been handed to the worker, which the log does not tell.
    await probe.caught_up()


async def _ended(probe: "Probe", expected: dict[str, str], idles: int = 1) -> None:
    await probe.idle(idles, "end_turn")
    assert {name: result.outcome for name, result in probe.results().items()} == expected


async def _talking(probe: "Probe") -> None:
    await probe.session.send("talk")
    await probe.written("half a")


async def _parked(probe: "Probe") -> None:
    await probe.session.send("pay")
    await probe.parked()


async def _approved(probe: "Probe") -> None:
    (action,) = await probe.session.pending_actions()
    await probe.session.confirm(action, allow=True)
    await _ended(probe, {"pay": "ok"}, 2)


async def _looking(probe: "Probe") -> None:
    await probe.session.send("look")
    await probe.parked()


async def _looked(probe: "Probe") -> None:
    (action,) = await probe.session.pending_actions()
    await probe.session.answer(action, "seen")
    await probe.idle(2, "end_turn")
    assert probe.texts() == ["You said: seen"]


async def _queued(probe: "Probe") -> None:
    await _parked(probe)
    for word in ("one", "two", "three"):
        await probe.session.send(word)
    await probe.session.send(SystemMessage(content=(TextBlock(text="be brief"),)))


async def _served(probe: "Probe") -> None:
    (action,) = await probe.session.pending_actions()
    await probe.session.confirm(action, allow=False)
    await probe.idle(5, "end_turn")
    assert probe.texts()[1:] == ["You said: one", "You said: two", "You said: three"]


async def _paused(probe: "Probe") -> None:
    await probe.session.send_and_wait("zero")
    await probe.session.pause()
    await probe.session.send("wait")


async def _resumed(probe: "Probe") -> None:
    assert await probe.session.status() is SessionStatus.PAUSED
    await probe.session.resume()
    await probe.idle(2, "end_turn")
    assert probe.texts() == ["You said: zero", "You said: wait"]


async def _failing(probe: "Probe") -> None:
    await probe.session.send("fail")
    await probe.saw(sojourn.types.SessionRescheduled)


async def _recovered(probe: "Probe") -> None:
    await probe.idle(1, "end_turn")
    assert probe.texts() == ["at last"]


async def _rolled(probe: "Probe") -> None:
    for number in range(4):
        await probe.session.send_and_wait(f"{number}")
    assert await probe.runs() > 1


async def _idle(probe: "Probe") -> None:
    assert await probe.session.status() is SessionStatus.IDLE


async def _queued_before_the_first_turn(probe: "Probe") -> None:
    await probe.caught_up()


STATES = {
    "new": State(_queued_before_the_first_turn, lambda probe: probe.caught_up()),
    "tool that may be repeated": State(
        lambda probe: _tool(probe, "repeatable"), lambda probe: _ended(probe, {"repeatable": "ok"})
    ),
    "tool that may not": State(lambda probe: _tool(probe, "once"), lambda probe: _ended(probe, {"once": "unknown"})),
    "model call": State(_talking, lambda probe: _said(probe, "You said: talk")),
    "approval": State(_parked, _approved),
    "custom tool": State(_looking, _looked),
    "queue": State(_queued, _served),
    "pause": State(_paused, _resumed),
    "retry": State(_failing, _recovered),
    "later run": State(_rolled, _idle, roll_over=RollOver(max_events=20)),
}


async def _said(probe: "Probe", text: str) -> None:
    await probe.idle(1, "end_turn")
    assert probe.texts() == [text]


async def _ledger(folder: Path, *names: str) -> None:
    async with asyncio.timeout(60):
        while not (folder / "ledger").exists() or sorted((folder / "ledger").read_text().split()) != sorted(names):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda each: each.name)
async def test_sessions_in_every_state_go_on_with_todays_code(
    release: Release, stage: "Stage", number: signal.Signals
) -> None:
    old = await release.worker()
    agent = await stage.runtime.create(definition())
    probes = {name: await stage.open(agent, roll_over=state.roll_over) for name, state in STATES.items()}
    await asyncio.gather(*(STATES[name].enter(probe) for name, probe in probes.items() if name != "retry"))
    await _ledger(release.folder, "once", "repeatable")
    # Last, because it goes on by itself.
    await STATES["retry"].enter(probes["retry"])
    old.send_signal(number)
    await old.communicate()

    release.go_on()
    await release.new_worker()
    await asyncio.gather(*(STATES[name].leave(probe) for name, probe in probes.items()))

    await _ledger(release.folder, "once", "repeatable", "repeatable")
    changed = await agent.update(definition().model_copy(update={"system": "changed"}))
    assert changed.version == 2
    await release.check(*probes.values())


async def test_old_and_new_workers_serve_one_queue(release: Release, stage: "Stage") -> None:
    release.go_on()
    await release.worker()
    await release.new_worker()
    agent = await stage.runtime.create(definition())
    probes = [await stage.open(agent, roll_over=RollOver(max_events=60)) for _ in range(6)]

    async def talk(session: SessionHandle) -> None:
        for word in ("one", "repeatable", "two", "once", "three"):
            await session.send_and_wait(word, timeout=timedelta(seconds=60))

    await asyncio.gather(*(talk(probe.session) for probe in probes))

    assert await _identities(stage, probes) == {"old", "new"}
    assert all(probe.results()["once"].outcome == "ok" for probe in probes)
    await release.check(*probes)


async def _identities(stage: "Stage", probes: "list[Probe]") -> set[str]:
    """Who has completed workflow tasks."""
    found = set()
    for probe in probes:
        history = await stage.client.get_workflow_handle(probe.workflow_id).fetch_history()
        found |= {each.workflow_task_completed_event_attributes.identity for each in history.events}
    return found - {""}


async def test_an_old_client_works_with_a_new_worker(release: Release, stage: "Stage") -> None:
    release.go_on()
    await release.new_worker()

    played = await release.says("play")
    probe = stage.watch(stage.runtime.session(played["id"]))

    assert played["said"] == ["You said: hello", "You said: bye"]
    await release.check(probe)


def test_releases_are_kept_with_their_name() -> None:
    assert [path.name for path in RELEASES][:1] == ["sojourn-0.1.0-py3-none-any.whl"]


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
