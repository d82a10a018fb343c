import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client

from sojourn.client import name_store
from sojourn.client.connection import connect_client, with_store
from sojourn.types import ServerNotReadyError, Store
from sojourn.types.named_store import named_store, require_store
from sojourn.types.payload import store_of
from sojourn.worker import EmbeddedServer, SojournWorker


@pytest.fixture
async def client(server: EmbeddedServer) -> Client:
    """A client of a namespace of its own, without a store."""
    request = RegisterNamespaceRequest(namespace=f"ns-{uuid.uuid4().hex[:8]}")
    request.workflow_execution_retention_period.FromTimedelta(timedelta(days=1))
    await server.client.workflow_service.register_namespace(request)
    config = server.client.config()
    config["namespace"] = request.namespace
    return with_store(Client(**config), None)


async def test_a_named_store_is_found_by_who_connects(client: Client, tmp_path: Path) -> None:
    assert await named_store(client) is None
    await name_store(client, str(tmp_path))
    await name_store(client, str(tmp_path))

    assert await named_store(client) == str(tmp_path)
    found = await connect_client(client.service_client.config.target_host, namespace=client.namespace)
    store = store_of(found)
    assert store is not None
    assert store.url == str(tmp_path)
    await require_store(found)


async def test_a_worker_without_the_named_store_does_not_start(client: Client, tmp_path: Path) -> None:
    await name_store(client, str(tmp_path))

    with pytest.raises(ServerNotReadyError, match="SOJOURN_STORE_URL"):
        await SojournWorker(client).__aenter__()


async def test_a_worker_with_another_store_does_not_start(client: Client, tmp_path: Path) -> None:
    """The path of the namespace may be another, empty folder on the worker's machine."""
    await name_store(client, str(tmp_path / "one"))

    with pytest.raises(ServerNotReadyError, match="is not the object store"):
        await require_store(with_store(client, Store.open(str(tmp_path / "other"))))


async def test_the_named_store_under_another_path_is_the_same(client: Client, tmp_path: Path) -> None:
    await name_store(client, str(tmp_path / "one"))
    (tmp_path / "link").symlink_to(tmp_path / "one")

    await require_store(with_store(client, Store.open(str(tmp_path / "link"))))


async def test_a_store_that_no_namespace_names_is_anybodys(client: Client) -> None:
    await require_store(with_store(client, Store.open("memory://")))
    await require_store(client)
