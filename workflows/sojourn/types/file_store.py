"""Files in the object store. Whatever has no metadata yet, or any more, does not exist: that is written last.

files/<workspace>/<file id>/meta.json                          a file, the session's too
files/<workspace>/<file id>/content                            content of those of the workspace
sessions/<workspace>/<session id>/files/<file id>              content of those of a session
expiring/<hour>/<workspace>/<file id>                          what is to be removed after that hour
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import ValidationError

from sojourn.types.error import CheckpointError
from sojourn.types.file import (
    MAX_FILE_BYTES,
    FileMetadata,
    check_life,
    checked_media_type,
    checked_name,
)
from sojourn.types.file_error import FileExpiredError, FileMissingError, FileTooLargeError
from sojourn.types.id import FileId, SessionId, new_file_id
from sojourn.types.session import Owner
from sojourn.types.store import Store

Clock = Callable[[], datetime]

Life = timedelta | Callable[[], timedelta | None] | None
"""How long a file is kept: known at once, or when all of it has come; ``None`` is for good."""

_AT_A_TIME = 16
_HOUR = "%Y-%m-%dT%H"
_SWEEP_EVERY = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class FilePage:
    """A part of a list, newest first."""

    data: tuple[FileMetadata, ...]
    has_more: bool
    """Whether there is more in the direction of the reading."""


class FileStore:
    """Reads and writes files. Every method may be repeated."""

    def __init__(self, store: Store, *, clock: Clock) -> None:
        """Use a store; ``clock`` tells the time, in UTC."""
        self._store = store
        self._clock = clock
        self._swept_at: datetime | None = None

    async def write(
        self,
        chunks: AsyncIterable[bytes],
        *,
        owner: Owner,
        filename: str | None,
        mime_type: str | None = None,
        expires_in: Life = None,
        downloadable: bool = True,
        limit_bytes: int = MAX_FILE_BYTES,
    ) -> FileMetadata:
        """Store a file of the workspace. It is there when this returns; what fails or is cut off leaves nothing.

        Raises:
            FileTooLargeError: There is more than the limit.
            InvalidRequestError: The time to live is too short or too long.
            StoreUnavailableError: The store cannot be reached or refuses.
        """
        if not callable(expires_in):
            check_life(expires_in)
        await self._sweep()
        name = checked_name(filename, mime_type=mime_type)
        meta = FileMetadata(
            id=new_file_id(),
            filename=name,
            mime_type=checked_media_type(mime_type, filename=name),
            size_bytes=0,
            sha256="",
            created_at=self._clock(),
            downloadable=downloadable,
        )
        return await self._keep(chunks, owner.workspace, meta, life=expires_in, limit_bytes=limit_bytes)

    async def write_output(
        self, chunks: AsyncIterable[bytes], *, owner: Owner, session_id: SessionId, path: str
    ) -> FileMetadata:
        """Store what an agent has written. The same errors as `write`."""
        meta = FileMetadata(
            id=new_file_id(),
            filename=path,
            mime_type=checked_media_type(None, filename=path),
            size_bytes=0,
            sha256="",
            created_at=self._clock(),
            origin="output",
            session_id=session_id,
            user=owner.user,
        )
        return await self._keep(chunks, owner.workspace, meta)

    async def copy(self, source: FileMetadata, *, owner: Owner, session_id: SessionId) -> FileMetadata:
        """Store the same content as a file of a session.

        Raises:
            FileMissingError: The content has gone meanwhile.
            StoreUnavailableError: The store cannot be reached or refuses.
        """
        update: dict[str, object] = {
            "id": new_file_id(),
            "created_at": self._clock(),
            "expires_at": None,
            "origin": "mount",
            "session_id": session_id,
            "user": owner.user,
        }
        meta = source.model_copy(update=update)
        if not await self._store.copy(content_path(owner.workspace, source), content_path(owner.workspace, meta)):
            raise FileMissingError(source.id)
        await self._publish(owner.workspace, meta)
        return meta

    async def find(self, file_id: str, *, owner: Owner) -> FileMetadata:
        """A file that there is.

        Raises:
            CheckpointError: A newer release wrote it.
            FileExpiredError: Its time is over.
            FileMissingError: There is none, or it is another owner's.
            StoreUnavailableError: The store cannot be reached or refuses.
        """
        meta = await self._meta(owner.workspace, file_id)
        if meta is None or meta.user not in (None, owner.user):
            raise FileMissingError(file_id)
        if meta.is_expired(self._clock()):
            assert meta.expires_at is not None
            await self._store.delete(content_path(owner.workspace, meta))
            raise FileExpiredError(file_id, expired_at=meta.expires_at)
        return meta

    async def read(self, meta: FileMetadata, *, owner: Owner) -> AsyncGenerator[bytes, None]:
        """The content in pieces.

        Raises:
            FileMissingError: It was deleted meanwhile.
            StoreUnavailableError: The store cannot be reached or refuses.
        """
        size = 0
        async for chunk in self._store.get_stream(content_path(owner.workspace, meta)):
            size += len(chunk)
            yield chunk
        if size != meta.size_bytes:
            raise FileMissingError(meta.id)

    async def delete(self, file_id: str, *, owner: Owner) -> None:
        """Remove a file, expired or not.

        Raises:
            FileMissingError: There is none, or it is another owner's.
            StoreUnavailableError: The store cannot be reached or refuses.
        """
        meta = await self._meta(owner.workspace, file_id)
        if meta is None or meta.user not in (None, owner.user):
            raise FileMissingError(file_id)
        await self.remove(meta, workspace=owner.workspace)

    async def remove(self, meta: FileMetadata, *, workspace: str) -> None:
        """Remove a file that was found; nothing happens if it is gone."""
        await self._store.delete(_meta_path(workspace, meta.id), content_path(workspace, meta))

    async def forget_session(self, workspace: str, session_id: SessionId) -> None:
        """Remove what is known of a session's files; their contents go with the session's folder."""
        for file_id in await self._ids(workspace, session_id):
            await self._store.delete(_meta_path(workspace, file_id))

    async def some(self, file_ids: Sequence[str], *, owner: Owner) -> tuple[FileMetadata, ...]:
        """Those of these files that there are, newest first."""
        ids = sorted(set(file_ids), reverse=True)
        return tuple(await self._visible(ids, owner))

    async def page(
        self,
        *,
        owner: Owner,
        session_id: SessionId | None = None,
        limit: int | None,
        after: str | None = None,
        before: str | None = None,
    ) -> FilePage:
        """Files, newest first.

        Args:
            owner: Who asks.
            session_id: Only those of this session.
            limit: How many at most; ``None`` is all.
            after: Those older than the file with this id.
            before: Those newer than the file with this id, the nearest ones; ``after`` then counts for nothing.
        """
        ids = sorted(await self._ids(owner.workspace, session_id), reverse=True)
        if before is not None:
            ids = [id for id in reversed(ids) if id > before]
        elif after is not None:
            ids = [id for id in ids if id < after]
        wanted = len(ids) if limit is None else limit
        found: list[FileMetadata] = []
        place = 0
        while place < len(ids) and len(found) <= wanted:
            batch = ids[place : place + max(wanted + 1 - len(found), _AT_A_TIME)]
            found += await self._visible(batch, owner)
            place += len(batch)
        shown = found[:wanted]
        return FilePage(tuple(reversed(shown) if before is not None else shown), has_more=len(found) > wanted)

    # --- inside ----------------------------------------------------------------------------------------------------

    async def _keep(
        self,
        chunks: AsyncIterable[bytes],
        workspace: str,
        meta: FileMetadata,
        *,
        life: Life = None,
        limit_bytes: int = MAX_FILE_BYTES,
    ) -> FileMetadata:
        count = _Count(chunks, limit_bytes)
        await self._store.put_stream(content_path(workspace, meta), aiter(count))
        kept = life() if callable(life) else life
        update: dict[str, object] = {
            "size_bytes": count.size_bytes,
            "sha256": count.digest.hexdigest(),
            "expires_at": meta.created_at + kept if kept is not None else None,
        }
        meta = meta.model_copy(update=update)
        await self._publish(workspace, meta)
        return meta

    async def _publish(self, workspace: str, meta: FileMetadata) -> None:
        if meta.expires_at is not None:
            # The hour after, so that everything in a folder of the past is over.
            hour = f"{meta.expires_at + timedelta(hours=1):{_HOUR}}"
            await self._store.put(f"expiring/{hour}/{workspace}/{meta.id}", b"")
        await self._store.put(_meta_path(workspace, meta.id), meta.model_dump_json().encode())

    async def _sweep(self) -> None:
        """Remove the contents of what has expired; what is known of it stays, to tell that it has."""
        now = self._clock()
        if self._swept_at is not None and now - self._swept_at < _SWEEP_EVERY:
            return
        self._swept_at = now
        for hour in await self._store.folders("expiring"):
            if hour < f"{now:{_HOUR}}":
                async for mark in self._store.paths(f"expiring/{hour}"):
                    workspace, _, file_id = mark.removeprefix(f"expiring/{hour}/").partition("/")
                    await self._store.delete(f"files/{workspace}/{file_id}/content", mark)

    async def _ids(self, workspace: str, session_id: SessionId | None) -> list[FileId]:
        if session_id is None:
            return [FileId(id) for id in await self._store.folders(f"files/{workspace}")]
        folder = f"sessions/{workspace}/{session_id}/files"
        return [FileId(path.rpartition("/")[2]) async for path in self._store.paths(folder)]

    async def _visible(self, ids: Sequence[str], owner: Owner) -> list[FileMetadata]:
        some = asyncio.Semaphore(_AT_A_TIME)

        async def one(id: str) -> FileMetadata | None:
            async with some:
                return await self._meta(owner.workspace, id)

        now = self._clock()
        found = await asyncio.gather(*map(one, ids))
        return [meta for meta in found if meta and not meta.is_expired(now) and meta.user in (None, owner.user)]

    async def _meta(self, workspace: str, file_id: str) -> FileMetadata | None:
        if not file_id.startswith("file_") or not file_id.removeprefix("file_").isalnum():
            return None
        path = _meta_path(workspace, FileId(file_id))
        data = await self._store.get(path)
        if data is None:
            return None
        try:
            return FileMetadata.model_validate_json(data, extra="ignore")
        except ValidationError:
            raise CheckpointError(
                f"{path!r} in the store {self._store.url!r} cannot be read; a newer release may"
            ) from None


class _Count:
    """Measures pieces on their way, and stops where there are too many."""

    def __init__(self, chunks: AsyncIterable[bytes], limit_bytes: int) -> None:
        self._chunks = chunks
        self._limit_bytes = limit_bytes
        self.size_bytes = 0
        self.digest = hashlib.sha256()

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        async for chunk in self._chunks:
            self.size_bytes += len(chunk)
            if self.size_bytes > self._limit_bytes:
                raise FileTooLargeError(limit_bytes=self._limit_bytes)
            self.digest.update(chunk)
            yield chunk


def content_path(workspace: str, meta: FileMetadata) -> str:
    """Where a file's content lies."""
    if meta.session_id is not None:
        return f"sessions/{workspace}/{meta.session_id}/files/{meta.id}"
    return f"files/{workspace}/{meta.id}/content"


def _meta_path(workspace: str, file_id: FileId) -> str:
    return f"files/{workspace}/{file_id}/meta.json"
