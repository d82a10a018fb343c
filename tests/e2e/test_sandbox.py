"""A session works in a real sandbox of bubblewrap, with every built-in tool; and its worker is killed meanwhile.

The file is also the program of the worker: ``python test_sandbox.py ADDRESS QUEUE FOLDER``.
"""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sojourn.client import connect_client
from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import (
    AgentToolset,
    CloudConfig,
    EnvironmentConfig,
    EnvironmentDefinition,
    Limits,
    PermissionPolicy,
    text_of,
)
from sojourn.types.agent import CodeExecutionTool, ToolOptions
from sojourn.types.event import AgentToolResult, AgentToolUse, SessionErrorEvent
from sojourn.worker import EmbeddedServer, SojournWorker, WorkerOptions

if TYPE_CHECKING:
    from tests.conftest import Probe, Stage

TOOLS = AgentToolset(configs=tuple(ToolOptions(name=name, enabled=False) for name in ("web_fetch", "web_search")))
FREE = PermissionPolicy(default="allow")
DONE = ScriptedTurn(text="done")


def call(name: str, **arguments: Any) -> ScriptedTurn:
    return ScriptedTurn(calls=[ScriptedCall(name, arguments)])


LONG = (call("bash", command="echo begun > begun; exec sleep 4713"), call("bash", command="ls; echo alive"), DONE)


async def _work(address: str, queue: str, folder: str) -> None:
    client = await connect_client(address, store=os.environ["SOJOURN_STORE_URL"])
    options = WorkerOptions(task_queue=queue, sandbox="bubblewrap", workspaces=Path(folder))
    await SojournWorker(client, scripts={"play": LONG}, options=options).run()


if __name__ == "__main__":
    asyncio.run(_work(*sys.argv[1:]))


pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None and not os.environ.get("CI"), reason="no bubblewrap")


def told(probe: "Probe") -> list[str]:
    return [text_of(each.content) for each in probe.of(AgentToolResult)]


async def test_every_tool_of_the_workspace_works_in_bubblewrap(stage: "Stage", tmp_path: Path) -> None:
    script = (
        call("bash", command='pwd; id -u; echo "$GREETING"; export KEPT=yes'),
        call("write", file_path="/workspace/app/main.py", content="print('helo')\n"),
        call("read", file_path="/workspace/app/main.py"),
        call("edit", file_path="/workspace/app/main.py", old_string="helo", new_string="hello"),
        call("glob", pattern="**/*.py"),
        call("grep", pattern="hello"),
        call("bash", command="python3 /workspace/app/main.py; echo $KEPT; cp app/main.py /mnt/session/outputs/"),
        call("code_execution", language="python", code="print(6 * 7)"),
        DONE,
    )
    options = WorkerOptions(sandbox="bubblewrap", workspaces=tmp_path, graceful_shutdown=timedelta(0))
    worker = await stage.work(script, options=options)
    assert worker.sandbox == "bubblewrap"
    agent = await stage.agent(TOOLS, CodeExecutionTool(), policy=FREE)
    environment = EnvironmentConfig(env_vars={"GREETING": "hello there"}, working_dir="/workspace")
    probe = await stage.open(agent, environment=environment)

    await probe.session.send("go")
    await probe.idle()

    first, _, read, _, files, found, ran, code = told(probe)
    assert first.splitlines() == ["/workspace", "1000", "hello there"]
    assert "helo" in read
    assert "main.py" in files
    assert "main.py" in found
    assert ran.splitlines() == ["hello", "yes"]
    assert "42" in code
    assert not [each for each in probe.of(AgentToolResult) if each.is_error]


async def test_a_working_directory_is_made_and_a_session_without_an_environment_has_no_network(
    stage: "Stage", tmp_path: Path
) -> None:
    script = (call("bash", command="pwd; env | grep -ci proxy; touch here; ls /workspace/deep"), DONE)
    options = WorkerOptions(sandbox="bubblewrap", workspaces=tmp_path, graceful_shutdown=timedelta(0))
    await stage.work(script, options=options)
    agent = await stage.agent(TOOLS, policy=FREE)
    plain = await stage.open(agent, environment=EnvironmentConfig(working_dir="deep/er"))
    made = await stage.runtime.create_environment(EnvironmentDefinition(name="cloud", config=CloudConfig()))
    online = await stage.open(agent, environment_id=made.id)

    for probe in (plain, online):
        await probe.session.send("go")
        await probe.idle()

    assert told(plain)[0].splitlines()[:3] == ["/workspace/deep/er", "0", "er"]
    assert int(told(online)[0].splitlines()[1]) > 0


class Machine:
    """Workers in processes of their own, in bubblewrap, on one folder."""

    def __init__(self, server: EmbeddedServer, stage: "Stage", folder: Path) -> None:
        self._arguments = (__file__, server.address, stage.task_queue, str(folder))
        store = stage.client.data_converter.external_storage
        assert store is not None
        url = store.drivers[0].objects.url  # type: ignore[attr-defined]
        self._env = {**os.environ, "SOJOURN_STORE_URL": url}

    @asynccontextmanager
    async def worker(self) -> AsyncGenerator[asyncio.subprocess.Process, None]:
        process = await asyncio.create_subprocess_exec(sys.executable, *self._arguments, env=self._env)
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def sleeping() -> list[str]:
    """What is left of the command on the machine."""
    return [str(path) for path in Path("/proc").glob("[0-9]*/cmdline") if _line(path) == b"sleep\x004713\0"]


def _line(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("again", ["same", "other"])
async def test_a_worker_killed_while_a_command_runs(
    stage: "Stage", server: EmbeddedServer, tmp_path: Path, eventually: Any, again: str
) -> None:
    """One result for each call, nothing left running; the next worker of the machine has the files, another has not."""
    agent = await stage.agent(
        TOOLS, policy=FREE, limits=Limits(workspace_timeout=timedelta(seconds=30 if again == "same" else 3))
    )
    async with Machine(server, stage, tmp_path / "one").worker() as process:
        probe = await stage.open(agent)
        await probe.session.send("go")
        await probe.saw(AgentToolUse)

        def written() -> list[Path]:
            return list(tmp_path.rglob("workspace/begun"))

        async def begun() -> bool:
            return bool(sleeping()) and bool(written())

        await eventually(begun, "the command")
        process.send_signal(signal.SIGKILL)
        await process.wait()

    async def gone() -> bool:
        return not sleeping()

    await eventually(gone, "the end of the command")
    async with Machine(server, stage, tmp_path / ("one" if again == "same" else "two")).worker():
        await probe.idle()

    assert [each.outcome for each in probe.of(AgentToolResult)] == ["unknown", "ok"]
    after = told(probe)[1].splitlines()
    moved = [each.error.type for each in probe.of(SessionErrorEvent)]
    if again == "same":
        assert "the worker was restarted" in after[0]
        assert after[1:] == ["begun", "alive"]
        assert not moved
    else:
        assert "empty, because it was never stored" in after[0]
        assert after[1:] == ["alive"]
        assert moved == ["workspace_moved_error"]
