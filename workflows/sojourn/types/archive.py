"""The archive: logs of closed runs in the object store, where they outlive the server's retention.

A segment is one run: its records, as the server held them. Readers number them with the same cursor as records from
the server, so the two sources cannot disagree.

    sessions/<workspace>/<session id>/runs/<run id>.jsonl    a segment
    sessions/<workspace>/<session id>/session.json           what lists show of a session that has ended
    sessions/<workspace>/<session id>/deleting.json          somebody deletes the session
    index/<workspace>/<key>-<session id>.json                the same as session.json, the latest end first
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from temporalio.client import Client

from sojourn.types.error import CheckpointError
from sojourn.types.history import RunDecoder, Stored, cursor_at
from sojourn.types.mcp import ListMcpToolsInput, ListMcpToolsResult
from sojourn.types.payload import checkpoint_folder, session_folder, store_of
from sojourn.types.record import (
    CallModelInput,
    CallModelResult,
    CompactContextInput,
    CompactContextResult,
    Record,
    RunToolInput,
    RunToolResult,
    Said,
    UserEvents,
)
from sojourn.types.session import Owner, SessionInfo, SessionInput
from sojourn.types.store import Store
from sojourn.types.wire import Wire

K = TypeVar("K", bound=str)
R = TypeVar("R", bound=Record)

FORMAT = 1
"""Version of the segments that this release writes; it reads all up to it."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_END_OF_TIME = 10**16
"""In microseconds: the year 2286."""


class SegmentHeader(Wire):
    """The first line of a segment."""

    format: int = FORMAT
    run_id: str
    first_run_id: str
    previous_run_id: str = ""
    """The run it continues, or ``""``."""
    next_run_id: str = ""
    """The run that continues it, or ``""``."""
    closed: bool = False
    """Whether the session ended with this run."""
    start: SessionInput
    """What the run started from; also where in the log it begins."""


class _Line(BaseModel, Generic[K, R]):
    """Every other line of a segment: one record."""

    model_config = Wire.model_config

    kind: K
    seq: int
    """Number of the record's first event. For people: readers count."""
    at: datetime
    """When the server stored it."""
    record: R


_AnyLine = Annotated[
    _Line[Literal["user_events"], UserEvents]
    | _Line[Literal["model_input"], CallModelInput]
    | _Line[Literal["model_result"], CallModelResult]
    | _Line[Literal["tool_input"], RunToolInput]
    | _Line[Literal["tool_result"], RunToolResult]
    | _Line[Literal["compact_input"], CompactContextInput]
    | _Line[Literal["compact_result"], CompactContextResult]
    | _Line[Literal["mcp_input"], ListMcpToolsInput]
    | _Line[Literal["mcp_result"], ListMcpToolsResult]
    | _Line[Literal["said"], Said],
    Field(discriminator="kind"),
]
_LINE: TypeAdapter[_AnyLine] = TypeAdapter(_AnyLine)
_KINDS: dict[type[Record], str] = {
    UserEvents: "user_events",
    CallModelInput: "model_input",
    CallModelResult: "model_result",
    RunToolInput: "tool_input",
    RunToolResult: "tool_result",
    CompactContextInput: "compact_input",
    CompactContextResult: "compact_result",
    ListMcpToolsInput: "mcp_input",
    ListMcpToolsResult: "mcp_result",
    Said: "said",
}


@dataclass(frozen=True)
class Segment:
    """One closed run."""

    header: SegmentHeader
    records: Sequence[Stored]

    @classmethod
    def of(cls, run_id: str, run: RunDecoder, records: Sequence[Stored]) -> "Segment":
        """The segment of a run that has been read to its end."""
        assert run.start is not None
        header = SegmentHeader(
            run_id=run_id,
            first_run_id=run.first_run_id,
            previous_run_id=run.previous_run_id,
            next_run_id=run.next_run_id,
            closed=run.closed,
            start=run.start,
        )
        return cls(header, records)

    def to_bytes(self) -> bytes:
        """The segment as JSON lines."""
        cursor = cursor_at(self.header.start)
        lines = [self.header.model_dump_json()]
        for stored in self.records:
            fields = {"kind": _KINDS[type(stored.record)], "seq": cursor.seq + 1, "at": stored.at}
            lines.append(_LINE.validate_python(fields | {"record": stored.record}).model_dump_json())
            cursor.count(stored.record)
        return "\n".join([*lines, ""]).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Segment":
        """Read a segment, tolerant of additions.

        Raises:
            ValueError: It is damaged, or of a newer release that stores what this one cannot know.
        """
        first, *rest = data.splitlines()
        header = SegmentHeader.model_validate_json(first, extra="ignore")
        if header.format > FORMAT:
            raise ValueError(f"format {header.format} is newer than {FORMAT}")
        lines = [_LINE.validate_json(line, extra="ignore") for line in rest if line]
        return cls(header, [Stored(line.record, line.at) for line in lines])


class ArchivedSession(Wire):
    """A session that has ended."""

    info: SessionInfo
    run_id: str
    """Its last run."""


