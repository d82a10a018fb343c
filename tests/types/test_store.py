from pathlib import Path

import pytest

from sojourn.types.error import InvalidRequestError, StoreUnavailableError
from sojourn.types.store import Store


@pytest.fixture(params=["memory", "folder", "file URL"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    urls = {"memory": "memory://", "folder": str(tmp_path / "a b"), "file URL": (tmp_path / "c").as_uri()}
    return Store.open(urls[request.param])


async def test_what_was_put_is_got_and_replaced_and_deleted(store: Store) -> None:
    assert await store.get("a/b") is None
    await store.put("a/b", b"one")
    await store.put("a/b", b"\x00two")

    assert await store.get("a/b") == b"\x00two"
    assert await store.exists("a/b")
    await store.delete("a/b", "a/never")
    assert not await store.exists("a/b")


async def test_a_folder_is_listed_and_deleted_alone(store: Store) -> None:
    for path in ("s/1/x", "s/1/y/z", "s/12/x"):
        await store.put(path, b"")

    assert sorted([path async for path in store.paths("s/1")]) == ["s/1/x", "s/1/y/z"]
    await store.delete_folder("s/1")
    await store.delete_folder("s/1")
    assert [path async for path in store.paths("s")] == ["s/12/x"]


async def test_two_memories_are_two_stores() -> None:
    one, other = Store.open("memory://"), Store.open("memory://")
    await one.put("a", b"")

    assert not await other.exists("a")


@pytest.mark.parametrize("url", ["nonsense://x", "ftp://host/x", "http://", "s3://"])
def test_a_url_of_no_kind_of_store_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        Store.open(url)

    assert repr(url) in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.param == "store"


def test_a_folder_that_cannot_be_made_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(InvalidRequestError) as error:
        Store.open(str(tmp_path / "file" / "store"))

    assert "\n" not in str(error.value)


async def test_a_folder_that_went_away_is_unavailable_for_writing(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"))
    (tmp_path / "store").rmdir()
    (tmp_path / "store").write_text("no folder")

    with pytest.raises(StoreUnavailableError) as error:
        await store.put("a/b", b"x")

    assert "\n" not in str(error.value)


async def test_an_endpoint_that_does_not_answer_is_unavailable_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT": "http://127.0.0.1:9",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "key",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)

    store = Store.open("s3://bucket/prefix")
    with pytest.raises(StoreUnavailableError) as error:
        await store.get("a")

    assert "s3://bucket/prefix" in str(error.value)
    assert "\n" not in str(error.value)
