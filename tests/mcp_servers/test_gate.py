"""A worker without the package `mcp`, and one that has it and no use for it."""

import subprocess
import sys

from temporalio.worker import UnsandboxedWorkflowRunner, Worker
from tests.mcp_servers.conftest import Desk

from sojourn.activities.envelope import Envelope
from sojourn.activities.mcp.gate import McpGate
from sojourn.activities.mcp.option import McpOptions
from sojourn.activities.session_log import SessionLogs
from sojourn.types import McpServer, SessionErrorEvent
from sojourn.workflows import ENTITIES, SessionWorkflow


async def nowhere() -> str:
    raise AssertionError("nobody asks a question")


def test_the_package_is_loaded_by_those_who_need_it() -> None:
    code = (
        "import sys; from sojourn.activities.mcp.gate import McpGate, McpOptions;"
        "McpGate(logs=None, envelope=None, options=McpOptions(), own_queue=None);"
        "sys.exit('it is loaded' if 'mcp' in sys.modules else 0)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


async def test_worker_without_the_package_says_how_to_get_it(desk: Desk) -> None:
    client = desk.stage.client
    gate = McpGate(
        logs=SessionLogs(client),
        envelope=Envelope(client),
        options=McpOptions(),
        own_queue=nowhere,
        installed=False,
    )
    worker = Worker(
        client,
        task_queue=desk.stage.task_queue,
        workflows=[SessionWorkflow, *ENTITIES],
        activities=[gate.list_mcp_tools],
        workflow_runner=UnsandboxedWorkflowRunner(),
    )
    async with worker:
        agent = await desk.agent(McpServer(name="docs", url="https://docs.test/mcp"))
        probe = await desk.stage.open(agent)
        await probe.session.send("go")
        await probe.idle(1, "retries_exhausted")
        await probe.caught_up()

    error = probe.of(SessionErrorEvent)[0].error
    assert 'pip install "sojourn[mcp]"' in error.message
    assert error.retry_status.type == "exhausted"
