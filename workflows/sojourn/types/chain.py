"""Reading a session's history from the server, run after run. Needs no worker.

Used by everything that reads a log: the client's readers and the activities that fold the model's context.
"""

from datetime import timedelta

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import HistoryEventFilterType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import (
    GetWorkflowExecutionHistoryRequest,
    GetWorkflowExecutionHistoryResponse,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from sojourn.types.history import RunDecoder, Stored

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
            RPCError: As the server says; ``NOT_FOUND`` when the run has been deleted.
        """
        if self.ended:
            return None
        try:
            page = await self._page(wait)
        except RPCError as error:
            if error.status in (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED):
                return None
            raise
        events = page.history.events
        stored = [found for event in events if (found := await self.run.decode(event)) is not None]
        self._token, self._fetched = page.next_page_token, None
        self.event_id = events[-1].event_id if events else self.event_id
        if not self._token:
            self._leave_run()
        return stored

    def _leave_run(self) -> None:
        if self.run.next_run_id:
            self.run_id = self.run.next_run_id
            self.run = RunDecoder(self._client.data_converter)
            self.event_id = 0
        else:
            self.ended = True

    async def _page(self, wait: timedelta) -> GetWorkflowExecutionHistoryResponse:
        # A fetched page is kept until it has been decoded, because the token leads behind it.
        if self._fetched is None:
            request = _request(self._client, self._workflow_id, self.run_id, token=self._token, wait=True)
            service = self._client.workflow_service
            self._fetched = await service.get_workflow_execution_history(request, timeout=wait)
        return self._fetched


async def first_event(client: Client, workflow_id: str, run_id: str = "") -> HistoryEvent:
    """The event with which a run started; of the latest run if none is named.

    Raises:
        RPCError: As the server says; ``NOT_FOUND`` when there is no such workflow.
    """
    request = _request(client, workflow_id, run_id, token=b"", wait=False)
    request.maximum_page_size = 1
    page = await client.workflow_service.get_workflow_execution_history(request, retry=True)
    return page.history.events[0]


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
