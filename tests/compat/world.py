"""What the scripts run against, `sojourn up` in a process of its own, and how they are run."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tests.compat.matrix import Row

HERE = Path(__file__).parent
START_SECONDS = 90
_LOG = "up.log"
RUN_SECONDS = 600
"""Far more than a script takes."""


@dataclass(frozen=True)
class World:
    """Where a gateway serves, and a key for it."""

    url: str
    key: str


@asynccontextmanager
async def world(data: Path) -> AsyncGenerator[World, None]:
    """`sojourn up` on free ports with the order desk, while the block runs."""
    ports = ("--port", "0", "--ui-port", "0", "--gateway-port", "0")
    desk = ("--tools", "desk", "--scripts", "desk")
    arguments = ("-c", "from sojourn.cli import main; main()", "up", "--json", "--data", str(data), *ports, *desk)
    # Not on the terminal: the server tells of every client that leaves.
    with await asyncio.to_thread(_log, data) as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *arguments),
            cwd=HERE,
            env=_environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            line = await process.stdout.readline()
        if not line:
            raise RuntimeError(f"`sojourn up` did not start: {await asyncio.to_thread((data / _LOG).read_text)}")
        served = json.loads(line)
        yield World(served["gateway_url"], served["api_key"])
    finally:
        await _end(process)


def _log(data: Path) -> BinaryIO:
    data.mkdir(parents=True, exist_ok=True)
    return (data / _LOG).open("wb")


async def run_script(command: Sequence[str | Path], world: World, *, sdk: str, version: str, client: str) -> Row:
    """Run a script against the world; what it came to."""
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        *("--base-url", world.url, "--api-key", world.key, "--model", "scripted:desk"),
        env=_environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(RUN_SECONDS):
            out, err = await process.communicate()
    finally:
        await _end(process)
    told = [json.loads(line) for line in out.splitlines() if line.startswith(b"{")]
    steps = [each for each in told if "step" in each]
    failed = [f"{each['step']}: {each['error']}" for each in steps if not each["ok"]]
    if process.returncode != 0:
        sys.stderr.write(err.decode(errors="replace"))
        failed = failed or [(err.decode(errors="replace").strip().splitlines() or ["no message"])[-1]]
    return Row(
        sdk=sdk,
        version=version,
        client=client,
        passed=sum(each["ok"] for each in steps),
        steps=told[0]["steps"] if told else 1,
        failed=failed[0] if failed else "",
        seconds=time.monotonic() - began,
    )


def _environment() -> dict[str, str]:
    """Nothing that could point a program elsewhere."""
    mine = ("TEMPORAL_", "SOJOURN_", "ANTHROPIC_", "PYTHON", "OTEL_", "HTTP_PROXY", "http_proxy")
    return {name: value for name, value in os.environ.items() if not name.startswith(mine)}


async def _end(process: asyncio.subprocess.Process) -> None:
    """In order if it can be, and by force if it cannot."""
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(30):
            await process.communicate()
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()
