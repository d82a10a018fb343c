"""`sojourn demo coding` as people run it, and that it does not say yes where it should say no."""

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from sojourn.cli.coding_check import TOOLS, Evidence, check
from sojourn.testing.coding import PATCH, REFUSED_HOST
from sojourn.testing.coding_proof import Proof
from sojourn.testing.coding_site import SITE_TEXT, coding_site
from sojourn.testing.protocol import Reply, Text, ToolCall
from sojourn.testing.provider import FakeProvider, Fault
from sojourn.types import (
    AgentToolResult,
    AgentToolUse,
    EndTurn,
    EventId,
    InvalidRequestError,
    ModelRequestEnd,
    ModelRequestStart,
    SessionEvent,
    SessionIdle,
    TextBlock,
    UserMessage,
    UserToolConfirmation,
)
from sojourn.types.event import SessionRunning, SessionUsage, ToolOutcome
from sojourn.types.usage import Usage

PATIENCE_SECONDS = 150
"""The demonstration takes 15 s; much longer on a busy machine."""

bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None and not os.environ.get("CI"), reason="no bubblewrap")

GOOD = Proof(subjects=("repair", "first"), uncommitted="", tests="", patched="")
COMMIT = "git add -A && git commit -q -m x"


def used(
    number: int, name: str, command: str = "", *, text: str = "done", outcome: ToolOutcome = "ok"
) -> list[SessionEvent]:
    use = EventId(f"call_{number}")
    return [
        AgentToolUse(id=use, name=name, input={"command": command} if command else {}, evaluated_permission="allow"),
        AgentToolResult(
            id=EventId(f"result_{number}"),
            tool_use_id=use,
            content=(TextBlock(text=text),),
            outcome=outcome,
            is_error=outcome != "ok",
        ),
    ]


def a_log() -> list[SessionEvent]:
    """What a good demonstration leaves, in short."""
    plain = sorted(TOOLS - {"bash", "web_search", "web_fetch"})
    calls = [
        used(0, "bash", "python3 -m unittest", text="FAILED (failures=1)", outcome="error"),
        used(1, "web_search", text="unicodedata"),
        used(2, "web_fetch", text=SITE_TEXT),
        used(3, "bash", "for n in $(seq 100); do true; done", outcome="unknown"),
        used(4, "bash", "python3 -m unittest", text="\nOK"),
        used(5, "bash", "git push origin main", outcome="denied"),
        used(6, "bash", f"fetch {REFUSED_HOST}", text="HTTP Error 403", outcome="error"),
        used(7, "bash", COMMIT),
        *(used(number, name) for number, name in enumerate(plain, start=8)),
    ]
    return numbered(
        [
            UserMessage.text("go", id="go"),
            SessionRunning(id=EventId("run")),
            ModelRequestStart(id=EventId("step")),
            *(event for call in calls for event in call),
            ModelRequestEnd(id=EventId("stepped"), model_request_start_id=EventId("step")),
            UserToolConfirmation(id=EventId("yes"), tool_use_id=EventId("call_7"), result="allow"),
            SessionUsage(id=EventId("usage"), usage=Usage(), turn=Usage()),
            SessionIdle(id=EventId("idle"), stop_reason=EndTurn()),
        ]
    )


def numbered(events: list[SessionEvent]) -> list[SessionEvent]:
    return [event.model_copy(update={"seq": seq}) for seq, event in enumerate(events, start=1)]


def without(*ids: str) -> Evidence:
    return Evidence(numbered([event for event in a_log() if event.id not in ids]), GOOD)


def changed(id: str, /, **update: object) -> Evidence:
    return Evidence([event.model_copy(update=update) if event.id == id else event for event in a_log()], GOOD)


def proved(**update: object) -> Evidence:
    return Evidence(a_log(), replace(GOOD, **update))  # type: ignore[arg-type]


def broken(evidence: Evidence) -> set[str]:
    return {each.promise for each in check(evidence) if each.faults}


TESTS = "the tests pass in the session's repository"
COMMITTED = "the commit is there, with all that was changed"
PATCHED = "the patch from the session's files repairs the repository as it was"
ASKED = "no commit was made without a yes"
WHOLE = "the log is whole, and every call has exactly one result"
USED = "every built-in tool was used"
SEEN = "the test was seen to fail, and to pass"
READ = "the page was found by searching, and read"
KILLED = "the command whose worker was killed is told as unknown, and no other"
PUSHED = "the push was denied"
REFUSED = "the sandbox's proxy refused the host that is not allowed"

