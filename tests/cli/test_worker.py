import json
import signal
from pathlib import Path
from typing import Any

import pytest

TOOLS = """
from sojourn.activities import tool

@tool
async def shout(text: str) -> str:
    "Shout."
    return text.upper()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_worker_serves_and_stops_in_order(
    start: Any, sojourn: Any, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "my_tools.py").write_text(TOOLS)
    queue = f"test-cli-{number.name}"
    async with start("worker", "--tools", "my_tools", "--task-queue", queue, "--json") as process:
        served = json.loads(await process.stdout.readline())
        said = await sojourn("chat", "--task-queue", queue, stdin="hi\n")
        process.send_signal(number)
        await process.communicate()

    assert served["tools"] == ["shout"]
    assert "You said: hi" in said.out
    assert process.returncode == 0


async def test_worker_without_its_module_is_refused(sojourn: Any) -> None:
    ended = await sojourn("worker", "--tools", "no_such_tools", "--json")

    assert ended.code == 2
    assert "no_such_tools" in ended.error["message"]


async def test_up_keeps_sessions_until_the_next_start(start: Any, sojourn: Any, tmp_path: Path) -> None:
    arguments = ("up", "--data", "kept", "--port", "0", "--ui-port", "0", "--json")
    mine = {"SOJOURN_TASK_QUEUE": "sojourn"}
    async with start(*arguments) as process:
        first = json.loads(await process.stdout.readline())
        session = (await sojourn("chat", "--json", stdin="hi\n", TEMPORAL_ADDRESS=first["address"], **mine)).lines
        taken = await sojourn("up", "--data", "kept", "--port", "0", "--ui-port", "0")
        process.send_signal(signal.SIGINT)
        await process.communicate()

    assert process.returncode == 0
    assert taken.code == 4
    assert session[-1]["type"] == "session.status_idle"

    async with start(*arguments) as process:
        second = json.loads(await process.stdout.readline())
        address = {"TEMPORAL_ADDRESS": second["address"], **mine}
        (found,) = (await sojourn("sessions", "list", "--json", **address)).document["data"]
        again = await sojourn("chat", found["id"], stdin="and again\n", **address)
        process.send_signal(signal.SIGTERM)
        await process.communicate()

    assert process.returncode == 0
    assert again.out.splitlines() == ["you: hi", "You said: hi", "you: and again", "You said: and again"]
