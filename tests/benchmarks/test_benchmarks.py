import asyncio
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None and not os.environ.get("CI"), reason="no bubblewrap")
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["turns", "gateway", pytest.param("sandbox", marks=bubblewrap)])
async def test_benchmark_runs_and_writes_both_sides(tmp_path: Path, name: str) -> None:
    """Only that it runs: no time is asserted."""
    output = tmp_path / "latest.json"
    command = (str(BENCHMARKS / "run.py"), "--smoke", "--only", name, "--output", str(output))
    child = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        said, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()

    assert child.returncode == 0, said.decode()
    (table,) = json.loads(output.read_text())["tables"]
    assert table["name"] == name
    assert all(row["figures"] for row in table["rows"])