BREAKAGES: list[tuple[str, Callable[[], Evidence]]] = [
    (TESTS, lambda: proved(tests="FAILED (failures=1)")),
    (COMMITTED, lambda: proved(subjects=("first",))),
    (COMMITTED, lambda: proved(subjects=())),
    (COMMITTED, lambda: proved(uncommitted=" M slug.py")),
    (PATCHED, lambda: proved(patched="Patch is empty.")),
    (ASKED, lambda: without("yes")),
    (ASKED, lambda: changed("yes", result="deny")),
    (WHOLE, lambda: without("result_9")),
    (WHOLE, lambda: changed("result_9", tool_use_id="call_8")),
    (WHOLE, lambda: Evidence(a_log()[1:], GOOD)),
    *[
        (USED, lambda number=number: changed(f"result_{number}", outcome="error"))
        for number in range(8, 8 + len(TOOLS) - 3)
    ],
    (USED, lambda: changed("result_2", outcome="error")),
    (SEEN, lambda: changed("result_0", content=(TextBlock(text="\nOK"),))),
    (SEEN, lambda: changed("result_4", content=(TextBlock(text="FAILED (failures=1)"),))),
    (READ, lambda: changed("result_1", content=(TextBlock(text="No results."),))),
    (READ, lambda: changed("result_2", content=(TextBlock(text="not found"),))),
    (KILLED, lambda: changed("result_3", outcome="ok")),
    (KILLED, lambda: changed("result_9", outcome="unknown")),
    (PUSHED, lambda: changed("result_5", outcome="ok")),
    (REFUSED, lambda: changed("result_6", content=(TextBlock(text="200"),))),
    (REFUSED, lambda: without("call_6", "result_6")),
]


def test_a_good_demonstration_keeps_every_promise() -> None:
    assert broken(Evidence(a_log(), GOOD)) == set()


@pytest.mark.parametrize(("promise", "spoil"), BREAKAGES)
def test_what_is_spoilt_breaks_its_promise(promise: str, spoil: Callable[[], Evidence]) -> None:
    assert promise in broken(spoil())


def test_every_promise_can_be_broken() -> None:
    assert {promise for promise, _ in BREAKAGES} == {each.promise for each in check(Evidence(a_log(), GOOD))}


@pytest.mark.parametrize("spoil", [lambda: proved(tests="FAILED"), lambda: proved(subjects=("first",))])
def test_another_model_is_held_to_the_repair_too(spoil: Callable[[], Evidence]) -> None:
    assert broken(replace(spoil(), scripted=False))
    assert not broken(replace(without("call_5", "result_5"), scripted=False))


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path is short enough for the sockets in it."""
    with tempfile.TemporaryDirectory(prefix="coding-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def found(folder: Path, pattern: str) -> list[Path]:
    return list(folder.glob(pattern))


@asynccontextmanager
async def demonstration(folder: Path, *arguments: str, **environment: str) -> AsyncGenerator["Run", None]:
    """`sojourn demo coding` as a process; what it leaves behind is killed."""
    scratch = folder / "tmp"
    scratch.mkdir()
    main = (sys.executable, "-c", "from sojourn.cli import main; main()")
    process = await asyncio.create_subprocess_exec(
        *(*main, "demo", "coding", "--keep", str(folder / "kept"), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "TMPDIR": str(scratch), **environment},
    )
    run = Run(process, folder)
    try:
        yield run
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        for pid in await run.survivors():
            os.kill(pid, signal.SIGKILL)


class Run:
    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self.process = process
        self.lines: list[str] = []
        self._folder = folder

    async def see(self, wanted: str) -> None:
        """Read on to a line with these words."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self.lines or wanted not in self.lines[-1]:
                line = (await self.process.stdout.readline()).decode()
                assert line, "\n".join(self.lines)
                self.lines.append(line.rstrip())

    async def end(self) -> int:
        """Read on to the end; the exit code."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            rest = (await self.process.stdout.read()).decode()
            self.lines += rest.splitlines()
            return await self.process.wait()

    async def survivors(self) -> list[int]:
        """Processes of this run that are still there: they have its folder among their arguments or their variables."""
        return await asyncio.to_thread(self._survivors)

    def _survivors(self) -> list[int]:
        own = {os.getpid(), self.process.pid}
        return [
            int(path.parent.name)
            for path in Path("/proc").glob("[0-9]*/environ")
            if self._is_ours(path) and int(path.parent.name) not in own
        ]

    def _is_ours(self, path: Path) -> bool:
        try:
            told = path.read_bytes() + path.with_name("cmdline").read_bytes()
        except OSError:
            return False
        return str(self._folder).encode() in told

    @property
    def left(self) -> list[str]:
        """What is left in the folder for temporary files."""
        return [path.name for path in (self._folder / "tmp").iterdir()]


@bubblewrap
@pytest.mark.timeout(2 * PATIENCE_SECONDS)
async def test_demo_repairs_the_program_with_every_tool(short: Path) -> None:
    async with demonstration(short) as run:
        code = await run.end()
        survivors = await run.survivors()

    output = "\n".join(run.lines)
    assert code == 0, output
    assert survivors == []
    assert run.left == []
    assert "✗" not in output
    assert output.count("✓") == len(check(Evidence(a_log(), GOOD)))
    for words in ("kill -9", "the session has gone on by itself", "commit: Keep letters", "+import unicodedata"):
        assert words in output


@bubblewrap
@pytest.mark.timeout(2 * PATIENCE_SECONDS)
async def test_demo_fails_if_the_repair_does_not_hold(short: Path) -> None:
    """Somebody breaks the program again, behind the agent's back."""
    async with demonstration(short) as run:
        await run.see("5  It commits")
        (program,) = found(short, "kept/workspaces/*/*/*/workspace/textkit/textkit/slug.py")
        program.write_text(program.read_text().replace("plain.lower()", "title.lower()"))
        code = await run.end()

    assert code == 1
    assert next(line.strip() for line in run.lines if "✗" in line) == f"✗ {TESTS}"
    assert "checks failed" in run.lines[-2]


