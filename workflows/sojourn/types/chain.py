"""Reading a session's history run after run: from the server, and from the archive what the server has forgotten.

Used by everything that reads a log: the client's readers and the activities that fold the model's context. Needs no
worker.
"""

from datetime import timedelta

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import HistoryEventFilterType
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    GetWorkflowExecutionHistoryRequest,
    GetWorkflowExecutionHistoryResponse,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from sojourn.types.archive import Segment, SegmentHeader, archive_of
from sojourn.types.error import CheckpointError
from sojourn.types.history import RunDecoder, Stored
from sojourn.types.store import STORE_VARIABLE

TRANSIENT = (
    RPCStatusCode.UNAVAILABLE,
    RPCStatusCode.RESOURCE_EXHAUSTED,
    RPCStatusCode.UNKNOWN,
    RPCStatusCode.INTERNAL,
    RPCStatusCode.ABORTED,
)
"""Failures of reading that pass by themselves, such as those of a server that is being restarted."""

LONG_POLL = timedelta(seconds=30)
"""Longer than the 20 s after which the server itself ends a long poll."""


class ChainReader:
    """Reads the records of a chain of runs, in order, from the beginning of one run.

    Attributes:
        run_id: The run being read.
        run: The decoder of that run.
        event_id: The last event of that run that has been read.
        ended: Whether the chain has ended and everything has been read.
    """

    def __init__(self, client: Client, workflow_id: str, run_id: str) -> None:
        self.run_id = run_id
        self.run = RunDecoder(client.data_converter)
        self.event_id = 0
        self.ended = False
        self._client = client
        self._workflow_id = workflow_id
        self._first_run_id = ""
        self._given = self._repeated = 0
        self._token = b""
        self._fetched: GetWorkflowExecutionHistoryResponse | None = None

    async def read(self, *, wait: timedelta) -> list[Stored] | None:
        """The records of the next page of history.

        Returns at once when there are events that have not been read. Continuing into the next run is part of it.
        A call that is cancelled or fails has read nothing, and may be repeated.

        Args:
            wait: How long to wait for events that do not exist yet.

        Returns:
            Records, none if the events carried none; ``None`` if the time passed or the chain has ended.

        Raises:
            CheckpointError: The server has forgotten the run, and it is not in the archive.
            RPCError: As the server says; ``NOT_FOUND`` when the session has been deleted.
            StoreUnavailableError: The run must be in the archive, which cannot be reached.
        """
        if self.ended:
            return None
        try:
            page = await self._page(wait)
        except RPCError as error:
            if error.status in (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED):
                return None
            if self._token and _has_branched(error):
                # From the run's beginning again, to give only what has not been given.
                self.event_id, self._token, self._repeated = 0, b"", self._given
                return []
            return await self._read_archived(error)
        events = page.history.events
        found = [each for event in events if (each := await self.run.decode(event)) is not None]
        stored, self._repeated = found[self._repeated :], max(0, self._repeated - len(found))
        self._token, self._fetched = page.next_page_token, None
        self.event_id = events[-1].event_id if events else self.event_id
        self._given += len(stored)
        if not self._token:
            self._leave_run()
        return stored

    async def _read_archived(self, error: RPCError) -> list[Stored]:
        """The rest of the run that the server does not have, from the archive."""
        first_run_id = self.run.first_run_id or self._first_run_id
        segment = await _archived(self._client, self._workflow_id, self.run_id, error, first_run_id=first_run_id)
        _adopt(self.run, segment.header)
        rest = list(segment.records[self._given :])
        self._leave_run()
        return rest

    def _leave_run(self) -> None:
        self._token = b""
        if self.run.next_run_id:
            self._first_run_id = self.run.first_run_id
            self.run_id = self.run.next_run_id
            self.run = RunDecoder(self._client.data_converter)
            self.event_id = self._given = self._repeated = 0
        else:
            self.ended = True

    async def _page(self, wait: timedelta) -> GetWorkflowExecutionHistoryResponse:
        # A fetched page is kept until it has been decoded, because the token leads behind it.
        if self._fetched is None:
            request = _request(self._client, self._workflow_id, self.run_id, token=self._token, wait=True)
            service = self._client.workflow_service
            self._fetched = await service.get_workflow_execution_history(request, timeout=wait)
        return self._fetched


