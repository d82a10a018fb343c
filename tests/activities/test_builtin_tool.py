import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from tests.sandbox.guest_stand import PATIENCE_SECONDS, Sandboxed, pids, sandboxed, saying, until

from sojourn.activities import ToolContext
from sojourn.activities.builtin import built_in_tools, fit
from sojourn.activities.tool import ToolFailedError
from sojourn.sandbox.guest_client import Guest
from sojourn.types.builtin import IN_WORKSPACE
from sojourn.types.content import Base64Source, DocumentBlock, ImageBlock
from sojourn.types.error import SandboxError
from sojourn.types.id import EventId, SessionId

TOOLS = built_in_tools()


class Place:
    """A workspace that is open."""

    def __init__(self, folder: Path, guest: Guest | SandboxError) -> None:
        self.folder = folder
        self._guest = guest

    async def guest(self) -> Guest:
        if isinstance(self._guest, SandboxError):
            raise self._guest
        return self._guest


class Hand:
    """Calls tools as the activity does."""

    def __init__(self, folder: Path, guest: Guest | SandboxError) -> None:
        self.shown: list[str] = []
        self.context = ToolContext(
            session_id=SessionId("sesn_1"),
            tool_use_id=EventId("sevt_1"),
            attempt=1,
            _workspace=Place(folder, guest),
            _report=self.shown.append,
        )

    async def call(self, name: str, **input: Any) -> Any:
        tool = TOOLS.get(name)
        assert tool is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await tool.function(**tool.bind(input, self.context))

    async def fails(self, name: str, **input: Any) -> str:
        with pytest.raises(ToolFailedError) as error:
            await self.call(name, **input)
        return str(error.value)


@pytest.fixture
async def box(tmp_path: Path) -> AsyncGenerator[Sandboxed, None]:
    async with sandboxed(tmp_path) as box:
        yield box


@pytest.fixture
def hand(box: Sandboxed) -> Hand:
    return Hand(box.workspace, box.guest)


def test_all_tools_of_a_workspace_are_there() -> None:
    assert set(TOOLS.names) == IN_WORKSPACE


@pytest.mark.parametrize("name", TOOLS.names)
def test_every_argument_is_described(name: str) -> None:
    tool = TOOLS.get(name)
    assert tool is not None

    assert len(tool.description) > 40
    properties = tool.input_schema["properties"]
    assert isinstance(properties, dict)
    assert [key for key, value in properties.items() if not (isinstance(value, dict) and value["description"])] == []


def test_what_may_be_repeated_is_what_changes_nothing() -> None:
    idempotent = {name for name in TOOLS.names if (tool := TOOLS.get(name)) and tool.idempotent}

    assert idempotent == {"read", "glob", "grep"}


async def test_bash_gives_the_output(hand: Hand) -> None:
    assert await hand.call("bash", command="echo a; echo b >&2") == "a\nb"
    assert await hand.call("bash", command="true") == "[no output]"


async def test_bash_without_success_is_an_error_with_the_code_at_its_end(hand: Hand) -> None:
    assert await hand.fails("bash", command="echo wrong; (exit 3)") == "wrong\n[exit code 3]"
    assert await hand.fails("bash", command="false") == "[exit code 1]"


async def test_bash_needs_a_command(hand: Hand) -> None:
    assert await hand.fails("bash") == "bash: command is required"
    assert await hand.fails("bash", command="") == "bash: command is required"


async def test_bash_restarts(hand: Hand) -> None:
    await hand.call("bash", command="x=1")

    assert await hand.call("bash", restart=True) == "bash session restarted"
    assert await hand.call("bash", command="echo [$x]", restart=False) == "[]"


async def test_bash_says_that_the_time_was_over(hand: Hand) -> None:
    text = await hand.fails("bash", command="echo before; sleep 100", timeout_ms=300)

    assert text.startswith("before\n[timed out after 0.3 s; the shell and all it had started was killed")


