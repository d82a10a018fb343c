"""The demonstration from its first line to its last."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

from sojourn.cli import demo_scene as scene
from sojourn.cli.demo_check import Evidence, check
from sojourn.cli.demo_process import DemoProcess
from sojourn.cli.demo_screen import Screen
from sojourn.cli.demo_stage import Crew, DemoError, ModelError, Stage
from sojourn.client import AgentRuntime, SessionHandle
from sojourn.testing.demo import definition
from sojourn.types import EventId, SojournError
from sojourn.types.event import read_event
from sojourn.types.id import workflow_id
from sojourn.worker import EmbeddedServer, embedded_server


async def play(folder: Path, *, model: str | None, keep: bool) -> bool:
    """Play all scenes and check the log.

    Args:
        folder: For the database, the ledger and the logs of the processes.
        model: Answers in place of the script.
        keep: Whether the folder stays, so that it is worth saying how to look at it again.

    Returns:
        Whether every promise was kept.
    """
    screen, begun = Screen(), time.monotonic()
    screen.say(f"starting a Temporal server, with its data in {folder}")
    async with embedded_server(data=folder) as server, _runtime(server) as runtime, _crew(server, folder) as crew:
        try:
            evidence = await _perform(server, crew, runtime, screen, model)
        except (DemoError, SojournError) as error:
            if not isinstance(error, ModelError):
                screen.complain(crew.complaints())
            screen.verdict(f"The demonstration failed: {error}", good=False)
            return False
    checks = check(evidence)
    screen.scene("Checks")
    screen.checks(checks)
    broken = sum(1 for each in checks if each.faults)
    took = f"{len(evidence.log)} events, {time.monotonic() - begun:.0f} s"
    screen.verdict(
        f"{broken} of {len(checks)} checks failed." if broken else f"Nothing lost, nothing doubled: {took}.",
        good=not broken,
    )
    if keep:
        screen.say(f"look at it again: sojourn up --data {folder}")
    return not broken


async def _perform(
    server: EmbeddedServer, crew: Crew, runtime: AgentRuntime, screen: Screen, model: str | None
) -> Evidence:
    worker = await crew.worker()
    screen.say(f"starting a worker: process {worker.pid}")
    agent = await runtime.create(definition(model))
    session = await runtime.start_session(agent, title="sojourn demo")
    screen.link("session", session.id)
    screen.link("Web UI", await _web_page(server, session))
    reader = await crew.reader(session.id)
    async with AgentRuntime.connect(crew.address) as second:
        stage = Stage(screen=screen, runtime=runtime, session=session, crew=crew, second=second, scripted=model is None)
        async with stage.watched():
            late = await _scenes(stage, worker)
    screen.say(f"reading the log again, and what process {reader.pid} has streamed meanwhile")
    return await _evidence(stage, reader, late)


async def _scenes(stage: Stage, worker: DemoProcess) -> EventId:
    stage.screen.scene("1  Text is streamed while it is written")
    await scene.stream_text(stage)
    stage.screen.scene("2  Two tools at once; one needs approval")
    await scene.approve(stage)
    stage.screen.scene("3  The worker is killed in the middle of two tool calls")
    await scene.crash(stage, worker)
    stage.screen.scene("4  An interrupt in mid-sentence")
    await scene.interrupt(stage)
    stage.screen.scene("5  Pause and resume")
    late = await scene.pause(stage)
    stage.screen.scene("6  Archive")
    await scene.archive(stage)
    return late


async def _evidence(stage: Stage, reader: DemoProcess, late: EventId) -> Evidence:
    try:
        async with asyncio.timeout(stage.patience.total_seconds()):
            await reader.wait()
    except TimeoutError:
        raise DemoError("the reader in the other process did not see the end of the log") from None
    elsewhere = [read_event(line) for line in stage.crew.streamed.read_text().splitlines()]
    return Evidence(
        log=await stage.runtime.list_events(stage.session),
        live=stage.events,
        elsewhere=elsewhere,
        sent=stage.sent,
        ledger=stage.effects(),
        previews=stage.previews,
        late=late,
        scripted=stage.scripted,
    )


@asynccontextmanager
async def _runtime(server: EmbeddedServer) -> AsyncGenerator[AgentRuntime, None]:
    runtime = AgentRuntime(server.client)
    try:
        yield runtime
    finally:
        await runtime.close()


@asynccontextmanager
async def _crew(server: EmbeddedServer, folder: Path) -> AsyncGenerator[Crew, None]:
    crew = Crew(server.address, folder)
    try:
        yield crew
    finally:
        await crew.stop()


async def _web_page(server: EmbeddedServer, session: SessionHandle) -> str:
    """Address of the session's page in the Web UI."""
    id = workflow_id(session.owner.workspace, session.id)
    described = await server.client.get_workflow_handle(id).describe()
    namespace = f"{server.ui_url}/namespaces/{server.client.namespace}"
    return f"{namespace}/workflows/{quote(id, safe='')}/{described.run_id}/history"
