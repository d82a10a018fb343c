import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from tests.chaos.shell import command, key
from tests.chaos.stray import Process, left_behind, left_lying, left_running, left_stored, sandboxed

OVER, GOES_ON = "chaos--over-1", "chaos--goes-on-2"


def test_what_runs_for_a_session_that_is_over_is_found() -> None:
    processes = [Process(1, "bash", OVER), Process(2, "bash", GOES_ON), Process(3, "sleep 1")]

    found = list(left_running(processes, {OVER}))

    assert found == [f"process 1 ('bash') still runs in {OVER}, whose session is over"]


def test_the_workspace_of_a_session_that_is_over_is_found() -> None:
    found = list(left_lying([OVER, GOES_ON], {OVER}))

    assert found == [f"the workspace {OVER} is still there, and its session is over"]


def test_what_is_stored_of_a_deleted_session_is_found() -> None:
    found = list(left_stored(["sessions/chaos-1/a.tar.gz", "sessions/chaos-2/a.tar.gz"], ["chaos-1"]))

    assert found == ["sessions/chaos-1/a.tar.gz is still in the store, and its session was deleted"]


def test_whatever_runs_when_all_workers_have_ended_is_found() -> None:
    found = list(left_behind([Process(3, "sleep 600.0001234567")]))

    assert found == ["process 3 ('sleep 600.0001234567') of a sandbox still runs, and every worker has ended"]
    assert not list(left_behind([]))


async def test_a_command_of_the_campaign_is_found_by_its_marker(tmp_path: Path, eventually: Any) -> None:
    marker = f"{os.getpid():07d}"
    text = command(key(1), seconds=60, left=True, marker=marker)
    shell = await asyncio.create_subprocess_exec("bash", "-c", text, cwd=tmp_path, start_new_session=True)

    async def both() -> bool:
        return len(sandboxed(tmp_path, marker)) == 2

    try:
        await eventually(both, "the command, and what it leaves behind")
        found, other = sandboxed(tmp_path, marker), sandboxed(tmp_path, "x" * 7)
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        await shell.wait()

    assert sorted(each.line for each in found) == [f"sleep 60.000{marker}", f"sleep 600.000{marker}"]
    assert other == []
    assert (tmp_path / "ledger").read_text() == f"{key(1)}\n"
