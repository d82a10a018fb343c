"""Processes that are measured: started here, watched through /proc, ended by their ids."""

import asyncio
import json
import os
import sys
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from temporalio.testing import WorkflowEnvironment

from sojourn.client import AgentRuntime
from sojourn.client.key import KeyStore
from sojourn.types import data_converter
from sojourn.types.name import SEARCH_ATTRIBUTES
from sojourn.worker import server as embedded
from sojourn.worker import temporal_binary

Kind = Literal["ours", "raw"]
_TICKS = os.sysconf("SC_CLK_TCK")
_COMMANDS = ("frontend.WorkerCommandsEnabled", "system.enableCancelActivityWorkerCommand")

LONG_POLLS = 2000
"""For each process; the server of the benchmarks admits 20,000."""


@dataclass(frozen=True)
class Process:
    """A process by its id. Without a /proc, as on macOS, its figures are zero."""

    pid: int

    @property
    def cpu_seconds(self) -> float:
        """Processor time used so far; it does not depend on who else uses the machine."""
        fields = _proc(self.pid, "stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS if fields else 0.0

    @property
    def resident_bytes(self) -> int:
        """Memory in use."""
        found = [line for line in _proc(self.pid, "status").splitlines() if line.startswith("VmRSS:")]
        return int(found[0].split()[1]) * 1024 if found else 0


@dataclass(frozen=True)
class WorkerProcess(Process):
    """A worker, and where it takes its work from."""

    task_queue: str


@dataclass(frozen=True)
class GatewayProcess(Process):
    """A gateway, and how it is reached."""

    url: str
    key: str


def this_process() -> Process:
    return Process(os.getpid())


def server_process() -> Process:
    """The Temporal server that this process started last."""
    children = (int(path.name) for path in Path("/proc").glob("[0-9]*") if _parent(int(path.name)) == os.getpid())
    servers = [pid for pid in children if "start-dev" in _proc(pid, "cmdline")]
    return Process(max(servers, default=0))


@asynccontextmanager
async def worker_process(kind: Kind, address: str, *, cached: int = 2000) -> AsyncGenerator[WorkerProcess, None]:
    """A worker while the block runs.

    Args:
        kind: Ours, or the raw one.
        address: Of the server.
        cached: Workflows that stay in its memory.
    """
    queue = f"bench-{kind}-{uuid.uuid4().hex[:8]}"
    script = str(Path(__file__).with_name("worker.py"))
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        script,
        kind,
        address,
        queue,
        str(cached),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        async with asyncio.timeout(60):
            line = await child.stdout.readline()
        if line.strip() != b"ready":
            raise RuntimeError(f"the {kind} worker did not start; see its message above")
        yield WorkerProcess(child.pid, queue)
    finally:
        child.stdin.close()
        try:
            async with asyncio.timeout(15):
                await child.wait()
        except TimeoutError:
            child.kill()
            await child.wait()


@asynccontextmanager
async def gateway_process(runtime: AgentRuntime) -> AsyncGenerator[GatewayProcess, None]:
    """`sojourn gateway` while the block runs, for the sessions of the runtime."""
    made = await KeyStore(runtime.client, task_queue=runtime.task_queue).create("benchmark", owner=runtime.owner)
    code = "from sojourn.cli import main; main()"
    options = ("--address", runtime.client.service_client.config.target_host, "--task-queue", runtime.task_queue)
    limits = ("--writes-per-minute", "0", "--reads-per-minute", "0", "--long-polls", str(LONG_POLLS))
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, "gateway", "--json", "--log-level", "warning", "--port", "0", *options, *limits),
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    try:
        async with asyncio.timeout(60):
            line = await child.stdout.readline()
        if not line:
            raise RuntimeError("the gateway did not start; see its message above")
        yield GatewayProcess(child.pid, json.loads(line)["gateway_url"], made.token)
    finally:
        await _stopped(child)


async def _stopped(child: asyncio.subprocess.Process) -> None:
    if child.returncode is None:
        child.terminate()
    try:
        async with asyncio.timeout(15):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()


@asynccontextmanager
async def server_without_worker_commands() -> AsyncGenerator[str, None]:
    """The embedded server less the two flags that let it tell a worker to cancel; gives its address.

    Any server before 1.31, and Temporal Cloud today, is like this: cancellations travel with heartbeats.
    """
    arguments = [
        part
        for key, value in embedded._DYNAMIC_CONFIG.items()
        if key not in _COMMANDS
        for part in ("--dynamic-config-value", f"{key}={value}")
    ]
    environment = await WorkflowEnvironment.start_local(
        data_converter=data_converter,
        search_attributes=SEARCH_ATTRIBUTES,
        dev_server_existing_path=temporal_binary(),
        dev_server_log_level="error",
        dev_server_extra_args=arguments,
    )
    async with environment:
        yield environment.client.service_client.config.target_host


def _proc(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""


def _parent(pid: int) -> int:
    fields = _proc(pid, "stat").rpartition(")")[2].split()
    return int(fields[1]) if fields else 0
