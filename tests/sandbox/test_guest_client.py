import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest
from pydantic import JsonValue
from tests.sandbox.guest_stand import PATIENCE_SECONDS, PlainSandbox, Sandboxed, pids, sandboxed, saying, until

from sojourn.sandbox import SandboxSpec
from sojourn.sandbox.guest.wire import LINE_LIMIT, PIECE
from sojourn.sandbox.guest_client import MORE_LIMIT, Guest, GuestError
from sojourn.types.error import SandboxError

SPEC = SandboxSpec(key="test", mounts=(), env={"PATH": os.environ["PATH"]})


@pytest.fixture
async def box(tmp_path: Path) -> AsyncGenerator[Sandboxed, None]:
    async with sandboxed(tmp_path) as box:
        yield box


async def called(sandbox: PlainSandbox, times: int = 1) -> dict[str, JsonValue]:
    """What the last of some calls gives."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        guest = await Guest.start(sandbox, SPEC)
        try:
            return [await guest.call("ping", {}) for _ in range(times)][-1]
        finally:
            await guest.close()


async def test_calls_are_answered_each_by_its_own(box: Sandboxed) -> None:
    ran = await asyncio.gather(*(box.call("run", argv=["echo", str(number)]) for number in range(20)))

    assert [each["stdout"]["text"] for each in ran] == [f"{number}\n" for number in range(20)]


async def test_an_error_of_an_op_is_an_error_of_the_call_alone(box: Sandboxed) -> None:
    with pytest.raises(GuestError) as error:
        await box.call("no_such_op")

    assert (error.value.kind, error.value.message) == ("invalid", "there is no op 'no_such_op'")
    assert box.guest.ended is None


async def test_a_guest_that_is_killed_ends_all_calls_with_the_reason(box: Sandboxed) -> None:
    calls = [asyncio.create_task(box.call("run", argv=["sleep", box.mark])) for _ in range(2)]
    await until(lambda: len(pids(box.mark)) == 2)

    box.sandbox.started[0].process.send_signal(signal.SIGKILL)

    for call in calls:
        with pytest.raises(SandboxError, match="the sandbox is gone: exit code -9"):
            await call
    assert box.guest.ended == "exit code -9"
    with pytest.raises(SandboxError, match="exit code -9"):
        await box.call("ping")


async def test_a_command_that_kills_the_guest_is_told_so(box: Sandboxed) -> None:
    with pytest.raises(SandboxError, match="exit code -9"):
        await box.call("bash", command="kill -9 $PPID; sleep 100")


async def test_close_ends_everything(box: Sandboxed) -> None:
    await box.bash("setsid sleep $MARK & nohup sleep $MARK & true")
    running = asyncio.create_task(box.call("run", argv=["sleep", box.mark]))
    await until(lambda: len(pids(box.mark)) == 3)

    await box.guest.close()
    await box.guest.close()

    with pytest.raises(SandboxError, match="it was closed"):
        await running
    assert box.guest.ended == "it was closed"
    await until(lambda: not pids(box.mark))


async def test_a_guest_that_does_not_start_says_why() -> None:
    with pytest.raises(SandboxError, match="ended at its start: exit code 7"):
        await Guest.start(PlainSandbox((sys.executable, "-I", "-c", "import sys; sys.exit(7)")), SPEC)


async def test_a_start_that_is_given_up_leaves_nothing() -> None:
    sandbox = PlainSandbox((sys.executable, "-I", "-c", "import sys; sys.stdin.read()"))
    starting = asyncio.create_task(Guest.start(sandbox, SPEC))
    await until(lambda: bool(sandbox.started))

    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    assert sandbox.started[0].process.returncode is not None


NONSENSE: Sequence[str] = (
    "print('no json', flush=True)",
    "print('[1]', flush=True)",
    "print('[' * 100_000, flush=True)",
    "print('{\"id\": 1, \"ok\": ' + '[' * 100_000, flush=True)",
    "say(id='x', ok={})",
    "say(id=1, ok=3)",
    "say(id=1, ok=[])",
    "say(id=1, error='bad')",
    "say(id=1, error={'type': 'x' * 1000, 'message': ''})",
    "say(id=1, progress=7)",
    'print(\'{"id": 1, "ok": {"x": "\\\\ud800"}}\', flush=True)',
    f"sys.stdout.write('x' * {LINE_LIMIT + 1} + chr(10)); sys.stdout.flush()",
    f"[say(id=1, more='x' * {PIECE}) for _ in range({MORE_LIMIT // PIECE + 1})]",
    "sys.stdout.buffer.write(bytes(range(256)) + b'\\n'); sys.stdout.flush()",
)


@pytest.mark.parametrize("nonsense", NONSENSE, ids=range(len(NONSENSE)))
async def test_a_guest_that_talks_nonsense_is_ended(nonsense: str) -> None:
    sandbox = saying(nonsense)

    with pytest.raises(SandboxError, match="its guest broke off"):
        await called(sandbox)

    assert sandbox.started[0].process.returncode is not None


async def test_answers_that_nobody_waits_for_are_left_out() -> None:
    strange = "say(id=99, ok={}); say(id=99, progress='x'); say(**{'new': 1}); say(); say(**{'ready': None})"

    assert await called(saying(f"{strange}; say(id=1, ok={{'a': 1}}); say(id=1, ok={{'a': 2}})")) == {"a": 1}


async def test_pieces_are_joined() -> None:
    assert await called(saying("say(id=1, more='ab'); say(id=1, more='cd'); say(id=1, ok={'n': 1})")) == {
        "n": 1,
        "data": "abcd",
    }


async def test_a_guest_that_ends_in_the_middle_of_a_line_is_gone() -> None:
    with pytest.raises(SandboxError, match="the sandbox is gone: exit code 0"):
        await called(saying("sys.stdout.write('{\"id\": 1'); sys.stdout.flush(); sys.exit()"))


async def test_a_guest_that_falls_silent_but_lives_is_ended() -> None:
    sandbox = saying("import os; os.close(1); sys.stdin.read()")

    with pytest.raises(SandboxError, match="its guest fell silent"):
        await called(sandbox)

    assert sandbox.started[0].process.returncode is not None


async def test_a_call_that_was_cancelled_does_not_take_the_next_ones_answer() -> None:
    sandbox = saying("say(id=1, progress='there')", "say(id=1, ok={'a': 'late'})", "say(id=3, ok={'a': 'mine'})")
    guest = await Guest.start(sandbox, SPEC)
    heard = asyncio.Event()
    first = asyncio.create_task(guest.call("x", {}, progress=lambda text: heard.set()))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await heard.wait()

        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first

        assert await guest.call("y", {}) == {"a": "mine"}
        await guest.close()


async def test_broken_lines_do_not_end_the_guest(box: Sandboxed) -> None:
    started = box.sandbox.started[0]

    started.stdin.write(b'no json\n[]\n{}\n{"id": "x", "op": "ping"}\n\xff\xfe\n' + b"[" * 100_000 + b"\n")
    started.stdin.write(b"x" * (LINE_LIMIT + 1) + b"\n")

    assert await box.call("ping") == {}


async def test_the_end_of_its_input_ends_the_guest_and_all_it_started(tmp_path: Path) -> None:
    box = Sandboxed(tmp_path)
    await box.start()
    try:
        await box.bash("(setsid sleep $MARK &); sleep $MARK & true")
        await until(lambda: len(pids(box.mark)) == 2)

        started = box.sandbox.started[0]
        started.stdin.close()

        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await started.wait() == "exit code 0"
        await until(lambda: not pids(box.mark))
    finally:
        await box.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look at everything")
async def test_commands_cannot_reach_the_wire_through_the_guests_files(box: Sandboxed) -> None:
    output, code = await box.bash("ls /proc/$PPID/fd")

    assert code != 0
    assert "ermission denied" in output


async def test_a_guest_without_anybody_to_listen_to_ends() -> None:
    nothing, pipe = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*PlainSandbox().argv, stdin=nothing, stdout=nothing, stderr=pipe)

    async with asyncio.timeout(PATIENCE_SECONDS):
        _, told = await process.communicate()

    assert process.returncode == 1
    assert b"is to be a pipe or a socket" in told
