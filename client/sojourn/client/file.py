"""What can be uploaded: paths, bytes, open files, and pieces that come one after the other."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from temporalio.client import Client

from sojourn.types.error import InvalidRequestError
from sojourn.types.file_error import FileStoreMissingError
from sojourn.types.file_store import FileStore
from sojourn.types.payload import store_of

Content = Path | str | bytes | BinaryIO | AsyncIterable[bytes]
"""A path, the bytes themselves, a file that is open for reading bytes, or pieces."""

_CHUNK_BYTES = 1024 * 1024


def files_of(client: Client) -> FileStore | None:
    """The files in the store that a client was connected with, or ``None``."""
    store = store_of(client)
    return FileStore(store, clock=now) if store is not None else None


def required(files: FileStore | None) -> FileStore:
    """The files.

    Raises:
        FileStoreMissingError: There is no store.
    """
    if files is None:
        raise FileStoreMissingError
    return files


def now() -> datetime:
    """The time."""
    return datetime.now(UTC)


def name_of(content: Content) -> str | None:
    """What a file is called where nobody says."""
    if isinstance(content, Path | str):
        return Path(content).name
    name = getattr(content, "name", None)
    return Path(name).name if isinstance(name, str) else None


async def pieces(content: Content) -> AsyncGenerator[bytes, None]:
    """The content, piece by piece.

    Raises:
        InvalidRequestError: There is no such file, or it cannot be read.
    """
    if isinstance(content, bytes):
        for start in range(0, len(content), _CHUNK_BYTES):
            yield content[start : start + _CHUNK_BYTES]
    elif isinstance(content, Path | str):
        try:
            with await asyncio.to_thread(_open, content) as file:
                async for chunk in _read(file):
                    yield chunk
        except OSError as error:
            raise InvalidRequestError(f"{str(content)!r} cannot be read: {error.strerror or error}") from None
    elif isinstance(content, AsyncIterable):
        async for chunk in content:
            yield chunk
    else:
        async for chunk in _read(content):
            yield chunk


def _open(path: Path | str) -> BinaryIO:
    return Path(path).expanduser().open("rb")


async def _read(file: BinaryIO) -> AsyncGenerator[bytes, None]:
    while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
        yield chunk


async def watched(chunks: AsyncIterable[bytes], heard: Callable[[int], None]) -> AsyncGenerator[bytes, None]:
    """The pieces, each told by its size when it is taken."""
    async for chunk in chunks:
        yield chunk
        heard(len(chunk))
