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
from sojourn.types.error import CheckpointError, StoreMissingError
from sojourn.types.store import Store

THRESHOLD_BYTES = 128 * 1024
"""Smaller payloads stay in history, where they cost nothing to read."""

INLINE_LIMIT_BYTES = 2 * 1024 * 1024
"""The server's limit of one payload (``limit.blobSize.error``): what fits where there is no store."""

STORED_LIMIT_BYTES = 32 * 1024 * 1024
"""What one payload may hold where there is one: it is still read whole, by the workflow and every reader."""

_FOLDERS = {"agent": "agents", "depl": "deployments", "drun": "deployments", "vlt": "vaults"}
_PATH = "path"
_NAME = "sojourn"


def session_folder(workflow_id: str) -> str:
    """The folder of the store that holds everything about one session, agent, vault, or deployment and its runs."""
    kind = _FOLDERS.get(workflow_id.rpartition("/")[2].partition("_")[0], "sessions")
    return f"{kind}/{workflow_id}"


def checkpoint_folder(workflow_id: str, first_run_id: str) -> str:
    """The folder with the stored workspaces of a session. Another session may have its id after it was deleted."""
    return f"{session_folder(workflow_id)}/workspaces/{first_run_id}"


def storing(store: Store | None, *, owner: str = "") -> DataConverter:
    """The data converter of a process that uses this store.

    Args:
        store: ``None`` writes everything into history, and meets a reference with `StoreMissingError`.
        owner: Workflow id of the session that payloads belong to where the SDK does not know it.
    """
    driver: StorageDriver = PayloadDriver(store, owner=owner) if store is not None else _NoStore()
    threshold = THRESHOLD_BYTES if store is not None else _NEVER_BYTES
    storage = ExternalStorage(drivers=[driver], payload_size_threshold=threshold)
    return dataclasses.replace(data_converter, external_storage=storage)


def store_of(client: Client) -> Store | None:
    """The store that a client was connected with, or ``None``."""
    driver = driver_of(client)
    return driver.objects if driver is not None else None


def driver_of(client: Client) -> "PayloadDriver | None":
    """The driver of the client's store, or ``None``."""
    storage = client.data_converter.external_storage
    drivers = storage.drivers if storage is not None else ()
    return next((driver for driver in drivers if isinstance(driver, PayloadDriver)), None)


def limit_bytes(client: Client) -> int:
    """The largest payload that this client or worker may write."""
    return INLINE_LIMIT_BYTES if store_of(client) is None else STORED_LIMIT_BYTES


def inline(client: Client) -> DataConverter:
    """The client's data converter without the store: its payloads are the whole values."""
    return dataclasses.replace(client.data_converter, external_storage=None)


class PayloadDriver(StorageDriver):
    """Keeps payloads by their content, in the folder of the session that they belong to."""

    def __init__(self, store: Store, *, owner: str = "") -> None:
        self.objects = store
        self._owner = owner
        self._uploaded: set[str] = set()

    def name(self) -> str:
        """Part of every reference; it must never change."""
        return _NAME

    async def store(self, context: StorageDriverStoreContext, payloads: Sequence[Payload]) -> list[StorageDriverClaim]:
        """Keep payloads; the same payload twice is one object."""
        target = context.target
        owner = target.id if isinstance(target, StorageDriverWorkflowInfo) and target.id else self._owner
        return [await self._keep(owner or "shared", payload) for payload in payloads]

    async def upload(self, workflow_id: str, payload: Payload) -> None:
        """Keep a payload that is about to be written by the SDK, which then finds it done.

        For activities: the SDK writes their results when nothing beats any more, and an upload takes its time.
        """
        path, data = _addressed(workflow_id, payload)
        await self.objects.put(path, data)
        self._uploaded.add(path)

    async def _keep(self, workflow_id: str, payload: Payload) -> StorageDriverClaim:
        path, data = _addressed(workflow_id, payload)
        # Once: the session may be deleted, and another of its id write the same again.
        if path in self._uploaded:
            self._uploaded.discard(path)
        else:
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


def _addressed(workflow_id: str, payload: Payload) -> tuple[str, bytes]:
    data = payload.SerializeToString(deterministic=True)
    return f"{session_folder(workflow_id)}/blobs/{sha256(data).hexdigest()}", data


_NEVER_BYTES = 2**62


class _NoStore(StorageDriver):
    """Stands where a store would, to say what is missing when there is something to bring back."""

    def name(self) -> str:
        return _NAME

    async def store(self, context: StorageDriverStoreContext, payloads: Sequence[Payload]) -> list[StorageDriverClaim]:
        raise StoreMissingError

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        raise StoreMissingError
