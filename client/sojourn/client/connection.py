"""Reaching the Temporal server, and the object store beside it."""

import asyncio
import os
from collections.abc import Sequence
from datetime import timedelta

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client, GrpcCompression, Plugin
from temporalio.envconfig import ClientConfig
from temporalio.runtime import Runtime
from temporalio.service import RPCError, RPCStatusCode

from sojourn.client.failure import translated
from sojourn.types.error import ServerNotReadyError, ServerUnavailableError
from sojourn.types.name import CREATED_ATTRIBUTE, SEARCH_ATTRIBUTES
from sojourn.types.named_store import named_store, note_store
from sojourn.types.payload import storing
from sojourn.types.store import STORE_VARIABLE, Store

PATIENCE = timedelta(seconds=5)
"""How long a connection may take before the server counts as unavailable."""


async def connect_client(
    address: str | None = None,
    *,
    namespace: str | None = None,
    profile: str | None = None,
    api_key: str | None = None,
    store: str | None = None,
    plugins: Sequence[Plugin] = (),
    sdk_runtime: Runtime | None = None,
    timeout: timedelta = PATIENCE,
) -> Client:
    """Connect as Temporal's environment configuration says; arguments beat it.

    The configuration is the profile of the TOML file (``TEMPORAL_PROFILE``, ``TEMPORAL_CONFIG_FILE``) and the variables
    ``TEMPORAL_ADDRESS``, ``TEMPORAL_NAMESPACE``, ``TEMPORAL_API_KEY``, ``TEMPORAL_TLS…``.

    Args:
        address: ``host:port`` of the frontend.
        namespace: Namespace of the sessions.
        profile: Profile in the configuration file.
        api_key: For Temporal Cloud; switches TLS on.
        store: URL of the object store (see `Store.open`); otherwise ``SOJOURN_STORE_URL``, otherwise what the namespace
            names (`name_store`).
        plugins: Temporal's plugins, such as its ``OpenTelemetryPlugin``; workers of the client take them over.
        sdk_runtime: Runtime of Temporal's SDK, for its metrics; ``None`` is the process's default.
        timeout: Longest wait for the server.

    Raises:
        InvalidRequestError: There is no such kind of store, or the extra for it is not installed.
        ServerNotReadyError: The configuration cannot be read, or the server refuses the credentials or the namespace.
        ServerUnavailableError: Nothing answers.
    """
    try:
        config = ClientConfig.load_client_connect_config(profile)
    except (RuntimeError, ValueError) as error:
        raise ServerNotReadyError(f"Temporal's environment configuration cannot be read: {error}") from None
    if address is not None:
        config["target_host"] = address
    if namespace is not None:
        config["namespace"] = namespace
    if api_key is not None:
        config["api_key"] = api_key
    target = config.setdefault("target_host", "localhost:7233")
    local = target.rpartition(":")[0] in ("localhost", "127.0.0.1", "[::1]")
    compression = GrpcCompression.NONE if local else GrpcCompression.GZIP
    try:
        async with asyncio.timeout(timeout.total_seconds()):
            client = await Client.connect(
                **config,
                data_converter=storing(None),
                grpc_compression=compression,
                plugins=plugins,
                runtime=sdk_runtime,
            )
    except (RuntimeError, TimeoutError):
        # The SDK's threads let go of the call a moment later; a process that exits before may abort (exit 134).
        await asyncio.sleep(0.1)
        raise ServerUnavailableError(target) from None
    url = store or os.environ.get(STORE_VARIABLE) or await named_store(client)
    return with_store(client, Store.open(url)) if url else client


def with_store(client: Client, store: Store | None) -> Client:
    """The same connection, with this object store."""
    config = client.config()
    config["data_converter"] = storing(store)
    return Client(**config)


async def name_store(client: Client, url: str) -> None:
    """Write into the namespace where its object store is, so that clients and workers need not be told.

    Raises:
        InvalidRequestError: There is no such kind of store, or the extra for it is not installed.
        ServerNotReadyError: The server refuses, as Temporal Cloud does: there, set ``SOJOURN_STORE_URL`` everywhere.
        StoreUnavailableError: The store cannot be reached or refuses.
    """
    try:
        await note_store(client, Store.open(url))
    except RPCError as error:
        text = f"the server refuses to note the object store ({error.message}); set {STORE_VARIABLE} everywhere"
        raise ServerNotReadyError(text) from None


async def missing_search_attributes(client: Client) -> list[str]:
    """Names of the search attributes that the namespace lacks.

    Raises:
        ServerNotReadyError: The namespace does not exist or may not be read.
    """
    address = client.service_client.config.target_host
    with translated(address, missing=ServerNotReadyError(f"namespace {client.namespace!r} does not exist")):
        listed = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=client.namespace), timeout=PATIENCE
        )
    return [key.name for key in SEARCH_ATTRIBUTES if key.name not in listed.custom_attributes]


async def register_search_attributes(client: Client) -> list[str]:
    """Register what the namespace lacks. Repeating it changes nothing.

    Returns:
        The names that were registered.

    Raises:
        ServerNotReadyError: The server refuses, as Temporal Cloud does: there, register them in its console.
    """
    missing = await missing_search_attributes(client)
    wanted = {key.name: key.indexed_value_type for key in SEARCH_ATTRIBUTES if key.name in missing}
    if not wanted:
        return []
    request = AddSearchAttributesRequest(namespace=client.namespace)
    for name, kind in wanted.items():
        request.search_attributes[name] = IndexedValueType.ValueType(kind)
    try:
        await client.operator_service.add_search_attributes(request, timeout=timedelta(seconds=30))
    except RPCError as error:
        if error.status is RPCStatusCode.ALREADY_EXISTS:
            return []
        by_hand = f"register them by hand, {CREATED_ATTRIBUTE.name} as Datetime and the others as Keyword"
        text = f"the server refuses to register {', '.join(wanted)} ({error.message}); {by_hand}"
        raise ServerNotReadyError(text) from None
    return missing
