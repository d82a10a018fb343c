import asyncio
import base64
import os
import socket
import stat
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.sandbox.guest_stand import Sandboxed, sandboxed

from sojourn.sandbox.guest.file import IMAGE_LIMIT, PDF_LIMIT, TEXT_LIMIT
from sojourn.sandbox.guest.text import decode, encode, media_type
from sojourn.sandbox.guest_client import GuestError

shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
plain_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=300)

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
async def box(tmp_path: Path) -> AsyncGenerator[Sandboxed, None]:
    async with sandboxed(tmp_path) as box:
        yield box


async def read(box: Sandboxed, path: str, *view_range: int) -> str:
    found = await box.call("read", file_path=path, view_range=list(view_range) or None)
    text = found["text"]
    assert isinstance(text, str)
    return text


async def refused(box: Sandboxed, op: str, **arguments: Any) -> str:
    with pytest.raises(GuestError) as error:
        await box.call(op, **arguments)
    return error.value.message


@shared
@given(text=plain_texts)
async def test_what_is_written_is_read(box: Sandboxed, text: str) -> None:
    assume(not text.startswith(("\ufeff", "\ufffe")) and media_type(text.encode()) is None)

    written = await box.call("write", file_path="a/b.txt", content=text)

    assert written["size_bytes"] == len(text.encode())
    assert await read(box, "/workspace/a/b.txt") == text
    assert (box.workspace / "a/b.txt").read_bytes() == text.encode()


@shared
@given(lines=st.lists(plain_texts.map(lambda text: text.replace("\n", "")), min_size=1), data=st.data())
async def test_a_range_is_those_lines(box: Sandboxed, lines: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(1, len(lines)))
    end = data.draw(st.integers(start, len(lines) + 3))
    content = "\n".join(lines)
    assume(not content.startswith(("\ufeff", "\ufffe")) and media_type(content.encode()) is None)
    await box.call("write", file_path="x", content=content)

    assert await read(box, "x", start, end) == "\n".join(lines[start - 1 : end])
    assert await read(box, "x", start, 0) == "\n".join(lines[start - 1 :])


@settings(parent=shared, max_examples=20)
@given(start=st.integers(1, 60_000), count=st.integers(1, 2000))
async def test_a_range_of_a_large_file_is_those_lines_too(box: Sandboxed, start: int, count: int) -> None:
    large = box.workspace / "large"
    if not large.exists():
        large.write_text("".join(f"line {number}\n" for number in range(1, 60_001)))

    shown = await read(box, "large", start, start + count - 1)

    expected = [f"line {number}" for number in range(start, min(start + count, 60_001))]
    if start + count - 1 > 60_000:
        expected.append("")
    assert shown == "\n".join(expected)


async def test_a_large_file_needs_a_range_that_fits(box: Sandboxed) -> None:
    (box.workspace / "large").write_text("0123456789abcde\n" * 20_000)
    (box.workspace / "long").write_text("x" * 300_000 + "\nshort")

    assert "view_range: [1, 500]" in await refused(box, "read", file_path="large")
    assert "narrow it" in await refused(box, "read", file_path="large", view_range=[1, 0])
    assert "line 1 of long alone" in await refused(box, "read", file_path="long", view_range=[1, 1])
    assert await read(box, "long", 2, 2) == "short"
    assert "has only 20001 lines" in await refused(box, "read", file_path="large", view_range=[30_000, 0])


async def test_text_up_to_the_limit_is_read_whole(box: Sandboxed) -> None:
    (box.workspace / "full").write_text("x" * TEXT_LIMIT)

    assert await read(box, "full") == "x" * TEXT_LIMIT


@pytest.mark.parametrize("view_range", [[1], [1, 2, 3], [5, 2], ["1", 2], [1.5, 2]])
async def test_a_range_that_is_none_is_refused(box: Sandboxed, view_range: object) -> None:
    (box.workspace / "x").write_text("a\nb")

    assert "view_range" in await refused(box, "read", file_path="x", view_range=view_range)


@shared
@given(data=st.binary(max_size=300))
def test_no_byte_is_lost_between_bytes_and_text(data: bytes) -> None:
    decoded = decode(data)

    assert decoded is not None or b"\0" in data
    if decoded is not None:
        assert encode(*decoded) == data