class Archive:
    """The part of the object store that holds logs. Every method may be repeated.

    All methods raise `StoreUnavailableError` when the store cannot be reached or refuses.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    # --- runs ------------------------------------------------------------------------------------------------------

    async def write(self, workflow_id: str, data: bytes, *, run_id: str) -> None:
        """Keep a segment."""
        await self.store.put(segment_path(workflow_id, run_id), data)

    async def has(self, workflow_id: str, run_id: str) -> bool:
        """Whether the run is in the archive."""
        return await self.store.exists(segment_path(workflow_id, run_id))

    async def read(self, workflow_id: str, run_id: str) -> Segment | None:
        """A run, or ``None`` if it is not in the archive.

        Raises:
            CheckpointError: It is there and cannot be read.
        """
        path = segment_path(workflow_id, run_id)
        data = await self.store.get(path)
        if data is None:
            return None
        try:
            return Segment.from_bytes(data)
        except ValueError as error:
            raise _unreadable(path, self.store, error) from None

    # --- sessions --------------------------------------------------------------------------------------------------

    async def enter(self, workflow_id: str, session: ArchivedSession) -> None:
        """Enter a session that has ended into the lists."""
        data = session.model_dump_json().encode()
        await self.store.put(session_path(workflow_id), data)
        await self.store.put(index_path(session.info), data)

    async def session(self, workflow_id: str) -> ArchivedSession | None:
        """A session that has ended, by its id."""
        return await self._session(session_path(workflow_id))

    async def entries(self, workspace: str, *, after: str = "") -> list[str]:
        """Paths of the index of a workspace that come after this one, the latest end first."""
        folder = f"index/{workspace}"
        return sorted([path async for path in self.store.paths(folder, after=after or None) if path > after])

    async def entry(self, path: str) -> ArchivedSession | None:
        """A session by its path in the index."""
        return await self._session(path)

    async def _session(self, path: str) -> ArchivedSession | None:
        data = await self.store.get(path)
        try:
            return ArchivedSession.model_validate_json(data, extra="ignore") if data is not None else None
        except ValidationError as error:
            raise _unreadable(path, self.store, error) from None

    # --- deletion --------------------------------------------------------------------------------------------------

    async def begin_deletion(self, workflow_id: str, owner: Owner) -> None:
        """Note that a session is being deleted, so that a deletion that was cut off can be found and finished."""
        await self.store.put(f"{session_folder(workflow_id)}/{_DELETING}", owner.model_dump_json().encode())

    async def deletion(self, workflow_id: str) -> Owner | None:
        """Whose session it was that somebody began to delete."""
        data = await self.store.get(f"{session_folder(workflow_id)}/{_DELETING}")
        return Owner.model_validate_json(data, extra="ignore") if data is not None else None

    async def delete(self, workflow_id: str) -> None:
        """Remove everything about a session; the note of the deletion goes last."""
        if (session := await self.session(workflow_id)) is not None:
            await self.store.delete(index_path(session.info))
        folder = session_folder(workflow_id)
        note = f"{folder}/{_DELETING}"
        await self.store.delete(*[path async for path in self.store.paths(folder) if path != note])
        await self.store.delete(note)

    async def delete_runs(self, workflow_id: str, run_ids: Sequence[str]) -> None:
        """Remove runs and their stored workspaces, and nothing else: the id belongs to another session now."""
        paths = [segment_path(workflow_id, run_id) for run_id in run_ids]
        for run_id in run_ids:
            await self.store.delete_folder(checkpoint_folder(workflow_id, run_id))
        await self.store.delete(*paths, f"{session_folder(workflow_id)}/{_DELETING}")

    async def is_gone(self, workflow_id: str) -> bool:
        """Whether nothing about the session is left."""
        async for _ in self.store.paths(session_folder(workflow_id)):
            return False
        return True


_DELETING = "deleting.json"


def archive_of(client: Client) -> Archive | None:
    """The archive in the store that a client was connected with, or ``None``."""
    store = store_of(client)
    return Archive(store) if store is not None else None


def segment_path(workflow_id: str, run_id: str) -> str:
    """Where a run is kept."""
    return f"{session_folder(workflow_id)}/runs/{run_id}.jsonl"


def session_path(workflow_id: str) -> str:
    """Where a session that has ended is found by its id."""
    return f"{session_folder(workflow_id)}/session.json"


def index_path(info: SessionInfo) -> str:
    """Where a session that has ended is found by the time of its end."""
    ended = ((info.closed_at or info.created_at) - _EPOCH) // _MICROSECOND
    return f"index/{info.owner.workspace}/{_END_OF_TIME - ended:016d}-{info.id}.json"


def indexed_id(path: str) -> str:
    """The session id in a path of the index."""
    return path.rpartition("/")[2].partition("-")[2].removesuffix(".json")


def _unreadable(path: str, store: Store, error: Exception) -> CheckpointError:
    reason = str(error).splitlines()[0]
    return CheckpointError(f"{path!r} in the store {store.url!r} cannot be read ({reason}); it takes a newer release")
