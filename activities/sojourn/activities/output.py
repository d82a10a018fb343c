"""What the agent writes to the folder for outputs becomes files of the session."""

import asyncio
import os
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from pydantic import ValidationError
from temporalio import activity
from temporalio.client import Client

from sojourn.activities.workspace_folder import WorkspaceFolder
from sojourn.sandbox import tree
from sojourn.sandbox.slot import write_whole
from sojourn.types.chain import described_run
from sojourn.types.file import MAX_FILE_BYTES, FileMetadata
from sojourn.types.file_error import FileTooLargeError
from sojourn.types.file_store import FileStore
from sojourn.types.id import SessionId
from sojourn.types.payload import store_of
from sojourn.types.session import Owner, SessionInput
from sojourn.types.session_error import ErrorDetail, RetryStatus
from sojourn.types.store import Store
from sojourn.types.wire import Wire

_RECORD = "outputs.json"
_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class OutputLimits:
    """Bounds of the outputs of one session."""

    files: int = 1000
    file_bytes: int = MAX_FILE_BYTES
    total_bytes: int = 4 * 1024**3


DEFAULT_LIMITS = OutputLimits()


class SeenOutput(Wire):
    """A file as it was when it was looked at, so that one that has not changed is not read again."""

    facts: tuple[int, ...]
    sha256: str


class OutputRecord(Wire):
    """What was seen, by path."""

    seen: dict[str, SeenOutput] = {}


@dataclass(frozen=True, slots=True)
class _Output:
    path: str
    facts: tuple[int, ...]
    """Number, size and times; the last of which no program can set."""

    @property
    def size_bytes(self) -> int:
        return self.facts[1]


class Outputs:
    """Makes files of sessions out of what their agents have written; see `Harvest`.

    Safe to repeat: what is stored already is known by its content. Links are never followed.

    Args:
        client: The worker's.
        limits: Bounds of one session's outputs.
    """

    def __init__(self, client: Client, *, limits: OutputLimits = DEFAULT_LIMITS) -> None:
        self._client = client
        self._store = store_of(client)
        self._limits = limits

    async def harvest(self, start: SessionInput, folder: WorkspaceFolder) -> tuple[ErrorDetail, ...]:
        """See `Harvest`.

        Raises:
            StoreUnavailableError: The store cannot be reached or refuses.
        """
        found, left_out = await asyncio.to_thread(self._found, folder)
        if not found and not left_out:
            return ()
        if self._store is None:
            return (_detail("outputs become no files, because the worker has no object store; set SOJOURN_STORE_URL"),)
        keeper = _Keeper(self._store, start.owner, start.session_id, folder)
        left_out += await keeper.keep(found, limit_bytes=self._limits.file_bytes)
        if keeper.wrote and await self._is_gone():
            await keeper.forget()
        return (_detail(_told(left_out, self._limits)),) if left_out else ()

    def _found(self, folder: WorkspaceFolder) -> tuple[list[_Output], list[str]]:
        """The files, and what is left out because there is too much. Blocks."""
        found: list[_Output] = []
        left_out: list[str] = []
        total = 0
        for entry in tree.walk(folder.outputs, skipped=left_out.append):
            if not entry.is_file:
                continue
            told = entry.stat
            fits = len(found) < self._limits.files and told.st_size <= self._limits.file_bytes
            if not fits or total + told.st_size > self._limits.total_bytes or not _is_plain(entry.path):
                left_out.append(entry.path)
                continue
            total += told.st_size
            found.append(_Output(entry.path, (told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns)))
        return found, left_out

    async def _is_gone(self) -> bool:
        """Whether the session was deleted meanwhile: off the server first, and only then is the store emptied."""
        info = activity.info()
        return await described_run(self._client, info.workflow_id or "", info.workflow_run_id or "") is None