@shared
@given(before=texts, old=plain_texts, after=texts, new=plain_texts)
async def test_an_edit_changes_that_place_alone(box: Sandboxed, before: str, old: str, after: str, new: str) -> None:
    content = before + old + after
    assume(old and old != new and content.count(old) == 1 and "\0" not in content)
    assume(not content.startswith(("\ufeff", "\ufffe")))
    (box.workspace / "x").write_bytes(content.encode())

    edited = await box.call("edit", file_path="x", old_string=old, new_string=new)

    assert edited["replacements"] == 1
    assert (box.workspace / "x").read_bytes() == (before + new + after).encode()


@pytest.mark.parametrize(
    ("content", "edited"),
    [
        (b"one\r\ntwo\r\nthree\r\n", b"one\r\n2\r\n2\r\nthree\r\n"),
        (b"\xef\xbb\xbfone\ntwo\n", b"\xef\xbb\xbfone\n2\n2\n"),
        ("one\ntwo\n".encode("utf-16"), b"\xff\xfe" + "one\n2\n2\n".encode("utf-16-le")),
        (b"caf\xe9\ntwo\n", b"caf\xe9\n2\n2\n"),
    ],
    ids=["windows lines", "byte order mark", "utf-16", "latin-1"],
)
async def test_an_edit_keeps_the_files_own_way(box: Sandboxed, content: bytes, edited: bytes) -> None:
    (box.workspace / "x").write_bytes(content)
    old = "two\nthree" if b"three" in content else "two\n"

    await box.call("edit", file_path="x", old_string=old, new_string=old.replace("two", "2\n2"))

    assert (box.workspace / "x").read_bytes() == edited


async def test_a_text_that_occurs_more_than_once_needs_replace_all(box: Sandboxed) -> None:
    (box.workspace / "x").write_text("a b a b a")

    message = await refused(box, "edit", file_path="x", old_string="a", new_string="c")
    replaced = await box.call("edit", file_path="x", old_string="a", new_string="c", replace_all=True)

    assert message.startswith("edit: old_string appears 3 times in x (must be unique)")
    assert replaced["replacements"] == 3
    assert (box.workspace / "x").read_text() == "c b c b c"


async def test_an_edit_that_makes_no_sense_is_refused(box: Sandboxed) -> None:
    (box.workspace / "x").write_text("text")
    (box.workspace / "binary").write_bytes(b"a\0b")
    (box.workspace / "latin").write_bytes(b"caf\xe9")

    assert "not found" in await refused(box, "edit", file_path="x", old_string="no", new_string="c")
    assert "is empty" in await refused(box, "edit", file_path="x", old_string="", new_string="c")
    assert "are the same" in await refused(box, "edit", file_path="x", old_string="te", new_string="te")
    assert "no such file" in await refused(box, "edit", file_path="gone", old_string="a", new_string="c")
    assert "binary file" in await refused(box, "edit", file_path="binary", old_string="a", new_string="c")
    assert "cannot express" in await refused(box, "edit", file_path="latin", old_string="caf", new_string="日")


async def test_edits_at_the_same_time_do_not_undo_one_another(box: Sandboxed) -> None:
    (box.workspace / "x").write_text("".join(f"<{number}>" for number in range(30)))

    await asyncio.gather(
        *(box.call("edit", file_path="x", old_string=f"<{n}>", new_string=f"[{n}]") for n in range(30))
    )

    assert (box.workspace / "x").read_text() == "".join(f"[{number}]" for number in range(30))


async def test_a_write_keeps_mode_and_link(box: Sandboxed) -> None:
    script = box.workspace / "script"
    script.write_text("old")
    script.chmod(0o750)
    (box.workspace / "link").symlink_to("script")

    await box.call("write", file_path="link", content="new")

    assert (box.workspace / "link").is_symlink()
    assert script.read_text() == "new"
    assert stat.S_IMODE(script.stat().st_mode) == 0o750
    assert sorted(entry.name for entry in box.workspace.iterdir()) == ["link", "script"]


