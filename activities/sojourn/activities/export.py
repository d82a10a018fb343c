"""The activity `export_runs`: closed runs into the archive, before the server forgets them."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from temporalio import activity
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.client import Client
from temporalio.service import RPCError

from sojourn.activities.pulse import Pulse
from sojourn.types.archive import (
    Archive,
    ArchivedSession,
    Segment,
    SegmentHeader,
    archive_of,
    index_path,
    segment_path,
    session_path,
)
from sojourn.types.chain import LONG_POLL, ChainReader, described_run, is_missing, run_start
from sojourn.types.described import session_info
from sojourn.types.error import CheckpointError
from sojourn.types.export import ExportInput, ExportResult
from sojourn.types.history import Stored, cursor_at
from sojourn.types.name import EXPORT_RUNS_ACTIVITY
from sojourn.types.session import SessionResult

T = TypeVar("T")


class Export:
    """Holds what the activity needs on a worker."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @activity.defn(name=EXPORT_RUNS_ACTIVITY)
    async def export_runs(self, request: ExportInput) -> ExportResult:
        """Write a run, and all before it that the archive lacks, the oldest first.

        Safe to retry, and to run twice at the same time: a run's content is the same whoever writes it. What was
        written for a session that is deleted meanwhile is removed again.

        Raises:
            CheckpointError: The log cannot be read, or not by this release.
            StoreUnavailableError: The store cannot be reached or refuses.
        """
        archive = archive_of(self._client)
        if archive is None:
            return ExportResult(outcome="no_store")
        job = _Job(self._client, archive, request)
        meter = activity.metric_meter()
        try:
            async with Pulse(lambda: None):
                result = await job.run()
        except Exception:
            meter.create_counter("sojourn_exports_failed", "Attempts to export closed runs that failed").add(1)
            raise
        meter.create_counter("sojourn_exported_runs", "Closed runs written to the archive").add(result.runs)
        meter.create_counter("sojourn_exported_bytes", "Bytes written to the archive", "By").add(result.size_bytes)
        return result


@dataclass
class _Job:
    """One attempt."""

    client: Client
    archive: Archive
    request: ExportInput
    paths: list[str] = field(default_factory=list)
    """What has been written, or has begun to be."""
    runs: int = 0
    size_bytes: int = 0

    async def run(self) -> ExportResult:
        """Export, and look whether the session still exists."""
        found = True
        try:
            for run_id in await self._missing():
                await self._export(run_id)
            if self.request.final:
                await self._enter()
        except (CheckpointError, RPCError):
            # Deleted while it was read: nothing is left to export.
            if found := await described_run(self.client, self.request.workflow_id) is not None:
                raise
        finally:
            kept = await _finished(self._keep_or_remove())
        outcome: Literal["stored", "gone"] = "stored" if found and kept else "gone"
        return ExportResult(outcome=outcome, runs=self.runs, size_bytes=self.size_bytes)

    async def _missing(self) -> list[str]:
        """The runs that the archive lacks, the oldest first. A run is only written after all before it."""
        found: list[str] = []
        run_id, workflow_id = self.request.run_id, self.request.workflow_id
        while run_id and not await self.archive.has(workflow_id, run_id):
            try:
                start = await run_start(self.client, workflow_id, run_id)
            except (CheckpointError, RPCError) as error:
                if not found or (isinstance(error, RPCError) and not is_missing(error)):
                    raise
                # The server forgot it before there was a store; what is left of the log is worth keeping.
                break
            found.insert(0, run_id)
            run_id = start.previous_run_id
        return found

    async def _export(self, run_id: str) -> None:
        reader = ChainReader(self.client, self.request.workflow_id, run_id)
        run = reader.run
        records: list[Stored] = []
        while reader.run is run and not reader.ended:
            records += await reader.read(wait=LONG_POLL) or ()
        segment = Segment.of(run_id, run, records)
        await self._check_count(segment)
        data = await asyncio.to_thread(segment.to_bytes)
        self.paths.append(segment_path(self.request.workflow_id, run_id))
        await _finished(self.archive.write(self.request.workflow_id, data, run_id=run_id))
        self.runs += 1
        self.size_bytes += len(data)

    async def _check_count(self, segment: Segment) -> None:
        """Compare with the workflow's own count: a segment with a gap would hide it for ever.

        Raises:
            CheckpointError: The run holds records that this release does not know.
        """
        cursor = cursor_at(segment.header.start)
        for stored in segment.records:
            cursor.count(stored.record)
        counted = await self._counted(segment.header)
        if counted is not None and counted != cursor.seq:
            text = f"run {segment.header.run_id!r} has events up to {counted}, of which this release reads {cursor.seq}"
            raise CheckpointError(f"{text}; a worker of a newer release exports it")

    async def _counted(self, header: SegmentHeader) -> int | None:
        """How far the workflow had counted at the end of the run; ``None`` if it was ended from outside."""
        workflow_id = self.request.workflow_id
        if header.next_run_id:
            return (await run_start(self.client, workflow_id, header.next_run_id)).cursor().seq
        info = await described_run(self.client, workflow_id, header.run_id)
        if info is None or info.status != WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED:
            return None
        handle = self.client.get_workflow_handle(workflow_id, run_id=header.run_id, result_type=SessionResult)
        result: SessionResult = await handle.result()
        return result.seq

    async def _enter(self) -> None:
        info = await described_run(self.client, self.request.workflow_id, self.request.run_id)
        if info is None:
            return
        session = ArchivedSession(info=await session_info(self.client, info), run_id=self.request.run_id)
        self.paths += [session_path(self.request.workflow_id), index_path(session.info)]
        await _finished(self.archive.enter(self.request.workflow_id, session))

    async def _keep_or_remove(self) -> bool:
        """Remove what was written for a session that was deleted meanwhile.

        A deletion takes this activity's own workflow off the server before it empties the store. So either it finds
        what was written here, or we see here that it has been.
        """
        own = activity.info()
        if await described_run(self.client, own.workflow_id or "", own.workflow_run_id or "") is not None:
            return True
        await self.archive.store.delete(*self.paths)
        return False


async def _finished(work: Coroutine[Any, Any, T]) -> T:
    """Do something to its end, also when the activity is cancelled: half a write cannot be taken back."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