async def run_start(client: Client, workflow_id: str, run_id: str) -> RunDecoder:
    """What the beginning of a run says; of one from the archive, its end too.

    Raises:
        CheckpointError: The server has forgotten the run, and it is not in the archive.
        RPCError: As the server says; ``NOT_FOUND`` when there is no such workflow.
        StoreUnavailableError: The run must be in the archive, which cannot be reached.
    """
    run = RunDecoder(client.data_converter)
    request = _request(client, workflow_id, run_id, token=b"", wait=False)
    request.maximum_page_size = 1
    try:
        page = await client.workflow_service.get_workflow_execution_history(request, retry=True)
    except RPCError as error:
        _adopt(run, (await _archived(client, workflow_id, run_id, error, first_run_id="")).header)
    else:
        await run.decode(page.history.events[0])
    return run


async def described_run(client: Client, workflow_id: str, run_id: str = "") -> WorkflowExecutionInfo | None:
    """How the server describes a run, the latest if none is named; ``None`` if it does not have it.

    Raises:
        RPCError: As the server says; also when it lacks the namespace.
    """
    execution = WorkflowExecution(workflow_id=workflow_id, run_id=run_id)
    request = DescribeWorkflowExecutionRequest(namespace=client.namespace, execution=execution)
    try:
        described = await client.workflow_service.describe_workflow_execution(request, retry=True)
    except RPCError as error:
        if not is_missing(error):
            raise
        return None
    return described.workflow_execution_info


def is_missing(error: RPCError) -> bool:
    """Whether the server does not have the workflow; without its namespace it cannot know."""
    return error.status is RPCStatusCode.NOT_FOUND and not error.message.lower().startswith("namespace ")


def _has_branched(error: RPCError) -> bool:
    """Whether the place that a page's token stands for is none any more.

    So it is at times after a workflow task that had to be done again. The server tells it by a sentence only.
    """
    return error.status is RPCStatusCode.INVALID_ARGUMENT and "branch token" in error.message


def _adopt(run: RunDecoder, header: SegmentHeader) -> None:
    run.start, run.closed = header.start, header.closed
    run.first_run_id, run.previous_run_id, run.next_run_id = (
        header.first_run_id,
        header.previous_run_id,
        header.next_run_id,
    )


async def _archived(client: Client, workflow_id: str, run_id: str, error: RPCError, *, first_run_id: str) -> Segment:
    """The run that the server does not have.

    Args:
        client: Connected to the namespace and the store.
        workflow_id: The session's workflow.
        run_id: The run.
        error: What the server said.
        first_run_id: The beginning of the chain, where it is known: the session's id may be used again by another.
    """
    if not is_missing(error) or not run_id:
        raise error
    archive = archive_of(client)
    if archive is not None and (segment := await archive.read(workflow_id, run_id)) is not None:
        return segment
    latest = await described_run(client, workflow_id)
    is_ours = latest is not None and first_run_id in ("", latest.first_run_id)
    if is_ours or (archive is not None and await archive.session(workflow_id) is not None):
        raise _lost(workflow_id, run_id, url=archive.store.url if archive is not None else None) from None
    raise error


def _lost(workflow_id: str, run_id: str, *, url: str | None) -> CheckpointError:
    session_id = workflow_id.rpartition("/")[2]
    if url is None:
        way_out = f"no archive store is configured; set {STORE_VARIABLE} to the one that the workers export to"
    else:
        way_out = f"it is not in the archive store {url!r} either; name the store that it was exported to"
    return CheckpointError(
        f"run {run_id!r} of session {session_id!r} is gone from the server and {way_out}", run_id=run_id
    )


def _request(
    client: Client, workflow_id: str, run_id: str, *, token: bytes, wait: bool
) -> GetWorkflowExecutionHistoryRequest:
    return GetWorkflowExecutionHistoryRequest(
        namespace=client.namespace,
        execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
        next_page_token=token,
        wait_new_event=wait,
        history_event_filter_type=HistoryEventFilterType.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT,
        skip_archival=True,
    )