async def test_a_new_file_has_the_usual_mode(box: Sandboxed) -> None:
    assert (await box.call("write", file_path="new", content=""))["created"] is True

    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((box.workspace / "new").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("op", ["read", "write", "edit"])
async def test_what_is_no_regular_file_is_refused_and_nothing_hangs(box: Sandboxed, op: str) -> None:
    os.mkfifo(box.workspace / "pipe")
    (box.workspace / "folder").mkdir()
    (box.workspace / "loop").symlink_to("loop")
    (box.workspace / "file").touch()
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.open(box.workspace, os.O_RDONLY)
        listening.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
        rest = {"content": ""} if op == "write" else {"old_string": "a", "new_string": "b"}

        for path in ("pipe", "folder", "loop", "socket", "file/below", "/dev/zero", "/dev/tty", "", "a\0b"):
            message = await refused(box, op, file_path=path, **({} if op == "read" else rest))
            assert path in message or path == "a\0b"

    assert (box.workspace / "pipe").is_fifo()


async def test_a_file_without_an_end_is_read_no_further_than_the_limit(box: Sandboxed) -> None:
    """Files under /proc say that they are empty and regular."""
    assert "Name:" in await read(box, "/proc/self/status")
    assert "exceeds" in await refused(box, "read", file_path="/proc/kallsyms")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do everything")
async def test_a_file_without_permission_is_refused(box: Sandboxed) -> None:
    secret = box.workspace / "secret"
    secret.write_text("x")
    secret.chmod(0)

    assert "permission denied" in await refused(box, "read", file_path="secret")
    assert "permission denied" in await refused(box, "write", file_path="secret", content="y")


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"%PDF-1.7", "application/pdf"),
    ],
)
async def test_images_and_documents_come_whole(box: Sandboxed, head: bytes, kind: str) -> None:
    content = head + bytes(range(256)) * 40
    (box.workspace / "any.name").write_bytes(content)

    found = await box.call("read", file_path="any.name")

    assert found["media_type"] == kind
    assert base64.b64decode(found["data"]) == content
    assert "view_range" in await refused(box, "read", file_path="any.name", view_range=[1, 2])


async def test_a_document_as_large_as_may_be_comes_in_pieces(box: Sandboxed) -> None:
    content = b"%PDF-" + os.urandom(1024) * (PDF_LIMIT // 1024 - 1)
    (box.workspace / "large.pdf").write_bytes(content)

    found = await box.call("read", file_path="large.pdf")

    assert base64.b64decode(found["data"]) == content


async def test_images_and_documents_over_their_limits_are_refused(box: Sandboxed) -> None:
    (box.workspace / "a.png").write_bytes(PNG + bytes(IMAGE_LIMIT))
    (box.workspace / "a.pdf").write_bytes(b"%PDF-" + bytes(PDF_LIMIT))

    assert f"exceeds {IMAGE_LIMIT}-byte limit" in await refused(box, "read", file_path="a.png")
    assert f"exceeds {PDF_LIMIT}-byte limit" in await refused(box, "read", file_path="a.pdf")


async def test_a_text_called_an_image_is_a_text(box: Sandboxed) -> None:
    (box.workspace / "logo.png").write_text("no image")

    assert await read(box, "logo.png") == "no image"


async def test_a_binary_file_is_refused(box: Sandboxed) -> None:
    (box.workspace / "program").write_bytes(b"\x7fELF\0\0\1")

    assert "binary file" in await refused(box, "read", file_path="program")


async def test_the_agents_paths_lead_to_the_real_folders(box: Sandboxed) -> None:
    (box.outputs / "result").write_text("done")
    (box.workspace / "sub").mkdir()

    for path in ("/mnt/session/outputs/result", "../mnt/session/outputs/result", str(box.outputs / "result")):
        assert await read(box, path) == "done"
    await box.call("write", file_path="sub/../there", content="x")
    assert (box.workspace / "there").exists()


async def test_what_is_too_large_for_a_line_is_refused_and_the_sandbox_lives(box: Sandboxed) -> None:
    assert "in parts" in await refused(box, "write", file_path="x", content="x" * 9_000_000)
    assert await box.call("ping") == {}
