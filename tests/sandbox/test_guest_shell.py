import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.sandbox.guest_stand import Sandboxed, pids, sandboxed, until

from sojourn.sandbox.guest_client import GuestError

shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)


@pytest.fixture
async def box(tmp_path: Path) -> AsyncGenerator[Sandboxed, None]:
    async with sandboxed(tmp_path) as box:
        yield box


async def test_the_shell_keeps_its_state(box: Sandboxed) -> None:
    await box.bash(
        "mkdir sub; cd sub; x='a b'; greet() { echo \"hi $1\"; }; declare -A m; m[k]=v; alias twice='echo 2'"
    )

    assert await box.bash('echo "$x ${m[k]}"; greet you; basename "$PWD"; twice') == ("a b v\nhi you\nsub\n2\n", 0)


async def test_it_starts_in_the_workspace(box: Sandboxed) -> None:
    assert await box.bash("pwd -P") == (f"{box.workspace.resolve()}\n", 0)


async def test_output_and_errors_come_in_order(box: Sandboxed) -> None:
    assert await box.bash("echo 1; echo 2 >&2; echo 3; printf 4") == ("1\n2\n3\n4", 0)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("false", 1),
        ("(exit 7)", 7),
        ("no_such_command", 127),
        ("echo 'unclosed", 2),
        ("if then", 2),
        ("echo $(", 2),
        ("cat <<EOF\nno end", 0),
        ("cat", 0),
        ("read line", 1),
        ("break", 0),
        ("return 3", None),
        ("# nothing", 0),
        ("", 0),
        ("-x", 127),
        ("echo a\\", 0),
        ("exec 3>&1; exec >/dev/null; exec >&3", 0),
        ("exec </etc/passwd", 0),
        ("set -x; set -v; set -e; set -u", 0),
        ("trap 'echo left' EXIT; trap : DEBUG", 0),
    ],
)
async def test_whatever_the_command_the_next_one_works(box: Sandboxed, command: str, code: int | None) -> None:
    _, exit_code = await box.bash(command)

    assert code is None or exit_code == code
    assert await box.bash("echo next") == ("next\n", 0)


@pytest.mark.parametrize(
    ("command", "code"),
    [("exit 3", 3), ("set -e; false; echo no", 1), ("exec sh -c 'exit 4'", 4), ("kill -9 $$", -9), ("echo a; exit", 0)],
)
async def test_a_command_that_ends_the_shell_says_so_and_the_next_has_a_new_one(
    box: Sandboxed, command: str, code: int
) -> None:
    await box.bash("x=1")

    ran = await box.call("bash", command=command)

    assert (ran["ended"], ran["exit_code"]) == ("exited", code)
    assert await box.bash('echo "[$x]"') == ("[]\n", 0)


async def test_a_heredoc_and_many_lines(box: Sandboxed) -> None:
    assert await box.bash("cat <<'EOF'\n$x 'quoted'\nEOF\nfor i in 1 2; do\n echo $i\ndone") == (
        "$x 'quoted'\n1\n2\n",
        0,
    )


async def test_a_command_of_a_megabyte(box: Sandboxed) -> None:
    text = "0123456789abcde\n" * 65536

    assert await box.bash(f"wc -c <<'EOF'\n{text}EOF") == (f"{len(text)}\n", 0)


@pytest.mark.parametrize(("command", "reason"), [("a\0b", "NUL"), ("\ud800", "?")])
async def test_a_command_that_no_shell_can_take_is_refused(box: Sandboxed, command: str, reason: str) -> None:
    if reason == "?":
        # Half a character is a question mark before it reaches the guest.
        assert (await box.bash(f"echo {command}"))[0] == "?\n"
        return
    with pytest.raises(GuestError, match=reason):
        await box.call("bash", command=command)


async def test_a_background_process_does_not_hold_up_the_call(box: Sandboxed) -> None:
    assert await box.bash("sleep $MARK & echo started") == ("started\n", 0)
    assert await box.bash("(setsid sleep $MARK &) ; echo again") == ("again\n", 0)


async def test_what_a_background_process_writes_between_calls_is_in_the_next(box: Sandboxed) -> None:
    await box.bash(f"(echo from behind; touch {box.workspace}/done) &")
    await until((box.workspace / "done").exists)

    assert (await box.bash("echo next"))[0] == "from behind\nnext\n"


