"""Mounting files and repositories into sessions: what is stored for it, and what the session's workflow is told."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from temporalio.client import Client

from sojourn.client.file import files_of, now, required
from sojourn.client.session import SessionStore
from sojourn.client.start import start_mark
from sojourn.types.error import ConflictError, InvalidRequestError, NotFoundError, SessionExistsError
from sojourn.types.file_error import FileExpiredError, FileMissingError, ResourceMissingError
from sojourn.types.id import ResourceId, SessionId, new_resource_id, new_session_id, workflow_id
from sojourn.types.name import CHANGE_RESOURCES_UPDATE
from sojourn.types.payload import store_of
from sojourn.types.resource import (
    MAX_RESOURCES,
    UPLOADS,
    ChangeResourcesInput,
    FileMount,
    FileResource,
    RepositoryMount,
    RepositoryResource,
    Resource,
    ResourceMount,
    default_path,
    path_conflict,
    token_context,
    token_path,
)
from sojourn.types.seal import Sealer
from sojourn.types.session import Owner
from sojourn.types.vault_error import VaultKeyMissingError

_REFUSED = (InvalidRequestError, NotFoundError, ConflictError)
"""What has not happened for sure. A call that was not answered may have been executed, and needs what was stored."""


@dataclass(frozen=True, slots=True)
class Mounted:
    """What a session is to be started with."""

    session_id: SessionId | None
    """``None`` leaves the choice to whoever starts it."""
    resources: tuple[Resource, ...] = ()


class ResourceStore:
    """Stores what sessions mount, and changes what is mounted."""

    def __init__(self, client: Client, sessions: SessionStore, *, sealer: Sealer | None = None) -> None:
        """Use a client; ``sealer`` is by default the one with the keys of ``SOJOURN_VAULT_KEYS``."""
        self._client = client
        self._sealer = sealer
        self._sessions = sessions
        self._files = files_of(client)
        self._store = store_of(client)

    @asynccontextmanager
    async def mounting(
        self, mounts: Sequence[ResourceMount], *, owner: Owner, session_id: SessionId | None
    ) -> AsyncGenerator[Mounted, None]:
        """Store what a session needs that is started in the block; if that fails, remove it again.

        Raises:
            FileStoreMissingError: A file is to be mounted, or a token to be kept, and there is no object store.
            InvalidRequestError: A file is unknown or two are to be in one place; names the path. Or a token cannot be
                sealed.
            SessionExistsError: The id is taken.
        """
        if not mounts:
            yield Mounted(session_id)
            return
        if len(mounts) > MAX_RESOURCES:
            raise InvalidRequestError(f"resources: up to {MAX_RESOURCES}", param="resources")
        if session_id is not None:
            await self._check_free(session_id, owner)
        chosen = session_id or new_session_id()
        done = await self._all_stored(mounts, owner, chosen)
        try:
            yield Mounted(chosen, done)
        except _REFUSED:
            await self._undo(done, owner, chosen)
            raise

    async def list(self, session_id: SessionId, owner: Owner) -> tuple[Resource, ...]:
        """What is mounted. Needs no worker."""
        return (await self._sessions.snapshot(session_id, owner)).resources

    async def get(self, session_id: SessionId, owner: Owner, resource_id: str) -> Resource:
        """One of them.

        Raises:
            ResourceMissingError: Nothing with this id is mounted.
        """
        for each in await self.list(session_id, owner):
            if each.id == resource_id:
                return each
        raise ResourceMissingError(resource_id)

    async def add(self, session_id: SessionId, owner: Owner, mount: ResourceMount) -> Resource:
        """Mount one more."""
        await self._sessions.locate(session_id, owner)
        made = await self._stored(mount, owner, session_id, path="")
        try:
            await self._change(session_id, owner, ChangeResourcesInput(add=(made,)))
        except _REFUSED:
            await self._undo([made], owner, session_id)
            raise
        return made

    async def rotate(self, session_id: SessionId, owner: Owner, resource_id: str, token: str) -> Resource:
        """Another token for a repository."""
        found = await self.get(session_id, owner, resource_id)
        if not isinstance(found, RepositoryResource):
            text = "authorization_token: only repositories have one"
            raise InvalidRequestError(text, param="authorization_token")
        await self._keep_token(owner, session_id, found.id, token)
        await self._change(session_id, owner, ChangeResourcesInput(rotated=(found.id,)))
        return found.model_copy(update={"has_token": True, "updated_at": now()})

    async def remove(self, session_id: SessionId, owner: Owner, resource_id: str) -> None:
        """Unmount one, and remove what was stored for it."""
        found = await self.get(session_id, owner, resource_id)
        await self._change(session_id, owner, ChangeResourcesInput(remove=(found.id,)))
        await self._undo([found], owner, session_id)

    # --- inside ----------------------------------------------------------------------------------------------------

    async def _all_stored(
        self, mounts: Sequence[ResourceMount], owner: Owner, session_id: SessionId
    ) -> tuple[Resource, ...]:
        done: list[Resource] = []
        try:
            for place, mount in enumerate(mounts):
                done.append(await self._stored(mount, owner, session_id, path=f"resources.{place}."))
            _check_places(done)
        except BaseException:
            await self._undo(done, owner, session_id)
            raise
        return tuple(done)

    async def _check_free(self, session_id: SessionId, owner: Owner) -> None:
        """Whether the session can be started at all, before anything is copied for it."""
        if await start_mark(self._client, workflow_id(owner.workspace, session_id)) is not None:
            raise SessionExistsError(session_id)

    async def _change(self, session_id: SessionId, owner: Owner, change: ChangeResourcesInput) -> None:
        await self._sessions.control(session_id, owner, CHANGE_RESOURCES_UPDATE, change)

    async def _stored(self, mount: ResourceMount, owner: Owner, session_id: SessionId, *, path: str) -> Resource:
        id, at = new_resource_id(), now()
        if isinstance(mount, FileMount):
            return await self._stored_file(mount, owner, session_id, id, at, path=path)
        return await self._stored_repository(mount, owner, session_id, id, at, path=path)

    async def _stored_file(
        self, mount: FileMount, owner: Owner, session_id: SessionId, id: ResourceId, at: datetime, *, path: str
    ) -> FileResource:
        files = required(self._files)
        param = f"{path}file_id"
        try:
            source = await files.find(mount.file_id, owner=owner)
            copy = await files.copy(source, owner=owner, session_id=session_id)
        except (FileMissingError, FileExpiredError) as error:
            raise InvalidRequestError(f"{param}: {error}", param=param, **_code(error)) from None
        return FileResource(
            id=id,
            file_id=copy.id,
            mount_path=mount.mount_path or f"{UPLOADS}/{copy.id}",
            created_at=at,
            updated_at=at,
        )

    async def _stored_repository(
        self, mount: RepositoryMount, owner: Owner, session_id: SessionId, id: ResourceId, at: datetime, *, path: str
    ) -> RepositoryResource:
        try:
            mount_path = mount.mount_path or default_path(mount.url)
        except ValueError:
            text = f"{path}mount_path: the repository's name is none that a folder can have; choose a path"
            raise InvalidRequestError(text, param=f"{path}mount_path") from None
        if mount.authorization_token is not None:
            await self._keep_token(owner, session_id, id, mount.authorization_token)
        return RepositoryResource(
            id=id,
            url=mount.url,
            checkout=mount.checkout,
            mount_path=mount_path,
            has_token=mount.authorization_token is not None,
            created_at=at,
            updated_at=at,
        )

    async def _keep_token(self, owner: Owner, session_id: SessionId, id: ResourceId, token: str) -> None:
        """Seal a token and store it beside the session's files; Temporal never sees it."""
        sealer = self._sealer or Sealer.from_environment()
        if sealer is None:
            raise VaultKeyMissingError
        required(self._files)
        assert self._store is not None
        owned_by = workflow_id(owner.workspace, session_id)
        sealed = sealer.seal(token, context=token_context(owned_by, id))
        await self._store.put(token_path(owned_by, id), sealed.encode())

    async def _undo(self, resources: Sequence[Resource], owner: Owner, session_id: SessionId) -> None:
        owned_by = workflow_id(owner.workspace, session_id)
        for each in resources:
            if isinstance(each, FileResource):
                try:
                    await required(self._files).delete(each.file_id, owner=owner)
                except (FileMissingError, FileExpiredError):
                    continue
            elif each.has_token and self._store is not None:
                await self._store.delete(token_path(owned_by, each.id))


def _check_places(resources: Sequence[Resource]) -> None:
    if (conflict := path_conflict(each.mount_path for each in resources)) is not None:
        first, second = conflict
        place = max(index for index, each in enumerate(resources) if each.mount_path in (first, second))
        path = f"resources.{place}.mount_path"
        raise InvalidRequestError(f"{path}: {second!r} is taken, or lies inside {first!r}", param=path)


def _code(error: FileMissingError | FileExpiredError) -> dict[str, str]:
    return {"code": error.code} if isinstance(error, FileExpiredError) else {}
