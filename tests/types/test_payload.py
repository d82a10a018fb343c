from types import SimpleNamespace
from typing import cast

import pytest
from temporalio.client import Client
from temporalio.converter import DataConverter, StorageDriverStoreContext, StorageDriverWorkflowInfo

from sojourn.types.converter import data_converter
from sojourn.types.error import CheckpointError, StoreMissingError
from sojourn.types.payload import (
    INLINE_LIMIT_BYTES,
    STORED_LIMIT_BYTES,
    THRESHOLD_BYTES,
    PayloadDriver,
    inline,
    limit_bytes,
    session_folder,
    store_of,
    storing,
)
from sojourn.types.store import Store

LARGE = "x" * THRESHOLD_BYTES
OWNER = StorageDriverStoreContext(target=StorageDriverWorkflowInfo(namespace="n", id="acme/sesn_1"))


def client(converter: DataConverter) -> Client:
    return cast(Client, SimpleNamespace(data_converter=converter))


@pytest.fixture
def store() -> Store:
    return Store.open("memory://")


async def kept(store: Store) -> list[str]:
    return [path async for path in store.paths("")]


async def test_small_values_stay_and_large_ones_leave_a_reference(store: Store) -> None:
    converter = storing(store, owner="acme/sesn_1")

    small, large = await converter.encode(["small", LARGE])

    assert small.data == b'"small"'
    assert len(large.data) < 1000
    assert await converter.decode([small, large], [str, str]) == ["small", LARGE]


async def test_the_same_value_twice_is_one_object_in_its_sessions_folder(store: Store) -> None:
    for _ in range(2):
        await storing(store, owner="acme/sesn_1").encode([LARGE])

    (path,) = await kept(store)
    assert path.startswith("sessions/acme/sesn_1/blobs/")


async def test_a_value_that_the_sdk_addresses_goes_to_that_workflows_folder(store: Store) -> None:
    driver = PayloadDriver(store, owner="acme/sesn_other")
    (payload,) = await data_converter.encode([LARGE])

    await driver.store(OWNER, [payload])

    (path,) = await kept(store)
    assert path.startswith("sessions/acme/sesn_1/blobs/")


async def test_an_uploaded_value_is_not_written_again_but_one_written_later_is(store: Store) -> None:
    driver = PayloadDriver(store)
    (payload,) = await data_converter.encode([LARGE])
    await driver.upload("acme/sesn_1", payload)
    (path,) = await kept(store)
    await store.delete(path)

    await driver.store(OWNER, [payload])
    assert await kept(store) == []
    await driver.store(OWNER, [payload])

    assert await kept(store) == [path]


def test_agents_have_folders_of_their_own() -> None:
    assert session_folder("acme/agent_1") == "agents/acme/agent_1"
    assert session_folder("acme/sesn_1") == "sessions/acme/sesn_1"


async def test_a_value_that_is_gone_is_a_checkpoint_error(store: Store) -> None:
    converter = storing(store, owner="acme/sesn_1")
    payloads = await converter.encode([LARGE])
    await store.delete_folder("sessions")

    with pytest.raises(CheckpointError, match="is not in the store"):
        await converter.decode(payloads, [str])


async def test_without_a_store_a_reference_names_the_way_out_and_values_stay(store: Store) -> None:
    payloads = await storing(store, owner="acme/sesn_1").encode([LARGE])

    with pytest.raises(StoreMissingError, match="SOJOURN_STORE_URL"):
        await storing(None).decode(payloads, [str])

    (payload,) = await storing(None).encode([LARGE])
    assert payload.data == f'"{LARGE}"'.encode()


async def test_a_store_decides_what_fits(store: Store) -> None:
    assert limit_bytes(client(storing(store))) == STORED_LIMIT_BYTES
    assert limit_bytes(client(storing(None))) == INLINE_LIMIT_BYTES
    assert limit_bytes(client(data_converter)) == INLINE_LIMIT_BYTES
    assert store_of(client(storing(store))) is store
    assert store_of(client(storing(None))) is None


async def test_inline_values_are_whole(store: Store) -> None:
    (payload,) = await inline(client(storing(store))).encode([LARGE])

    assert payload.data == f'"{LARGE}"'.encode()
    assert await kept(store) == []