async def test_a_background_process_that_never_stops_writing_does_not_hold_up_the_call(box: Sandboxed) -> None:
    await box.bash("yes & flood=$!")

    output, code = await box.bash("kill $flood; wait $flood 2>/dev/null; true")

    assert code == 0
    assert set(output.split()) <= {"y"}
    assert (await box.bash("true"))[1] == 0


async def test_calls_at_the_same_time_run_one_after_the_other(box: Sandboxed) -> None:
    commands = [f"echo a{i}; n=$((n+1)); sleep 0.01; echo b{i}" for i in range(5)]

    ran = await asyncio.gather(*(box.bash(command) for command in commands))

    assert [output for output, _ in ran] == [f"a{i}\nb{i}\n" for i in range(5)]
    assert (await box.bash("echo $n"))[0] == "5\n"


async def test_a_command_out_of_time_takes_the_shell_along(box: Sandboxed) -> None:
    await box.bash("x=1; sleep $MARK &")

    ran = await box.call("bash", command="echo before; sleep $MARK", timeout_seconds=0.5)

    assert (ran["ended"], ran["exit_code"], ran["output"]["text"]) == ("timed_out", None, "before\n")
    await until_gone(box.mark)
    assert await box.bash('echo "[$x]"') == ("[]\n", 0)


@pytest.mark.parametrize("seconds", [0, -1, 601, "x", True])
async def test_a_time_limit_out_of_bounds_is_refused(box: Sandboxed, seconds: object) -> None:
    with pytest.raises(GuestError, match="timeout_seconds"):
        await box.call("bash", command="true", timeout_seconds=seconds)


async def test_restart_gives_a_new_shell_and_ends_what_the_old_one_ran(box: Sandboxed) -> None:
    await box.bash("x=1; cd /; setsid sleep $MARK &")

    await box.call("restart")

    assert await box.bash('echo "[$x]"; pwd -P') == (f"[]\n{box.workspace.resolve()}\n", 0)
    await until_gone(box.mark)


async def test_restart_does_not_wait_for_the_command_that_runs(box: Sandboxed) -> None:
    running = asyncio.create_task(box.call("bash", command="sleep $MARK"))
    await until_there(box.mark)

    await box.call("restart")

    assert (await running)["ended"] == "restarted"
    assert await box.bash("echo new") == ("new\n", 0)


TREE = "(setsid sh -c 'setsid sleep $MARK & sleep $MARK' &); nohup sleep $MARK & trap '' TERM; sleep $MARK"
"""Processes in other sessions, orphans too."""


async def test_a_cancelled_call_leaves_no_process(box: Sandboxed) -> None:
    running = asyncio.create_task(box.call("bash", command=TREE))
    await until_there(box.mark, count=4)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    await until_gone(box.mark)
    ran = await box.call("bash", command="echo next")
    assert (ran["output"]["text"], ran["renewed"]) == ("next\n", True)
    assert (await box.call("bash", command="true"))["renewed"] is False


async def test_a_cancelled_call_that_waits_for_its_turn_never_runs(box: Sandboxed) -> None:
    first = asyncio.create_task(box.call("bash", command="x=kept; sleep $MARK & wait"))
    await until_there(box.mark)
    second = asyncio.create_task(box.call("bash", command=f"touch {box.workspace}/ran"))
    await box.call("ping")

    second.cancel()
    await box.call("ping")
    for pid in pids(box.mark):
        await box.call("run", argv=["kill", str(pid)])

    assert (await first)["ended"] is None
    assert (await box.bash("echo $x"))[0] == "kept\n"
    assert not (box.workspace / "ran").exists()


async def test_a_process_that_multiplies_is_ended_with_the_call(box: Sandboxed) -> None:
    bomb = "f() { sleep $MARK & if [ $1 -gt 0 ]; then f $(($1-1)) & f $(($1-1)) & fi; wait; }; f 5"
    running = asyncio.create_task(box.call("bash", command=bomb))
    await until_there(box.mark, count=3)

    running.cancel()

    await until_gone(box.mark)


async def test_progress_shows_the_end_of_the_output(box: Sandboxed) -> None:
    shown: list[str] = []
    command = f"echo first; until [ -e {box.workspace}/go ]; do sleep 0.05; done; echo last"
    running = asyncio.create_task(box.call("bash", command=command, progress=shown.append))

    await until(lambda: "first\n" in shown)
    (box.workspace / "go").touch()

    assert (await running)["output"]["text"] == "first\nlast\n"