@bubblewrap
@pytest.mark.timeout(2 * PATIENCE_SECONDS)
@pytest.mark.thorough
async def test_demo_runs_with_another_model(short: Path) -> None:
    """It needs four calls, and says nothing of the rest."""
    repair = "title.lower().translate({232: 101, 251: 117, 233: 101})"
    commands = (
        f"sed -i 's/title.lower()/{repair}/' textkit/slug.py && python3 -B -m unittest",
        "git commit -qam fix",
        f"git format-patch -1 --stdout > {PATCH}",
    )
    calls = [Reply([ToolCall("bash", json.dumps({"command": command}))]) for command in commands]
    done = Reply([Text("Done.")])
    answers = [done, calls[0], done, done, done, calls[1], calls[2], done]
    async with (
        FakeProvider(*answers) as provider,
        demonstration(
            short, "--model", "openai:fake", OPENAI_BASE_URL=f"{provider.url}/v1", OPENAI_API_KEY="none"
        ) as run,
    ):
        code = await run.end()

    assert code == 0, "\n".join(run.lines)
    assert any("commit: fix" in line for line in run.lines)


@bubblewrap
@pytest.mark.timeout(2 * PATIENCE_SECONDS)
async def test_demo_tells_what_is_wrong_with_the_model(short: Path) -> None:
    async with (
        FakeProvider(Fault(401, "no such key")) as provider,
        demonstration(
            short, "--model", "openai:fake", OPENAI_BASE_URL=f"{provider.url}/v1", OPENAI_API_KEY="none"
        ) as run,
    ):
        code = await run.end()

    assert code == 1
    assert "no such key" in "\n".join(run.lines)


@bubblewrap
@pytest.mark.timeout(2 * PATIENCE_SECONDS)
@pytest.mark.parametrize("moment", ["session  sesn_", "progress pass"])
async def test_demo_leaves_nothing_behind_when_it_is_stopped(short: Path, moment: str) -> None:
    async with demonstration(short) as run:
        await run.see(moment)
        run.process.send_signal(signal.SIGTERM)
        code = await run.end()
        survivors = await run.survivors()

    assert code == 128 + signal.SIGTERM
    assert survivors == []
    assert run.left == []


async def test_demo_without_a_sandbox_says_the_way_out(short: Path) -> None:
    """No `bwrap` is found on the path."""
    async with demonstration(short, PATH=str(short)) as run:
        code = await run.end()

    assert code == 1
    output = "\n".join(run.lines)
    assert "apt-get install bubblewrap" in output
    assert "starting" not in output


async def test_demo_takes_no_sandbox_that_protects_nothing(short: Path) -> None:
    async with demonstration(short, "--sandbox", "local") as run:
        code = await run.end()

    assert code == 1
    assert "protects nothing" in "\n".join(run.lines)


def test_site_without_git_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(InvalidRequestError, match="apt-get install git"), coding_site(tmp_path):
        pass