async def test_bash_says_that_the_shell_has_ended(hand: Hand) -> None:
    assert "[exit code 0; the shell has ended with it" in await hand.call("bash", command="echo a; exit")
    assert "[exit code 4; the shell has ended" in await hand.fails("bash", command="exit 4")
    assert "[the shell was killed by signal 9;" in await hand.fails("bash", command="kill -9 $$")


async def test_bash_takes_more_time_than_there_is_for_all_there_is(hand: Hand) -> None:
    assert await hand.call("bash", command="echo a", timeout_ms=10**9) == "a"
    assert await hand.call("bash", command="echo a", timeout_ms=0) == "a"


async def test_an_interrupted_command_leaves_nothing_and_the_next_call_is_told(hand: Hand, box: Sandboxed) -> None:
    running = asyncio.create_task(hand.call("bash", command="x=1; setsid sleep $MARK & sleep $MARK"))
    await until(lambda: len(pids(box.mark)) == 2)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    await until(lambda: not pids(box.mark))
    text = await hand.call("bash", command="echo [$x]")
    assert text.startswith("[the shell of before was ended")
    assert text.endswith("\n[]")


async def test_a_running_command_shows_its_progress(hand: Hand, box: Sandboxed) -> None:
    wait = f"until [ -e {box.workspace}/go ]; do sleep 0.05; done"
    running = asyncio.create_task(hand.call("bash", command=f"echo working; {wait}"))

    await until(lambda: "working\n" in hand.shown)
    (box.workspace / "go").touch()

    assert await running == "working"


async def test_long_output_is_its_end_and_a_file(hand: Hand, box: Sandboxed) -> None:
    text = await hand.call("bash", command="seq 1 100000")

    whole = (box.workspace / ".sojourn/output/sevt_1.txt").read_text()
    assert whole == "".join(f"{number}\n" for number in range(1, 100_001))
    note, _, shown = text.partition("\n")
    assert note.startswith(f"[output truncated: this is the end of {len(whole)} bytes; all of it is in /workspace/")
    assert note.endswith("/.sojourn/output/sevt_1.txt]")
    assert whole.endswith(shown + "\n")
    assert 99_000 < len(text) <= 100_000
    assert await hand.call("bash", command="git init -q . 2>/dev/null; git status --short 2>/dev/null") == "[no output]"


async def test_colours_of_a_terminal_are_left_out(hand: Hand) -> None:
    assert await hand.call("bash", command=r"printf '\033[1;31mred\033[0m\0.'") == "red\ufffd."


async def test_files_are_written_read_and_edited(hand: Hand) -> None:
    assert await hand.call("write", file_path="a/b.txt", content="one\nä\n") == "wrote 7 bytes to a/b.txt"
    assert await hand.call("read", file_path="/workspace/a/b.txt") == "one\nä\n"
    assert await hand.call("read", file_path="a/b.txt", view_range=[2, 2]) == "ä"
    edited = await hand.call("edit", file_path="a/b.txt", old_string="one", new_string="1")
    assert edited == "edited a/b.txt (1 replacement(s))"
    assert await hand.call("read", file_path="a/b.txt") == "1\nä\n"


async def test_nothing_is_said_in_words(hand: Hand) -> None:
    await hand.call("write", file_path="empty", content="")
    await hand.call("write", file_path="lines", content="a\n\nb")

    assert await hand.call("read", file_path="empty") == "[the file is empty]"
    assert await hand.call("read", file_path="lines", view_range=[2, 2]) == "[these lines are empty]"
    assert await hand.call("glob", pattern="*.none") == "no matches"
    assert await hand.call("grep", pattern="none") == "no matches"


