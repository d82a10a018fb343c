"""The object store beside Temporal: logs of closed runs, and payloads too large for history.

A folder, or a bucket of S3, Google Cloud or Azure, through `obstore`. Clients and workers that share sessions share one
store; it travels with the Temporal client, in its data converter (`sojourn.types.payload`).

    sessions/<workspace>/<session id>/runs/<run id>.jsonl    the log of a closed run
    sessions/<workspace>/<session id>/blobs/<sha256>         a payload
    index/<workspace>/…                                      closed sessions, for lists
    files/<workspace>/<file id>/…                            files (`sojourn.types.file_store`)
"""

from collections.abc import AsyncGenerator, AsyncIterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sojourn.types.error import InvalidRequestError, StoreUnavailableError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

STORE_VARIABLE = "SOJOURN_STORE_URL"
"""Environment variable that names the store of every process that is not told otherwise."""


_REMOTE: Any = {"retry_config": {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}}
"""The stock three minutes of silent retries would hide an outage: whoever calls us tries again, visibly."""

_CHUNK_BYTES = 1024 * 1024
_PART_BYTES = 8 * 1024 * 1024
"""S3 takes 10,000 parts of at least 5 MiB each."""
_PARTS_AT_A_TIME = 3


class Store:
    """Bytes by path. Every method may be repeated; writing replaces whole objects, so readers see all or nothing."""

    def __init__(self, url: str, objects: "ObjectStore") -> None:
        """Use an open store; see `open`."""
        self.url = url
        self._objects = objects

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    @classmethod
    def open(cls, url: str) -> "Store":
        """Open a store by URL; nothing is read or written yet, but a local folder is made.

        Args:
            url: A path, or ``file://``, ``s3://bucket/prefix``, ``gs://…``, ``az://…``, ``memory://``. Credentials come
                from the environment, as each cloud's own tools take them.

        Raises:
            InvalidRequestError: There is no such kind of store, or the extra is not installed.
        """
        try:
            from obstore.exceptions import BaseError
            from obstore.store import LocalStore, MemoryStore, from_url
        except ModuleNotFoundError:
            text = 'the object store needs obstore; run pip install "sojourn[store]"'
            raise InvalidRequestError(text, param="store") from None
        try:
            if "://" not in url:
                path = Path(url).expanduser().absolute()
                return cls(str(path), LocalStore(path, mkdir=True, automatic_cleanup=True))
            if url.startswith("file://"):
                return cls(url, LocalStore.from_url(url, mkdir=True, automatic_cleanup=True))
            return cls(url, MemoryStore() if url == "memory://" else from_url(url, **_REMOTE))
        except (BaseError, OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise InvalidRequestError(f"store {url!r} cannot be opened: {reason}", param="store") from None

    async def get(self, path: str) -> bytes | None:
        """The object, or ``None`` if there is none.

        Raises:
            StoreUnavailableError: The store cannot be reached or refuses.
        """
        import obstore

        with self._translated():
            try:
                found = await obstore.get_async(self._objects, path)
                return bytes(await found.bytes_async())
            except FileNotFoundError:
                return None

    async def put(self, path: str, data: bytes) -> None:
        """Write an object, or replace it.

        Raises:
            StoreUnavailableError: The store cannot be reached or refuses.
        """
        import obstore

        with self._translated():
            await obstore.put_async(self._objects, path, data)

    async def put_stream(self, path: str, chunks: AsyncIterable[bytes]) -> None:
        """Write an object from pieces, with some megabytes in memory at most. What fails or is cut off leaves nothing.

        Raises:
            StoreUnavailableError: The store cannot be reached or refuses. What ``chunks`` raises comes as it is.
        """
        import obstore

        source = _Source(chunks)
        try:
            with self._translated():
                await obstore.put_async(
                    self._objects, path, aiter(source), chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_A_TIME
                )
        except Exception:
            if source.failure is not None:
                raise source.failure from None
            raise

    async def get_stream(self, path: str) -> AsyncGenerator[bytes, None]:
        """The object in pieces of about a megabyte; none if there is no object.

        Raises:
            StoreUnavailableError: The store cannot be reached or refuses.
        """
        import obstore

        with self._translated():
            try:
                found = await obstore.get_async(self._objects, path)
            except FileNotFoundError:
                return
            async for chunk in found.stream(min_chunk_size=_CHUNK_BYTES):
                yield bytes(chunk)

    async def copy(self, source: str, target: str) -> bool:
        """Make another object of the same content, within the store; whether there was one to copy.

        Raises:
            StoreUnavailableError: The store cannot be reached or refuses.
        """
        import obstore

        with self._translated():
            try:
                await obstore.copy_async(self._objects, source, target)
            except FileNotFoundError:
                return False
            return True

    async def exists(self, path: str) -> bool:
        """Whether there is such an object.

        Raises:
            StoreUnavailableError: The store cannot be reached or refuses.
        """
        import obstore

        with self._translated():
            try:
                await obstore.head_async(self._objects, path)
            except FileNotFoundError:
                return False
            return True

    async def paths(self, folder: str, *, after: str | None = None) -> AsyncGenerator[str, None]:
        """Paths of all objects below a folder, those after ``after`` only; in no order.

        Raises:
            StoreUnavailableError: The store cannot be reached or refuses.
        """
        import obstore

        with self._translated():
            async for batch in obstore.list(self._objects, folder, offset=after):
                for each in batch:
                    yield each["path"]

    async def folders(self, folder: str) -> list[str]:
        """Names of what lies directly below a folder and is a folder itself; in order.

        Raises:
            StoreUnavailableError: The store cannot be reached or refuses.
        """
        import obstore

        with self._translated():
            found = await obstore.list_with_delimiter_async(self._objects, f"{folder}/")
            return sorted(path.rstrip("/").rpartition("/")[2] for path in found["common_prefixes"])

    async def delete(self, *paths: str) -> None:
        """Remove objects; those that do not exist count as removed.

        Raises:
            StoreUnavailableError: The store cannot be reached or refuses.
        """
        import obstore

        with self._translated():
            for path in paths:
                try:
                    await obstore.delete_async(self._objects, path)
                except FileNotFoundError:
                    continue

    async def delete_folder(self, folder: str) -> None:
        """Remove everything below a folder.

        Raises:
            StoreUnavailableError: The store cannot be reached or refuses.
        """
        await self.delete(*[path async for path in self.paths(folder)])

    @contextmanager
    def _translated(self) -> Iterator[None]:
        errors: tuple[type[Exception], ...] = (_base_error(), OSError)
        try:
            yield
        except errors as error:
            raise StoreUnavailableError(self.url, reason=_reason(error)) from None


class _Source:
    """Pieces on their way into the store, and what went wrong with them: the store would tell it in its own words."""

    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        self._chunks = chunks
        self.failure: Exception | None = None

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        try:
            async for chunk in self._chunks:
                yield chunk
        except Exception as error:
            self.failure = error
            raise


def _reason(error: Exception) -> str:
    """One line. What failed is said before the last dash, with an address that is longer than the cause."""
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    return line.rpartition(" - ")[2].rstrip(": ")[:300]


def _base_error() -> Any:
    from obstore.exceptions import BaseError

    return BaseError
