"""The chaos in its short form; `make chaos` is the long one."""

import asyncio
import json
import os
import secrets
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.chaos.plan import points

ROOT = Path(__file__).parents[2]


async def _run(output: Path, *arguments: str) -> dict[str, Any]:
    """One campaign; its figures. What it says goes to the standard output, the seed first."""
    command = (sys.executable, "-m", "tests.chaos.run", "--json", str(output), *arguments)
    child = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    sys.stdout.write(said.decode())
    assert child.returncode == 0, said.decode()
    found: dict[str, Any] = json.loads(await asyncio.to_thread(output.read_text))
    return found


@pytest.mark.timeout(900)
async def test_a_worker_killed_at_every_named_step_loses_nothing(tmp_path: Path) -> None:
    size = ("--seconds", "360", "--pause", "0.4", "--workers", "3", "--in-flight", "5")

    found = await _run(tmp_path / "figures.json", "--steps-only", "--seed", "3", *size)

    assert set(found["kills_by_step"]) == set(points(shell=found["shell"]))
    assert found["shell"] or not os.environ.get("CI")
    assert found["findings"] == []


@pytest.mark.timeout(900)
async def test_everything_killed_by_chance_loses_nothing(tmp_path: Path) -> None:
    """Another seed each time. A failure prints it; `--seed` meets the same plan again."""
    size = ("--kills", "8", "--seconds", "12", "--in-flight", "3")

    found = await _run(tmp_path / "figures.json", "--seed", str(secrets.randbelow(10**6)), *size)

    assert found["sessions"] > 0
    assert found["findings"] == []
