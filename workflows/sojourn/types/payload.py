"""Payloads too large for history, kept in the object store: what history holds is a reference.

The SDK asks the driver for every payload over the threshold, on the way in and on the way out, wherever it is written:
a message, a tool's result, the state that a run hands to the next. Code above the data converter never sees it.
"""

import dataclasses
from collections.abc import Sequence
from hashlib import sha256

from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.converter import (
    DataConverter,
    ExternalStorage,
    StorageDriver,
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverStoreContext,
    StorageDriverWorkflowInfo,
)

from sojourn.types.converter import data_converter
from sojourn.types.error import CheckpointError
from sojourn.types.store import Store

THRESHOLD_BYTES = 128 * 1024
"""Smaller payloads stay in history, where they cost nothing to read."""

_PATH = "path"


def session_folder(workflow_id: str) -> str:
    """The folder of the store that holds everything about one session."""
    return f"sessions/{workflow_id}"


def storing(store: Store | None) -> DataConverter:
    """The data converter of a process that uses this store."""
    if store is None:
        return data_converter
    storage = ExternalStorage(drivers=[PayloadDriver(store)], payload_size_threshold=THRESHOLD_BYTES)
    return dataclasses.replace(data_converter, external_storage=storage)


def store_of(client: Client) -> Store | None:
    """The store that a client was connected with, or ``None``."""
    storage = client.data_converter.external_storage
    drivers = storage.drivers if storage is not None else ()
    return next((driver.objects for driver in drivers if isinstance(driver, PayloadDriver)), None)


class PayloadDriver(StorageDriver):
    """Keeps payloads by their content, in the folder of the session that they belong to."""

    def __init__(self, store: Store) -> None:
        self.objects = store

    def name(self) -> str:
        """Part of every reference; it must never change."""
        return "sojourn"

    async def store(self, context: StorageDriverStoreContext, payloads: Sequence[Payload]) -> list[StorageDriverClaim]:
        """Keep payloads; the same payload twice is one object."""
        target = context.target
        owner = target.id if isinstance(target, StorageDriverWorkflowInfo) and target.id else "shared"
        return [await self._keep(session_folder(owner), payload) for payload in payloads]

    async def _keep(self, folder: str, payload: Payload) -> StorageDriverClaim:
        data = payload.SerializeToString(deterministic=True)
        path = f"{folder}/blobs/{sha256(data).hexdigest()}"
        await self.objects.put(path, data)
        return StorageDriverClaim({_PATH: path})

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        """Bring payloads back.

        Raises:
            CheckpointError: One is gone.
            StoreUnavailableError: The store cannot be reached or refuses.
        """
        return [await self._bring(claim.claim_data[_PATH]) for claim in claims]

    async def _bring(self, path: str) -> Payload:
        data = await self.objects.get(path)
        if data is None:
            raise CheckpointError(f"{path!r} is not in the store {self.objects.url!r} any more")
        return Payload.FromString(data)
