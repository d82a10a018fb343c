"""Files in an object store: a folder, and memory."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.types import Owner, SessionId
from sojourn.types.error import InvalidRequestError
from sojourn.types.file import checked_media_type, checked_name
from sojourn.types.file_error import FileExpiredError, FileMissingError, FileTooLargeError
from sojourn.types.file_store import FileStore
from sojourn.types.store import Store

ADA, BOB, EVE = Owner("acme", "ada"), Owner("acme", "bob"), Owner("other", "ada")
SESSION = SessionId("sesn_1")


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store.open(str(tmp_path) if request.param == "folder" else "memory://")


async def chunks(*pieces: bytes) -> AsyncGenerator[bytes, None]:
    for piece in pieces:
        yield piece


async def everything(store: Store) -> list[str]:
    return sorted([path async for path in store.paths("")])


def files_in(store: Store, clock: Clock | None = None) -> FileStore:
    return FileStore(store, clock=clock or Clock())


async def content(files: FileStore, id: str, owner: Owner = ADA) -> bytes:
    return b"".join([chunk async for chunk in files.read(await files.find(id, owner=owner), owner=owner)])


@settings(max_examples=25)
@given(pieces=st.lists(st.binary(max_size=5000), max_size=8))
async def test_what_is_written_comes_back(pieces: list[bytes]) -> None:
    files = files_in(Store.open("memory://"))
    made = await files.write(chunks(*pieces), owner=ADA, filename="a.bin")

    assert await content(files, made.id) == b"".join(pieces)
    assert (made.size_bytes, made.sha256) == (
        sum(map(len, pieces)),
        hashlib.sha256(b"".join(pieces)).hexdigest(),
    )


async def test_many_at_the_same_time_stay_apart(store: Store) -> None:
    files = files_in(store)
    made = await asyncio.gather(*(files.write(chunks(b"%d" % n * 1000), owner=ADA, filename=f"{n}") for n in range(20)))

    for number, meta in enumerate(made):
        assert await content(files, meta.id) == b"%d" % number * 1000
    page = await files.page(owner=ADA, limit=100)
    assert [meta.id for meta in page.data] == sorted((meta.id for meta in made), reverse=True)


async def test_what_fails_or_is_cut_off_leaves_nothing(store: Store) -> None:
    files, begun = files_in(store), asyncio.Event()

    async def failing() -> AsyncGenerator[bytes, None]:
        yield b"x" * 10_000_000
        raise InvalidRequestError("no")

    async def stuck() -> AsyncGenerator[bytes, None]:
        yield b"x" * 10_000_000
        begun.set()
        await asyncio.Event().wait()

    with pytest.raises(InvalidRequestError):
        await files.write(failing(), owner=ADA, filename="a")
    with pytest.raises(FileTooLargeError):
        await files.write(chunks(b"x" * 11), owner=ADA, filename="a", limit_bytes=10)
    writing = asyncio.create_task(files.write(stuck(), owner=ADA, filename="a"))
    await asyncio.wait_for(begun.wait(), 30)
    writing.cancel()
    await asyncio.wait({writing})

    assert (await files.page(owner=ADA, limit=10)).data == ()


async def test_a_file_expires_and_its_content_is_removed(store: Store) -> None:
    clock = Clock()
    files = files_in(store, clock)
    made = await files.write(chunks(b"x"), owner=ADA, filename="a", expires_in=timedelta(hours=1))
    kept = await files.write(chunks(b"y"), owner=ADA, filename="b")
    clock.now += timedelta(minutes=59)

    assert await content(files, made.id) == b"x"

    clock.now += timedelta(hours=3)
    # Nobody asks for it: another upload, of another process, cleans up.
    await files_in(store, clock).write(chunks(b"z"), owner=EVE, filename="c")

    assert f"files/acme/{made.id}/content" not in await everything(store)
    assert not [path for path in await everything(store) if path.startswith("expiring")]
    with pytest.raises(FileExpiredError):
        await files.find(made.id, owner=ADA)
    assert [meta.id for meta in (await files.page(owner=ADA, limit=10)).data] == [kept.id]
    await files.delete(made.id, owner=ADA)
    with pytest.raises(FileMissingError):
        await files.find(made.id, owner=ADA)


@pytest.mark.parametrize("life", [timedelta(minutes=59), timedelta(days=91)])
async def test_a_life_that_is_too_short_or_long_is_refused(life: timedelta) -> None:
    with pytest.raises(InvalidRequestError, match="expires_in_seconds"):
        await files_in(Store.open("memory://")).write(chunks(b"x"), owner=ADA, filename="a", expires_in=life)


async def test_files_of_a_session_are_its_users_alone_and_go_with_it(store: Store) -> None:
    files = files_in(store)
    upload = await files.write(chunks(b"x"), owner=ADA, filename="a")
    copy = await files.copy(upload, owner=ADA, session_id=SESSION)
    output = await files.write_output(chunks(b"y"), owner=ADA, session_id=SESSION, path="deep/b.txt")
    of_session = await files.page(owner=ADA, session_id=SESSION, limit=10)

    assert {meta.id for meta in of_session.data} == {copy.id, output.id}
    assert await content(files, copy.id) == b"x"
    for owner in (BOB, EVE):
        with pytest.raises(FileMissingError):
            await files.find(copy.id, owner=owner)
    assert [meta.id for meta in (await files.page(owner=BOB, limit=10)).data] == [upload.id]

    await files.forget_session("acme", SESSION)
    await store.delete_folder("sessions/acme/sesn_1")

    assert {path.split("/")[2] for path in await everything(store)} == {upload.id}


async def test_a_page_is_full_though_others_files_lie_between(store: Store) -> None:
    files = files_in(store)
    mine = []
    for _ in range(3):
        mine.append((await files.write(chunks(b"x"), owner=BOB, filename="a")).id)
        for _ in range(9):
            await files.write_output(chunks(b"x"), owner=ADA, session_id=SESSION, path="o")
    first = await files.page(owner=BOB, limit=2)
    rest = await files.page(owner=BOB, limit=2, after=first.data[-1].id)

    assert ([meta.id for meta in first.data], first.has_more) == (mine[:0:-1], True)
    assert ([meta.id for meta in rest.data], rest.has_more) == (mine[:1], False)


@pytest.mark.parametrize("id", ["", "file_", "file_a/../b", "../files/acme/file_1", "env_1", "file_nothing"])
async def test_no_id_leads_elsewhere(store: Store, id: str) -> None:
    await store.put("files/other/file_1/meta.json", b"{}")

    with pytest.raises(FileMissingError):
        await files_in(store).find(id, owner=ADA)


@given(st.text(max_size=600))
def test_a_name_is_one_printable_part_of_a_path(name: str) -> None:
    checked = checked_name(name)

    assert checked.isprintable()
    assert not set(checked) & set("/\\")
    assert checked not in ("", ".", "..")
    assert len(checked) <= 500


def test_a_media_type_is_the_one_given_or_that_of_the_ending() -> None:
    assert checked_media_type("Text/Plain; charset=utf-8", filename="a.bin") == "text/plain"
    assert checked_media_type("application/octet-stream", filename="a.png") == "image/png"
    assert checked_media_type("a\r\nb: c", filename="a") == "application/octet-stream"
