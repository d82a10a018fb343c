"""A server that is killed and started again on its database file, while somebody is in the middle of something."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.service import RPCError

from sojourn.activities.session_log import SessionLogs
from sojourn.activities.tool import tool
from sojourn.client import AgentRuntime, connect_client
from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import AgentDefinition, AgentToolUse, SojournError
from sojourn.worker import SojournWorker, WorkerOptions
from sojourn.worker.port import free_port
from sojourn.worker.server import server_command

PATIENCE = 60


class Server:
    """A process of its own."""

    def __init__(self, data: Path) -> None:
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self._command = server_command(data=data, port=port)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> Client:
        self._process = await asyncio.create_subprocess_exec(*self._command)
        async with asyncio.timeout(PATIENCE):
            while True:
                with suppress(SojournError, RPCError):
                    client = await connect_client(self.address)
                    async for _ in client.list_workflows("SojournStatus = 'none'", limit=1):
                        break
                    return client
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


@pytest.fixture
async def server_process(tmp_path: Path) -> AsyncGenerator[Server, None]:
    server = Server(tmp_path)
    try:
        yield server
    finally:
        await server.kill()


@tool
def note(text: str) -> str:
    return text


async def test_an_activity_that_reads_the_log_meanwhile_reads_on(server_process: Server) -> None:
    """A tool that is attempted once must not be lost because its arguments could not be read for a moment."""
    client = await server_process.start()
    runtime = AgentRuntime(client)
    turns = [ScriptedTurn(calls=[ScriptedCall("note", {"text": "hello"})]), ScriptedTurn(text="done")]
    async with SojournWorker(client, tools=[note], scripts={"play": turns}, options=WorkerOptions()):
        agent = await runtime.create(AgentDefinition(name="actor", model="scripted:play", tools=["note"]))
        session = await runtime.start_session(agent)
        await session.send_and_wait("go")
    (use,) = [event for event in await runtime.list_events(session) if isinstance(event, AgentToolUse)]
    workflow_id = f"{session.owner.workspace}/{session.id}"
    described = await client.get_workflow_handle(workflow_id).describe()
    cold = SessionLogs(client).get(workflow_id)

    await server_process.kill()
    reading = asyncio.create_task(cold.call(described.run_id or "", use.id))
    done, _ = await asyncio.wait({reading}, timeout=1)
    await server_process.start()

    assert not done
    assert (await asyncio.wait_for(reading, PATIENCE)).input == {"text": "hello"}
    await runtime.close()
