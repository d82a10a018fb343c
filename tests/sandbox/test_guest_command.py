import asyncio
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.sandbox.guest_stand import Sandboxed, pids, sandboxed, until

from sojourn.sandbox.guest_client import GuestError

shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)


@pytest.fixture
async def box(tmp_path: Path) -> AsyncGenerator[Sandboxed, None]:
    async with sandboxed(tmp_path) as box:
        yield box


async def test_a_program_runs_once_with_its_own_output(box: Sandboxed) -> None:
    ran = await box.call("run", argv=["sh", "-c", "echo out; echo err >&2; exit 3"])

    assert (ran["stdout"]["text"], ran["stderr"]["text"], ran["exit_code"]) == ("out\n", "err\n", 3)
    assert ran["timed_out"] is False


@shared
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
async def test_a_program_reads_what_it_is_given(box: Sandboxed, text: str) -> None:
    ran = await box.call("run", argv=["cat"], stdin=text)

    assert ran["stdout"]["text"] == text


async def test_a_program_without_input_reads_nothing(box: Sandboxed) -> None:
    assert (await box.call("run", argv=["cat"]))["stdout"]["text"] == ""


async def test_folder_and_variables_are_those_asked_for(box: Sandboxed) -> None:
    ran = await box.call("run", argv=["sh", "-c", "pwd -P; echo $X"], cwd="/mnt/session/outputs", env={"X": "y"})

    assert ran["stdout"]["text"] == f"{box.outputs.resolve()}\ny\n"


@pytest.mark.parametrize("argv", [["no-such-program"], [], ["/"], ["a\0b"], [""]])
async def test_what_does_not_start_says_so(box: Sandboxed, argv: list[str]) -> None:
    with pytest.raises(GuestError, match="does not start") as error:
        await box.call("run", argv=argv)

    assert error.value.kind == "failed"
    assert await box.call("ping") == {}


async def test_a_program_out_of_time_is_killed_with_what_it_started(box: Sandboxed) -> None:
    command = "echo before; setsid sleep $MARK & sleep $MARK"

    ran = await box.call("run", argv=["sh", "-c", command], timeout_seconds=0.5)

    assert (ran["timed_out"], ran["exit_code"], ran["stdout"]["text"]) == (True, -9, "before\n")
    await until(lambda: not pids(box.mark))


async def test_what_a_program_leaves_behind_is_ended(box: Sandboxed) -> None:
    ran = await box.call("run", argv=["sh", "-c", "sleep $MARK & echo done"])

    assert ran["stdout"]["text"] == "done\n"
    await until(lambda: not pids(box.mark))


async def test_a_cancelled_program_leaves_no_process(box: Sandboxed) -> None:
    command = "(setsid sleep $MARK &); trap '' TERM INT; sleep $MARK"
    running = asyncio.create_task(box.call("run", argv=["sh", "-c", command]))
    await until(lambda: len(pids(box.mark)) == 2)

    running.cancel()

    await until(lambda: not pids(box.mark))


async def test_programs_run_at_the_same_time(box: Sandboxed) -> None:
    """Each waits for the other: one after the other they would never end."""
    wait = "touch $0; until [ -e $1 ]; do sleep 0.01; done"
    argv = [["sh", "-c", wait, one, other] for one, other in (("a", "b"), ("b", "a"))]

    ran = await asyncio.gather(*(box.call("run", argv=each) for each in argv), box.bash("true"))

    assert [each["exit_code"] for each in ran[:2] if isinstance(each, dict)] == [0, 0]


async def test_long_output_goes_to_a_file_for_each(box: Sandboxed) -> None:
    command = "head -c 200000 /dev/zero | tr '\\0' o; head -c 150000 /dev/zero | tr '\\0' e >&2"

    ran = await box.call("run", argv=["sh", "-c", command], name="sevt_1")

    assert (box.workspace / ".sojourn/output/sevt_1.stdout.txt").read_text() == "o" * 200_000
    assert (box.workspace / ".sojourn/output/sevt_1.stderr.txt").read_text() == "e" * 150_000
    assert (ran["stdout"]["size_bytes"], ran["stderr"]["size_bytes"]) == (200_000, 150_000)


@pytest.mark.parametrize(
    ("language", "code", "expected"),
    [
        ("python", "import sys, local\nprint(local.x, sys.stdin.read())\nsys.exit(4)", ("1 \n", 4)),
        ("sh", "echo $((1+1)); cat; exit 5", ("2\n", 5)),
        pytest.param(
            "node",
            "console.log(require('local-package').x); process.exitCode = 6",
            ("1\n", 6),
            marks=pytest.mark.skipif(shutil.which("node") is None, reason="no node here"),
        ),
    ],
)
async def test_code_runs_in_the_workspace(box: Sandboxed, language: str, code: str, expected: tuple[str, int]) -> None:
    (box.workspace / "local.py").write_text("x = 1")
    package = box.workspace / "node_modules/local-package"
    package.mkdir(parents=True)
    (package / "index.js").write_text("exports.x = 1")

    ran = await box.call("code", language=language, code=code)

    assert (ran["stdout"]["text"], ran["exit_code"]) == expected, ran["stderr"]["text"]
    assert list((box.workspace / ".sojourn/code").iterdir()) == []


async def test_a_language_that_is_none_is_refused(box: Sandboxed) -> None:
    with pytest.raises(GuestError, match="'cobol' is not one of node, python, sh"):
        await box.call("code", language="cobol", code="x")


async def test_a_language_that_is_not_installed_is_refused(box: Sandboxed, tmp_path: Path) -> None:
    box.spec = box.with_path(tmp_path, alone=True)
    await box.close()
    await box.start()

    with pytest.raises(GuestError, match="this sandbox has no node"):
        await box.call("code", language="node", code="x")
    assert (await box.call("code", language="python", code="print(1)"))["stdout"]["text"] == "1\n"
