"""A worker that is told to stop: what runs may finish, what does not goes on elsewhere, and the process ends."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import ActivityTaskStartedEventAttributes

from sojourn.testing.protocol import Reply, Text, ToolCall
from sojourn.testing.provider import Broken, FakeProvider, Scripted
from sojourn.types import AgentDefinition, ModelRequestStart

if TYPE_CHECKING:
    from tests.conftest import Probe, Stage

TOOLS = """
import asyncio, time
from pathlib import Path
from sojourn.activities import tool

def began(name):
    with Path("began").open("a") as ledger:
        ledger.write(name + "\\n")

async def released():
    while not Path("release").exists():
        await asyncio.sleep(0.02)

@tool(idempotent=True)
async def repeatable() -> str:
    began("repeatable")
    await released()
    return "done"

@tool
async def once() -> str:
    began("once")
    await released()
    return "done"

@tool
def deaf() -> str:
    began("deaf")
    time.sleep(600)
    return "done"

@tool
async def thread() -> str:
    began("thread")
    await asyncio.to_thread(time.sleep, 600)
    return "done"

@tool
async def stubborn() -> str:
    began("stubborn")
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass
"""
ALL = ("once", "repeatable", "deaf", "thread", "stubborn")
DONE = Reply([Text("It is done.")])


class Floor:
    """Worker processes, and sessions whose model is a fake provider in this one."""

    def __init__(self, stage: "Stage", folder: Path, start: Callable[..., Any], stack: AsyncExitStack) -> None:
        self._stage = stage
        self._folder = folder
        self._start = start
        self._stack = stack

    async def worker(self, drain: float) -> asyncio.subprocess.Process:
        queue = self._stage.task_queue
        arguments = ("worker", "--tools", "tools_of_test", "--task-queue", queue, "--drain", str(drain))
        process: asyncio.subprocess.Process = await self._stack.enter_async_context(self._start(*arguments))
        assert process.stdout is not None
        assert f"worker serves task queue {queue!r}" in (await process.stdout.readline()).decode()
        return process

    async def session(self, *script: Scripted) -> "Probe":
        provider = await self._stack.enter_async_context(FakeProvider(*script))
        definition = AgentDefinition(name="actor", model=provider.ref("openai-compatible"), tools=list(ALL))
        return await self._stage.open(await self._stage.runtime.create(definition))

    async def began(self, *names: str) -> None:
        ledger = self._folder / "began"
        async with asyncio.timeout(60):
            while not ledger.exists() or sorted(ledger.read_text().split()) != sorted(names):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    def release(self) -> None:
        (self._folder / "release").touch()

    async def attempts(self, probe: "Probe") -> list[ActivityTaskStartedEventAttributes]:
        history = await self._stage.client.get_workflow_handle(probe.workflow_id).fetch_history()
        kind = EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED
        return [event.activity_task_started_event_attributes for event in history.events if event.event_type == kind]


@pytest.fixture
async def floor(
    stage: "Stage", tmp_path: Path, start: Callable[..., Any], environment: dict[str, str]
) -> AsyncGenerator[Floor, None]:
    environment["OPENAI_API_KEY"] = "none"
    (tmp_path / "tools_of_test.py").write_text(TOOLS)
    async with AsyncExitStack() as stack:
        yield Floor(stage, tmp_path, start, stack)


async def _stopped(process: asyncio.subprocess.Process) -> int | None:
    """Send SIGTERM and wait; what runs would keep the process for ten minutes."""
    process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(process.communicate(), 60)
    return process.returncode


def _calls(*names: str) -> Reply:
    return Reply([ToolCall(name, call_id=f"call_{name}") for name in names])


async def test_what_runs_may_finish(floor: Floor) -> None:
    first = await floor.worker(drain=60)
    probe = await floor.session(_calls("once"), DONE)
    await probe.session.send("go")
    await floor.began("once")

    first.send_signal(signal.SIGTERM)
    floor.release()
    await asyncio.wait_for(first.communicate(), 60)
    await floor.worker(drain=0)
    await probe.idle(reason="end_turn")

    assert first.returncode == 0
    assert probe.results()["once"].text == "done"


async def test_a_model_call_that_does_not_finish_is_made_elsewhere_at_once(floor: Floor) -> None:
    first = await floor.worker(drain=0.2)
    probe = await floor.session(Broken(Reply([Text("half an answer")]), after=2, how=asyncio.Event()), DONE)
    await probe.session.send("go")
    await probe.written("half")
    await floor.worker(drain=0)

    assert await _stopped(first) == 0
    await probe.idle(reason="end_turn")

    (attempt,) = await floor.attempts(probe)
    assert probe.texts() == ["It is done."]
    assert len(probe.of(ModelRequestStart)) == 1
    assert attempt.attempt == 2
    # Not a timeout: nobody waited for heartbeats to stay away.
    assert attempt.last_failure.WhichOneof("failure_info") == "application_failure_info"


async def test_a_tool_that_does_not_finish_is_run_elsewhere_only_if_it_may_be(floor: Floor) -> None:
    first = await floor.worker(drain=0.2)
    probe = await floor.session(_calls("once", "repeatable"), DONE)
    await probe.session.send("go")
    await floor.began("once", "repeatable")
    await floor.worker(drain=0)

    assert await _stopped(first) == 0
    await floor.began("once", "repeatable", "repeatable")
    floor.release()
    await probe.idle(reason="end_turn")

    results = probe.results()
    assert (results["once"].outcome, results["repeatable"].outcome) == ("unknown", "ok")
    assert "Outcome unknown" in results["once"].text
    failures = [each.last_failure.WhichOneof("failure_info") for each in await floor.attempts(probe)]
    assert "timeout_failure_info" not in failures


@pytest.mark.parametrize("name", ["deaf", pytest.param("thread", marks=pytest.mark.thorough), "stubborn"])
async def test_a_tool_that_holds_on_does_not_hold_the_process(floor: Floor, name: str) -> None:
    first = await floor.worker(drain=0.2)
    probe = await floor.session(_calls(name), DONE)
    await probe.session.send("go")
    await floor.began(name)

    assert await _stopped(first) == 0
    await floor.worker(drain=0)
    await probe.idle(reason="end_turn")

    assert probe.results()[name].outcome == "unknown"


async def test_a_second_signal_ends_the_process_at_once(floor: Floor) -> None:
    first = await floor.worker(drain=600)
    probe = await floor.session(_calls("once"), DONE)
    await probe.session.send("go")
    await floor.began("once")

    assert first.stderr is not None
    first.send_signal(signal.SIGTERM)
    # Two signals in one moment are one.
    await first.stderr.readuntil(b"a second signal ends it at once")
    first.send_signal(signal.SIGTERM)
    await asyncio.wait_for(first.communicate(), 60)
    await floor.worker(drain=0)
    await probe.idle(reason="end_turn")

    assert first.returncode == 130
    assert probe.results()["once"].outcome == "unknown"