async def test_images_and_documents_are_blocks(hand: Hand, box: Sandboxed) -> None:
    (box.workspace / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n123")
    (box.workspace / "a.pdf").write_bytes(b"%PDF-123")

    image = await hand.call("read", file_path="a.png")
    document = await hand.call("read", file_path="a.pdf")

    assert isinstance(image, ImageBlock)
    assert isinstance(document, DocumentBlock)
    assert isinstance(image.source, Base64Source)
    assert isinstance(document.source, Base64Source)
    assert (image.source.media_type, document.source.media_type) == ("image/png", "application/pdf")
    assert base64.b64decode(document.source.data) == b"%PDF-123"


async def test_files_are_found_by_name_and_content(hand: Hand) -> None:
    await hand.call("write", file_path="src/a.py", content="import this\n")

    assert await hand.call("glob", pattern="**/*.py") == "/workspace/src/a.py"
    assert await hand.call("grep", pattern="im.*t", path="src") == "/workspace/src/a.py:1:import this"


async def test_a_search_with_too_many_results_says_so(hand: Hand, box: Sandboxed) -> None:
    for number in range(205):
        (box.workspace / f"{number}.txt").touch()

    *paths, note = (await hand.call("glob", pattern="*")).splitlines()

    assert len(paths) == 200
    assert note == "[only the newest 200 of 205 are shown; narrow the pattern]"


async def test_an_error_is_in_words_for_the_model(hand: Hand) -> None:
    assert await hand.fails("read", file_path="gone") == "read: gone: no such file or directory"
    assert (await hand.fails("grep", pattern="(")).startswith("grep: invalid regex")


async def test_code_gives_output_and_exit_code(hand: Hand) -> None:
    result = await hand.call(
        "code_execution", language="python", code="import sys\nprint(1)\nprint(2, file=sys.stderr)\nsys.exit(3)"
    )

    assert json.loads(result.model_dump_json()) == {"stdout": "1\n", "stderr": "2\n", "exit_code": 3}


async def test_code_that_is_none_is_an_error(hand: Hand) -> None:
    assert await hand.fails("code_execution", language="python", code=" \n") == "code_execution: code is empty"
    with pytest.raises(ValueError, match="'python', 'node', 'javascript' or 'sh'"):
        await hand.call("code_execution", language="rust", code="x")


async def test_code_out_of_time_is_an_error_with_what_it_wrote(hand: Hand) -> None:
    text = await hand.fails("code_execution", language="sh", code="echo a; sleep 100", timeout_ms=300)

    assert text.startswith("code_execution: timed out after 0.3 s\n")
    assert json.loads(text.partition("\n")[2])["stdout"] == "a\n"


async def test_a_sandbox_that_cannot_start_is_an_error_of_the_call(tmp_path: Path) -> None:
    hand = Hand(tmp_path, SandboxError("bubblewrap is not installed"))

    assert (await hand.fails("bash", command="true")).startswith("bubblewrap is not installed")


async def test_a_sandbox_that_goes_is_an_error_of_the_call(hand: Hand) -> None:
    text = await hand.fails("bash", command="kill -9 $PPID; sleep 100")

    assert text.startswith("the sandbox is gone: exit code -9.")


async def test_an_answer_that_makes_no_sense_is_an_error_of_the_call(box: Sandboxed) -> None:
    guest = await Guest.start(saying("say(id=1, ok={'paths': [1], 'total': 1, 'cut': False})"), box.spec)
    try:
        text = await Hand(box.workspace, guest).fails("glob", pattern="*")
    finally:
        await guest.close()

    assert text == "glob: the sandbox gave an answer that makes no sense"


async def test_a_long_text_is_its_start_and_a_file(hand: Hand, box: Sandboxed) -> None:
    text = "".join(f"{number}\n" for number in range(50_000))

    shown = await fit(hand.context, text)

    assert await fit(hand.context, "short") == "short"
    assert len(shown) == 100_000
    assert text.startswith(shown[: shown.index("[output") - 1])
    assert shown.endswith("all of it is in /workspace/.sojourn/output/sevt_1.txt]")
    assert (box.workspace / ".sojourn/output/sevt_1.txt").read_text() == text
