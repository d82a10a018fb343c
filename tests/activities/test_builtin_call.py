"""Built-in tools through the activity, in a real shell."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from pydantic import JsonValue
from temporalio.activity import ActivityCancellationDetails
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment
from tests.sandbox.guest_stand import PATIENCE_SECONDS, Sandboxed, pids, sandboxed, until

from sojourn.activities.builtin import built_in_tools
from sojourn.activities.catalogue import Catalogue
from sojourn.activities.envelope import Envelope
from sojourn.activities.session_log import SessionLogs
from sojourn.activities.tool import Toolbox
from sojourn.activities.tool_call import ToolCall
from sojourn.activities.workspace import HeldWorkspace
from sojourn.sandbox.guest_client import Guest
from sojourn.types.agent import AgentDefinition, AgentVersion
from sojourn.types.content import text_of
from sojourn.types.converter import data_converter
from sojourn.types.id import AgentId, EventId, SessionId
from sojourn.types.model import ModelRef
from sojourn.types.preview import ToolPreview
from sojourn.types.record import RunToolInput, RunToolResult, ToolCallPart
from sojourn.types.session import Owner, SessionInput

ID = EventId("sevt_1")


class Here:
    """The one workspace of a worker, its log, and the one call in it."""

    start = SessionInput(
        session_id=SessionId("sesn_1"),
        owner=Owner(),
        agent=AgentVersion(
            id=AgentId("agent_1"), version=1, definition=AgentDefinition(name="a", model=ModelRef.of("scripted:echo"))
        ),
    )

    def __init__(self, box: Sandboxed, name: str, input: dict[str, JsonValue]) -> None:
        self.folder = box.workspace
        self._box = box
        self._part = ToolCallPart(id=ID, call_id="c", name=name, input=input, kind="builtin", permission="allow")

    def logs(self) -> SessionLogs:
        return cast(SessionLogs, SimpleNamespace(get=lambda workflow_id: self))

    async def call(self, run_id: str, tool_use_id: EventId) -> ToolCallPart:
        return self._part

    @asynccontextmanager
    async def using(
        self, workflow_id: str, generation: int, start: SessionInput
    ) -> AsyncGenerator[HeldWorkspace, None]:
        yield self

    def notice(self) -> str:
        return ""

    async def guest(self) -> Guest:
        return self._box.guest


class Stage:
    def __init__(self, box: Sandboxed, threads: ThreadPoolExecutor) -> None:
        self.previews: list[ToolPreview] = []
        self.environment = ActivityEnvironment()
        self.environment.info = replace(self.environment.info, start_to_close_timeout=timedelta(minutes=5))
        self.environment.on_heartbeat = lambda *details: self.previews.extend(details)
        self._box = box
        self._threads = threads

    async def run(self, name: str, **input: JsonValue) -> RunToolResult:
        here = Here(self._box, name, input)
        envelope = Envelope(cast(Client, SimpleNamespace(data_converter=data_converter)))
        tools = Catalogue(Toolbox(), built_in_tools())
        running = ToolCall(logs=here.logs(), tools=tools, threads=self._threads, envelope=envelope, workspaces=here)
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.environment.run(running.run_tool, RunToolInput(tool_use_id=ID, name=name, generation=1))


@pytest.fixture
async def box(tmp_path: Path) -> AsyncGenerator[Sandboxed, None]:
    async with sandboxed(tmp_path) as box:
        yield box


@pytest.fixture
def stage(box: Sandboxed) -> Generator[Stage, None, None]:
    with ThreadPoolExecutor(1) as threads:
        yield Stage(box, threads)


async def test_a_command_gives_its_result(stage: Stage) -> None:
    good = await stage.run("bash", command="echo done")
    bad = await stage.run("bash", command="seq 1 5000; exit 3")

    assert (text_of(good.content), good.outcome) == ("done", "ok")
    assert bad.outcome == "error"
    assert len(text_of(bad.content)) > 20_000
    assert "[exit code 3;" in text_of(bad.content)


async def test_a_running_command_shows_its_output_in_previews(stage: Stage, box: Sandboxed) -> None:
    wait = f"until [ -e {box.workspace}/go ]; do sleep 0.05; done"
    running = asyncio.create_task(stage.run("bash", command=f"echo working; {wait}"))

    await until(lambda: any("working" in preview.progress for preview in stage.previews))
    (box.workspace / "go").touch()

    assert text_of((await running).content) == "working"


async def test_an_interrupt_ends_the_command_and_all_it_has_started(stage: Stage, box: Sandboxed) -> None:
    running = asyncio.create_task(stage.run("bash", command="(setsid sleep $MARK &); trap '' TERM; sleep $MARK"))
    await until(lambda: len(pids(box.mark)) == 2)

    stage.environment.cancel(ActivityCancellationDetails(cancel_requested=True))

    assert (await running).outcome == "interrupted"
    await until(lambda: not pids(box.mark))