class _Keeper:
    """Stores the outputs of one session."""

    def __init__(self, store: Store, owner: Owner, session_id: SessionId, folder: WorkspaceFolder) -> None:
        self._store = store
        self._files = FileStore(store, clock=lambda: datetime.now(UTC))
        self._owner = owner
        self._session_id = session_id
        self._folder = folder
        self.wrote = False

    async def keep(self, found: list[_Output], *, limit_bytes: int) -> list[str]:
        """Store what is new or has changed; what could not be read."""
        seen = (await asyncio.to_thread(_read, self._folder)).seen
        stored = await self._stored()
        now: dict[str, SeenOutput] = {}
        left_out: list[str] = []
        for each in found:
            before = seen.get(each.path)
            try:
                digest = before.sha256 if before and before.facts == each.facts else await self._digest(each)
                if not any(meta.sha256 == digest for meta in stored.get(each.path, ())):
                    digest = await self._replace(each, stored, limit_bytes)
            except (OSError, FileTooLargeError):
                left_out.append(each.path)
                continue
            await self._remove(meta for meta in stored.get(each.path, ()) if meta.sha256 != digest)
            now[each.path] = SeenOutput(facts=each.facts, sha256=digest)
        await asyncio.to_thread(_write, self._folder, OutputRecord(seen=now))
        return left_out

    async def forget(self) -> None:
        """Remove all of it again."""
        workspace, session_id = self._owner.workspace, self._session_id
        await self._files.forget_session(workspace, session_id)
        await self._store.delete_folder(f"sessions/{workspace}/{session_id}/files")

    async def _replace(self, output: _Output, stored: dict[str, list[FileMetadata]], limit_bytes: int) -> str:
        self.wrote = True
        made = await self._files.write_output(
            _pieces(self._folder.outputs, output.path, limit_bytes),
            owner=self._owner,
            session_id=self._session_id,
            path=output.path,
        )
        stored.setdefault(output.path, []).append(made)
        return made.sha256

    async def _remove(self, outdated: Iterable[FileMetadata]) -> None:
        for meta in outdated:
            await self._files.remove(meta, workspace=self._owner.workspace)

    async def _stored(self) -> dict[str, list[FileMetadata]]:
        page = await self._files.page(owner=self._owner, session_id=self._session_id, limit=None)
        found: dict[str, list[FileMetadata]] = {}
        for meta in page.data:
            if meta.origin == "output":
                found.setdefault(meta.filename, []).append(meta)
        return found

    async def _digest(self, output: _Output) -> str:
        seen = sha256()
        async for chunk in _pieces(self._folder.outputs, output.path, output.size_bytes + 1):
            seen.update(chunk)
        return seen.hexdigest()


async def _pieces(root: Path, path: str, limit_bytes: int) -> AsyncGenerator[bytes, None]:
    """The content of a file as it is now, up to so many bytes: it may be written to meanwhile, without end."""
    handle = await asyncio.to_thread(tree.open_file, root, path)
    with os.fdopen(handle, "rb") as file:
        left = limit_bytes
        while left > 0 and (chunk := await asyncio.to_thread(file.read, min(_CHUNK, left))):
            left -= len(chunk)
            yield chunk


def _is_plain(path: str) -> bool:
    """Whether the path can be told to everybody: names of files may be any bytes."""
    return path.isprintable() and len(path) <= 1024


def _told(left_out: list[str], limits: OutputLimits) -> str:
    some = ", ".join(repr(path)[:200] for path in left_out[:5]) + (" …" if len(left_out) > 5 else "")
    limit = f"{limits.files:,} files, {limits.file_bytes:,} bytes each, {limits.total_bytes:,} together"
    return f"{len(left_out):,} outputs became no files of the session: {some}; the limits are {limit}"


def _detail(text: str) -> ErrorDetail:
    return ErrorDetail(type="output_error", message=text, retry_status=RetryStatus(type="retrying"))


def _read(folder: WorkspaceFolder) -> OutputRecord:
    try:
        return OutputRecord.model_validate_json((folder.path / _RECORD).read_bytes(), extra="ignore")
    except (FileNotFoundError, ValidationError):
        return OutputRecord()


def _write(folder: WorkspaceFolder, record: OutputRecord) -> None:
    write_whole(folder.path / _RECORD, record.model_dump_json().encode())
