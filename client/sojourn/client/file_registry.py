"""The files' part of `AgentRuntime`."""

import asyncio
import os
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from sojourn.client.file import Content, name_of, pieces, required, watched
from sojourn.client.listing import Page, check_limit
from sojourn.client.reading import Session, SessionReads
from sojourn.types.error import InvalidRequestError
from sojourn.types.file import MAX_FILE_BYTES, FileMetadata
from sojourn.types.file_error import FileNotDownloadableError
from sojourn.types.file_store import FilePage, FileStore, Life
from sojourn.types.id import FileId
from sojourn.types.session import Owner

AnyFile = FileMetadata | FileId | str

MAX_IDS = 100


def _quiet(size_bytes: int) -> None:
    """Tells nobody."""


class FileRegistry(SessionReads):
    """Uploads, lists and downloads files. They are in the object store, and need no worker.

    Uploads belong to the whole workspace. Files of a session (copies of what is mounted, and what the agent writes) are
    seen by the session's owner alone, and go with the session.
    """

    owner: Owner
    _files: FileStore | None

    async def upload_file(
        self,
        content: Content,
        *,
        filename: str | None = None,
        mime_type: str | None = None,
        expires_in: Life = None,
        downloadable: bool = True,
        progress: Callable[[int], None] = _quiet,
        limit_bytes: int = MAX_FILE_BYTES,
        owner: Owner | None = None,
    ) -> FileMetadata:
        """Store a file. It is there when this returns; an upload that fails or is cut off leaves nothing.

        Args:
            content: A path, bytes, an open file, or pieces.
            filename: What it is called; by default the name of the path. Only the last part of a path counts.
            mime_type: Its media type; by default after the ending of its name.
            expires_in: Remove it after an hour to 90 days; ``None`` keeps it. A function is asked at the end.
            downloadable: Whether its content is given out again; sessions can use it in any case.
            progress: Hears how many bytes have gone on their way since the last call.
            limit_bytes: The largest file that is taken.
            owner: Whose workspace; by default the runtime's.

        Raises:
            FileStoreMissingError: This process has no object store.
            FileTooLargeError: It is over the limit, by default 500 MiB.
            InvalidRequestError: It cannot be read, or the time to live is too short or too long.
            StoreUnavailableError: The store cannot be reached or refuses.
        """
        return await required(self._files).write(
            watched(pieces(content), progress),
            owner=owner or self.owner,
            filename=filename or name_of(content),
            mime_type=mime_type,
            expires_in=expires_in,
            downloadable=downloadable,
            limit_bytes=limit_bytes,
        )

    async def get_file(self, file: AnyFile, *, owner: Owner | None = None) -> FileMetadata:
        """A file, without its content.

        Raises:
            FileExpiredError: Its time is over.
            FileMissingError: There is none, or it is another owner's.
        """
        return await required(self._files).find(_id(file), owner=owner or self.owner)

    async def list_files(
        self,
        *,
        session: Session | None = None,
        ids: Sequence[FileId | str] | None = None,
        limit: int = 20,
        page: str | None = None,
        owner: Owner | None = None,
    ) -> Page[FileMetadata]:
        """Files that there are, newest first.

        Args:
            session: Only those of this session.
            ids: Those of these that there are, up to 100; ``limit`` and ``page`` then count for nothing.
            limit: Entries on a page, 1 to 1000.
            page: Cursor from the page before.
            owner: Whose; by default the handle's or the runtime's.

        Raises:
            InvalidRequestError: The limit is none, or there are too many ids.
            SessionNotFoundError: There is no such session, or it is another owner's.
        """
        if ids is not None:
            if len(set(ids)) > MAX_IDS:
                raise InvalidRequestError(f"ids: up to {MAX_IDS}", param="ids")
            return Page(list(await required(self._files).some(ids, owner=owner or self.owner)), None)
        found = await self.file_page(session=session, limit=limit, after=page, owner=owner)
        return Page(list(found.data), found.data[-1].id if found.has_more else None)

    async def file_page(
        self,
        *,
        session: Session | None = None,
        limit: int = 20,
        after: str | None = None,
        before: str | None = None,
        owner: Owner | None = None,
    ) -> FilePage:
        """`list_files` between ids: those older than ``after``, or the nearest that are newer than ``before``."""
        check_limit(limit)
        session_id = None
        if session is not None:
            session_id, owner = self._session(session, owner)
            await self._sessions.locate(session_id, owner)
        return await required(self._files).page(
            owner=owner or self.owner, session_id=session_id, limit=limit, after=after, before=before
        )

    async def open_file(self, file: AnyFile, *, owner: Owner | None = None) -> AsyncGenerator[bytes, None]:
        """The content of a file, in pieces.

        Raises:
            FileExpiredError: Its time is over.
            FileMissingError: There is none, or it is another owner's.
            FileNotDownloadableError: Its content is not given out.
        """
        meta = file if isinstance(file, FileMetadata) else await self.get_file(file, owner=owner)
        if not meta.downloadable:
            raise FileNotDownloadableError(meta.id)
        async for chunk in required(self._files).read(meta, owner=owner or self.owner):
            yield chunk

    async def read_file(self, file: AnyFile, *, owner: Owner | None = None) -> bytes:
        """The whole content of a file. Raises what `open_file` does."""
        return b"".join([chunk async for chunk in self.open_file(file, owner=owner)])

    async def download_file(
        self,
        file: AnyFile,
        path: Path | str,
        *,
        progress: Callable[[int], None] = _quiet,
        owner: Owner | None = None,
    ) -> FileMetadata:
        """Write the content of a file to a path, whole or not at all. Raises what `open_file` does.

        Args:
            file: Which file.
            path: Where to; what is there is replaced.
            progress: Hears how many bytes have come since the last call.
            owner: Whose; by default the runtime's.

        Raises:
            InvalidRequestError: Nothing can be written there.
        """
        meta = await self.get_file(file, owner=owner)
        chunks = watched(self.open_file(meta, owner=owner), progress)
        try:
            await _save(chunks, path)
        except OSError as error:
            raise InvalidRequestError(f"{str(path)!r} cannot be written: {error.strerror or error}") from None
        return meta

    async def delete_file(self, file: AnyFile, *, owner: Owner | None = None) -> None:
        """Remove a file. Sessions keep the copies they have.

        Raises:
            FileMissingError: There is none, or it is another owner's, or it was deleted before.
        """
        await required(self._files).delete(_id(file), owner=owner or self.owner)


async def _save(chunks: AsyncGenerator[bytes, None], path: Path | str) -> None:
    target, file, part = await asyncio.to_thread(_part_of, path)
    try:
        with file:
            async for chunk in chunks:
                await asyncio.to_thread(file.write, chunk)
        os.replace(part, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(part)
        raise


def _part_of(path: Path | str) -> tuple[Path, BinaryIO, Path]:
    """Where the file will be, and what is written until it is whole."""
    target = Path(path).expanduser()
    part = target.with_name(f".{target.name[:100]}.{uuid.uuid4().hex}")
    return target, part.open("xb"), part


def _id(file: AnyFile) -> str:
    return file.id if isinstance(file, FileMetadata) else file
