import asyncio
import os
import stat
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sandbox.guest_stand import Sandboxed, sandboxed, until

from sojourn.sandbox.guest.grep import LIMIT, LINE
from sojourn.sandbox.guest.search import compiled
from sojourn.sandbox.guest.wire import OpError
from sojourn.sandbox.guest_client import GuestError


@pytest.fixture
async def box(tmp_path: Path) -> AsyncGenerator[Sandboxed, None]:
    async with sandboxed(tmp_path) as box:
        yield box


def fill(box: Sandboxed, *names: str) -> None:
    for age, name in enumerate(names):
        path = box.workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"needle in {name}\nhay\n")
        os.utime(path, (10_000 - age, 10_000 - age))


async def glob(box: Sandboxed, pattern: str, path: str | None = None) -> list[str]:
    found = (await box.call("glob", pattern=pattern, path=path))["paths"]
    return [str(each).removeprefix("/workspace/") for each in found]


async def grep(box: Sandboxed, pattern: str, path: str | None = None) -> list[str]:
    text: str = (await box.call("grep", pattern=pattern, path=path))["text"]
    return [line.removeprefix("/workspace/") for line in text.splitlines()]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.py", ["a.py"]),
        ("**/*.py", ["a.py", "src/b.py", "src/deep/c.py"]),
        ("src/**/*.py", ["src/b.py", "src/deep/c.py"]),
        ("src/*.py", ["src/b.py"]),
        ("src/b.py", ["src/b.py"]),
        ("**/deep/*", ["src/deep/c.py", "src/deep/d.txt"]),
        ("src/**", ["src/b.py", "src/deep", "src/deep/c.py", "src/deep/d.txt"]),
        ("**/*.{txt,md}", ["src/deep/d.txt", "e.md"]),
        ("?.py", ["a.py"]),
        ("[ab].*", ["a.py"]),
        ("[!a].*", ["e.md"]),
        ("**/[x", []),
        ("no/such/*", []),
        ("/workspace/src/*.py", ["src/b.py"]),
        ("./src/../*.md", ["e.md"]),
        ("**/.hidden", [".hidden"]),
        (".git/*", [".git/config"]),
    ],
)
async def test_patterns_find_what_they_say(box: Sandboxed, pattern: str, found: list[str]) -> None:
    fill(box, "a.py", "src/b.py", "src/deep/c.py", "src/deep/d.txt", "e.md", ".hidden", ".git/config", ".sojourn/x.py")

    assert sorted(await glob(box, pattern)) == sorted(found)


async def test_the_newest_come_first_and_not_too_many(box: Sandboxed) -> None:
    fill(box, *(f"{number}.txt" for number in range(250)))

    found = await box.call("glob", pattern="*.txt")

    assert [Path(path).stem for path in found["paths"]] == [str(number) for number in range(200)]
    assert found["total"] == 250


async def test_a_search_starts_where_it_is_told(box: Sandboxed) -> None:
    fill(box, "a.py", "src/b.py")

    assert await glob(box, "*.py", "src") == ["src/b.py"]
    assert await glob(box, "*.py", "/workspace/src") == ["src/b.py"]
    with pytest.raises(GuestError, match="no such file"):
        await glob(box, "*", "gone")


@pytest.mark.parametrize("pattern", ["*/../../*", "*/..", "**/.."])
async def test_a_pattern_that_leads_back_is_refused(box: Sandboxed, pattern: str) -> None:
    with pytest.raises(GuestError, match="not permitted"):
        await glob(box, pattern)


async def test_links_that_lead_in_a_circle_are_not_followed(box: Sandboxed) -> None:
    fill(box, "sub/a.txt")
    (box.workspace / "sub/circle").symlink_to("..")

    assert await glob(box, "**/*.txt") == ["sub/a.txt"]
    assert await grep(box, "needle") == ["sub/a.txt:1:needle in sub/a.txt"]


@given(parts=st.lists(st.text(min_size=1).filter(lambda text: "/" not in text), min_size=1, max_size=4))
def test_any_pattern_is_understood_or_refused(parts: list[str]) -> None:
    with suppress(OpError):
        compiled(parts)


