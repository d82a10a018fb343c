import json
import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sojourn.client import connect_client
from sojourn.types import ServerUnavailableError

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


@pytest.mark.parametrize(("sandbox", "told"), [("none", "sandbox: none"), ("local", "WHICH PROTECTS NOTHING")])
async def test_worker_says_which_sandbox_it_has(start: Any, tmp_path: Path, sandbox: str, told: str) -> None:
    async with start("worker", "--sandbox", sandbox, "--task-queue", f"test-cli-{sandbox}") as process:
        await process.stdout.readline()
        line = (await process.stdout.readline()).decode()
        process.send_signal(signal.SIGTERM)
        await process.communicate()

    assert told in line
    assert (tmp_path / "workspaces").exists() == (sandbox == "local")


async def test_worker_with_a_sandbox_that_there_is_not_is_refused(sojourn: Any) -> None:
    ended = await sojourn("worker", "--sandbox", "sand", "--json")

    assert ended.code != 0
    assert "'sand'" in ended.error["message"]


async def test_worker_without_its_module_is_refused(sojourn: Any) -> None:
    ended = await sojourn("worker", "--tools", "no_such_tools", "--json")

    assert ended.code == 2
    assert "no_such_tools" in ended.error["message"]


async def test_up_keeps_sessions_until_the_next_start(
    start: Any, sojourn: Any, environment: dict[str, str], tmp_path: Path
) -> None:
    del environment["SOJOURN_STORE_URL"]
    arguments = ("up", "--data", "kept", "--port", "0", "--ui-port", "0", "--gateway-port", "0", "--json")
    mine = {"SOJOURN_TASK_QUEUE": "sojourn"}
    async with start(*arguments) as process:
        first = json.loads(await process.stdout.readline())
        session = (await sojourn("chat", "--json", stdin="hi\n", TEMPORAL_ADDRESS=first["address"], **mine)).lines
        taken = await sojourn("up", "--data", "kept", "--port", "0", "--ui-port", "0", "--gateway-port", "0")
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


async def test_server_of_up_is_kept_from_the_terminals_ctrl_c(start: Any) -> None:
    """A Ctrl-C reaches the whole group; the server must outlive the worker, which is finishing its tools."""
    async with start("up", "--port", "0", "--ui-port", "0", "--gateway-port", "0", "--json") as process:
        address = json.loads(await process.stdout.readline())["address"]
        os.killpg(process.pid, signal.SIGSTOP)
        answers = await connect_client(address)
        os.killpg(process.pid, signal.SIGCONT)
        os.killpg(process.pid, signal.SIGINT)
        await process.communicate()

    assert answers.namespace == "default"
    assert process.returncode == 0
    with pytest.raises(ServerUnavailableError):
        await connect_client(address, timeout=timedelta(seconds=1))