async def test_progress_is_short_however_much_there_is(box: Sandboxed) -> None:
    shown: list[str] = []
    command = f"head -c 300000 /dev/zero | tr '\\0' x; until [ -e {box.workspace}/go ]; do sleep 0.05; done"
    running = asyncio.create_task(box.call("bash", command=command, progress=shown.append))

    await until(lambda: bool(shown) and len(shown[-1]) == 4096)
    (box.workspace / "go").touch()
    await running

    assert max(map(len, shown)) == 4096


@shared
@given(data=st.binary(max_size=2000))
async def test_any_bytes_come_through(box: Sandboxed, data: bytes) -> None:
    (box.workspace / "data").write_bytes(data)

    output, code = await box.bash("cat data")

    assert (output, code) == (data.decode("utf-8", "replace"), 0)


@shared
@given(text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=500))
async def test_any_text_can_stand_in_a_command(box: Sandboxed, text: str) -> None:
    quoted = "'" + text.replace("'", "'\\''") + "'"

    assert await box.bash(f"printf %s {quoted}") == (text, 0)


@shared
@given(text=st.text(st.characters(exclude_categories=["Cs"], max_codepoint=0x24F), max_size=80))
async def test_no_command_breaks_the_shell_for_the_next(box: Sandboxed, text: str) -> None:
    """Nonsense, inside a function that is never called, so that nothing comes of what it may happen to mean."""
    if "\0" in text or "}" in text or "exit" in text:
        return
    await box.call("bash", command="f() {\n" + text + "\n}", timeout_seconds=60)

    assert await box.bash("echo next") == ("next\n", 0)


@settings(parent=shared, max_examples=12)
@given(lines=st.integers(1, 40_000), width=st.integers(1, 12))
async def test_long_output_goes_to_a_file_with_all_of_it(box: Sandboxed, lines: int, width: int) -> None:
    text = "".join(f"{number:0{width}}\n" for number in range(1, lines + 1))

    ran = await box.call("bash", command=f"seq -f %0{width}g 1 {lines}", name="sevt_1")

    output = ran["output"]
    assert output["size_bytes"] == len(text)
    assert output["truncated"] == (len(text) > 100_000)
    assert output["text"] == text[-100_000:]
    if output["truncated"]:
        assert output["path"] == "/workspace/.sojourn/output/sevt_1.txt"
        assert (box.workspace / ".sojourn/output/sevt_1.txt").read_text() == text
        assert (box.workspace / ".sojourn/.gitignore").read_text() == "*\n"
    else:
        assert output["path"] is None


async def test_characters_count_not_bytes(box: Sandboxed) -> None:
    ran = await box.call("bash", command="yes ä | head -n 49999 | tr -d '\\n'; printf %50000s")

    assert len(ran["output"]["text"]) == 99_999
    assert ran["output"]["truncated"] is False


async def test_a_file_for_output_is_not_laid_where_a_link_leads(box: Sandboxed) -> None:
    (box.workspace / ".sojourn/output").mkdir(parents=True)
    (box.workspace / ".sojourn/output/a.txt").symlink_to(box.outputs / "victim")

    ran = await box.call("bash", command="head -c 200000 /dev/zero", name="a")

    assert ran["output"]["path"] is None
    assert not (box.outputs / "victim").exists()


async def test_a_name_for_a_file_cannot_lead_elsewhere(box: Sandboxed) -> None:
    ran = await box.call("bash", command="head -c 200000 /dev/zero", name="../../x")

    assert ran["output"]["path"].startswith("/workspace/.sojourn/output/")
    assert len(list((box.workspace / ".sojourn/output").iterdir())) == 1


async def test_commands_see_neither_the_wire_nor_our_variables(box: Sandboxed) -> None:
    (box.workspace / "show").write_text("ls -l /proc/self/fd; env; cat /proc/$PPID/environ | tr '\\0' '\\n'")

    output, _ = await box.bash("bash show")

    assert "SOJOURN_" not in output
    assert "socket:" not in output
    assert output.count("pipe:") == 2


async def until_there(mark: str, *, count: int = 1) -> None:
    await until(lambda: len(pids(mark)) >= count)


async def until_gone(mark: str) -> None:
    await until(lambda: not pids(mark))