@given(name=st.text(st.characters(exclude_characters="/*?[]{},", exclude_categories=["Cs"]), min_size=1))
def test_a_plain_name_matches_itself_alone(name: str) -> None:
    pattern = compiled([name])

    assert pattern.fullmatch(name)
    assert not pattern.fullmatch(name + "x")
    assert compiled(["**", name]).fullmatch("a/b/" + name)
    assert compiled([name[0] + "*"]).fullmatch(name)


async def test_grep_finds_lines_with_their_numbers(box: Sandboxed) -> None:
    fill(box, "b.txt", "a/c.txt", ".hidden")

    assert await grep(box, r"nee\w+ in") == [f"{name}:1:needle in {name}" for name in (".hidden", "a/c.txt", "b.txt")]
    assert await grep(box, "^hay$", "a") == ["a/c.txt:2:hay"]
    assert await grep(box, "hay", "/workspace/b.txt") == ["b.txt:2:hay"]
    assert await grep(box, "nothing") == []


async def test_grep_leaves_out_what_is_no_text_or_not_the_agents(box: Sandboxed) -> None:
    fill(box, "a.txt", ".git/config", "node_modules/x.js", ".sojourn/output/x.txt")
    (box.workspace / "binary").write_bytes(b"needle\0")
    (box.workspace / "link").symlink_to("a.txt")
    os.mkfifo(box.workspace / "pipe")

    assert await grep(box, "needle") == ["a.txt:1:needle in a.txt"]
    assert await grep(box, "needle", ".git") == [".git/config:1:needle in .git/config"]


async def test_grep_cuts_long_lines_and_much_output(box: Sandboxed) -> None:
    (box.workspace / "long").write_text("x" * 5000 + "\n")
    (box.workspace / "many").write_text("y" * 1000 + "\n" + ("y" * 1000 + "\n") * 200)

    (line,) = await grep(box, "x")
    found = await box.call("grep", pattern="y+", path="many")

    assert line == "long:1:" + "x" * LINE + " [line cut]"
    assert LIMIT - 2000 < len(found["text"]) < LIMIT + 200
    assert "[output truncated at" in found["text"].splitlines()[-1]


async def test_grep_says_what_is_wrong_with_an_expression(box: Sandboxed) -> None:
    with pytest.raises(GuestError, match="invalid regex"):
        await grep(box, "(unclosed")
    with pytest.raises(GuestError, match="no such file"):
        await grep(box, "x", "gone")


async def test_an_expression_that_takes_for_ever_can_be_cancelled(box: Sandboxed) -> None:
    (box.workspace / "evil").write_text("a" * 60 + "!\n")
    running = asyncio.create_task(box.call("grep", pattern="^(a+)+$"))
    await until(lambda: bool(searchers(box)))

    assert await box.call("ping") == {}
    running.cancel()

    await until(lambda: not searchers(box))


async def test_ripgrep_is_used_where_it_is(box: Sandboxed, tmp_path: Path) -> None:
    """A program in its place, which shows how it is called and answers as it would."""
    fill(box, "a.txt")
    ripgrep = tmp_path / "rg"
    ripgrep.write_text("#!/bin/sh\necho \"$@\" >../called\nprintf './a.txt\\0001:needle\\nbinary file matches\\n'\n")
    ripgrep.chmod(stat.S_IRWXU)
    box.spec = box.with_path(tmp_path)
    await box.close()
    await box.start()

    assert await grep(box, "nee.le") == ["a.txt:1:needle"]
    called = (tmp_path / "called").read_text()
    assert called.startswith("--no-config --hidden --no-ignore")
    assert called.endswith("-e nee.le -- ./\n")


async def test_an_expression_that_ripgrep_does_not_know_is_tried_without_it(box: Sandboxed, tmp_path: Path) -> None:
    fill(box, "a.txt")
    ripgrep = tmp_path / "rg"
    ripgrep.write_text("#!/bin/sh\nexit 2\n")
    ripgrep.chmod(stat.S_IRWXU)
    box.spec = box.with_path(tmp_path)
    await box.close()
    await box.start()

    assert await grep(box, "(?<=nee)dle") == ["a.txt:1:needle in a.txt"]


def searchers(box: Sandboxed) -> list[str]:
    """Processes that search for this test's guest."""
    (process,) = (started.process for started in box.sandbox.started)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [pid for pid in children.split() if b"grep" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
