import asyncio
import os
import shutil
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sojourn.worker import EmbeddedServer

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PATIENCE_SECONDS = 60


@asynccontextmanager
async def running(name: str, *arguments: str, address: str = "") -> AsyncGenerator[asyncio.subprocess.Process, None]:
    """An example as a process of its own; killed at the end of the block if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLES / name), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        stdin=asyncio.subprocess.PIPE,
        env={**os.environ, "TEMPORAL_ADDRESS": address},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def finished(process: asyncio.subprocess.Process, *, answers: str = "") -> list[str]:
    """What it prints until its good end, with these answers to what it asks."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        output, errors = await process.communicate(answers.encode())
    assert process.returncode == 0, errors.decode()
    return output.decode().splitlines()


async def lines_until(process: asyncio.subprocess.Process, wanted: str) -> list[str]:
    """What it prints up to a line with these words."""
    assert process.stdout is not None
    lines: list[str] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not lines or wanted not in lines[-1]:
            line = await process.stdout.readline()
            assert line, f"ended after {lines}"
            lines.append(line.decode().rstrip())
    return lines


async def test_quickstart_answers() -> None:
    async with running("quickstart.py") as example:
        lines = await finished(example)

    assert lines == ["Sunny, at 24 °C."]


async def test_approval_by_another_process(server: EmbeddedServer) -> None:
    async with running("approval.py", "worker", address=server.address):
        async with running("approval.py", "start", address=server.address) as starter:
            (session_id,) = await finished(starter)
        async with running("approval.py", "watch", session_id, address=server.address) as watcher:
            before = await lines_until(watcher, "requires_action")
            async with running("approval.py", "approve", session_id, address=server.address) as approver:
                approved = await finished(approver)
            after = await finished(watcher)

    assert before[0] == "1 user.message My order A-17 never came."
    assert any("agent.tool_use refund {'order': 'A-17', 'euros': 40}" in line for line in before)
    assert approved == ["approved refund"]
    assert [line.split(maxsplit=1)[1] for line in after] == [
        "agent.tool_result refunded 40 euros for A-17",
        "agent.message The 40 euros are on their way.",
        "session.status_idle end_turn",
    ]


@pytest.mark.skipif(shutil.which("bwrap") is None and not os.environ.get("CI"), reason="no bubblewrap")
async def test_coding_agent_repairs_a_repository() -> None:
    async with running("coding_agent.py") as example:
        lines = await finished(example, answers="y\n" * 4)

    assert any("FAILED (failures=1)" in line for line in lines)
    assert any("git commit" in line and "[y/n]" in line for line in lines)
    assert "+import unicodedata" in lines
