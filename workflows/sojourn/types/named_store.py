"""The object store that a namespace names: where it is, and a mark by which it is recognised.

A path or a URL may lead somewhere else on another machine. So the store holds a mark, and the namespace knows it: a
worker with another store refuses to start, instead of failing to read what sessions have stored.
"""

from collections.abc import Mapping

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, UpdateNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from sojourn.types.error import ServerNotReadyError
from sojourn.types.id import new_event_id
from sojourn.types.name import STORE_KEY, STORE_MARK_KEY
from sojourn.types.payload import store_of
from sojourn.types.store import STORE_VARIABLE, Store

_MARK_PATH = "sojourn-store"


async def named_store(client: Client) -> str | None:
    """URL of the object store that the namespace names, or ``None``; also where the server does not tell."""
    return (await _noted(client)).get(STORE_KEY)


async def note_store(client: Client, store: Store) -> None:
    """Mark the store, and write into the namespace where it is. Repeating it changes nothing.

    Raises:
        RPCError: The server refuses.
        StoreUnavailableError: The store cannot be reached or refuses.
    """
    mark = await store.get(_MARK_PATH)
    if mark is None:
        mark = new_event_id().encode()
        await store.put(_MARK_PATH, mark)
    request = UpdateNamespaceRequest(namespace=client.namespace)
    request.update_info.data[STORE_KEY] = store.url
    request.update_info.data[STORE_MARK_KEY] = mark.decode()
    await client.workflow_service.update_namespace(request, retry=True)


async def require_store(client: Client) -> None:
    """Make sure that a worker can read what the sessions of its namespace have stored.

    Raises:
        ServerNotReadyError: The namespace names a store, and the client has none or another one.
        StoreUnavailableError: The store cannot be reached or refuses.
    """
    noted, store = await _noted(client), store_of(client)
    url = noted.get(STORE_KEY)
    if url and store is None:
        text = f"namespace {client.namespace!r} keeps large payloads in {url!r} and this worker has no store"
        raise ServerNotReadyError(f"{text}; connect with `connect_client`, or set {STORE_VARIABLE}")
    if store is None:
        return
    mark = await store.get(_MARK_PATH)
    if (expected := noted.get(STORE_MARK_KEY)) and (mark is None or mark.decode() != expected):
        text = f"{store.url!r} is not the object store of namespace {client.namespace!r}, which is {url!r}"
        raise ServerNotReadyError(f"{text}; set {STORE_VARIABLE}, or name the new one with `sojourn setup --store URL`")


async def _noted(client: Client) -> Mapping[str, str]:
    request = DescribeNamespaceRequest(namespace=client.namespace)
    try:
        described = await client.workflow_service.describe_namespace(request, retry=True)
    except RPCError:
        # A server that does not tell may all the same be one to work with.
        return {}
    return described.namespace_info.data
