"""Exports to the archive: one by hand, and how those of all sessions are doing."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import CountWorkflowExecutionsRequest, DescribeWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDConflictPolicy

from sojourn.client.failure import translated
from sojourn.client.listing import condition, list_workflows
from sojourn.client.update import has_worker
from sojourn.types.chain import run_start
from sojourn.types.error import InternalError, ServerNotReadyError, SessionNotFoundError, WorkerUnavailableError
from sojourn.types.export import ExportInput, ExportResult, ExportState
from sojourn.types.id import export_workflow_id
from sojourn.types.name import EXPORT_ATTRIBUTE, EXPORT_RUNS_ACTIVITY, EXPORT_WORKFLOW
from sojourn.types.store import STORE_VARIABLE

PATIENCE = timedelta(seconds=60)


@dataclass(frozen=True)
class FailingExports:
    """Exports that do not succeed at the moment."""

    count: int
    example: str = ""
    """Workflow id of one of them."""
    reason: str = ""
    """Its last failure, in one line."""


async def export_by_hand(
    client: Client,
    workflow_id: str,
    run_id: str,
    *,
    ended: bool,
    task_queue: str,
    timeout: timedelta | None,
) -> ExportResult:
    """Export what the archive lacks of a session, and wait for it.

    Args:
        client: Connected to the namespace.
        workflow_id: The session's workflow.
        run_id: Its latest run.
        ended: Whether the session has ended; of one that goes on the closed runs are exported.
        task_queue: Where a worker should be.
        timeout: Longest wait; ``None`` waits until it has succeeded. It goes on afterwards.

    Raises:
        InternalError: It has not succeeded in time.
        ServerNotReadyError: The worker has no store.
        SessionNotFoundError: The session was deleted meanwhile.
        WorkerUnavailableError: No worker serves the task queue.
    """
    address = client.service_client.config.target_host
    with translated(address, missing=SessionNotFoundError(workflow_id.rpartition("/")[2])):
        last = run_id if ended else (await run_start(client, workflow_id, run_id)).previous_run_id
        if not last:
            return ExportResult(outcome="stored")
        handle = await client.start_workflow(
            EXPORT_WORKFLOW,
            ExportInput(workflow_id=workflow_id, run_id=last, final=ended),
            id=export_workflow_id(workflow_id),
            task_queue=task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            search_attributes=TypedSearchAttributes([SearchAttributePair(EXPORT_ATTRIBUTE, ExportState.NONE.value)]),
            static_summary=f"export of {workflow_id}",
            result_type=ExportResult,
        )
        try:
            async with asyncio.timeout(timeout.total_seconds() if timeout is not None else None):
                result: ExportResult = await handle.result()
        except TimeoutError:
            if not await has_worker(client, task_queue):
                raise WorkerUnavailableError(task_queue) from None
            reason = await _last_failure(client, handle.id) or "it is still at work"
            raise InternalError(f"the export has not succeeded yet ({reason}); it goes on by itself") from None
    return _checked(result, workflow_id)


def _checked(result: ExportResult, workflow_id: str) -> ExportResult:
    if result.outcome == "no_store":
        text = (
            f"the worker has no object store; run `sojourn setup --store URL` or set {STORE_VARIABLE}, and restart it"
        )
        raise ServerNotReadyError(text)
    if result.outcome == "gone":
        raise SessionNotFoundError(workflow_id.rpartition("/")[2])
    return result


async def failing_exports(client: Client) -> FailingExports:
    """How many sessions' exports fail at the moment, and why one of them does.

    Raises:
        RPCError: As the server says, for instance that the namespace was not set up.
    """
    query = condition({EXPORT_ATTRIBUTE: ExportState.FAILING.value, "ExecutionStatus": "Running"})
    request = CountWorkflowExecutionsRequest(namespace=client.namespace, query=query)
    count = (await client.workflow_service.count_workflow_executions(request, retry=True)).count
    infos, _ = await list_workflows(client, query, limit=1, page=None) if count else ([], None)
    if not infos:
        return FailingExports(count)
    example = infos[0].execution.workflow_id
    return FailingExports(count, example, await _last_failure(client, example))


async def _last_failure(client: Client, workflow_id: str) -> str:
    request = DescribeWorkflowExecutionRequest(
        namespace=client.namespace, execution=WorkflowExecution(workflow_id=workflow_id)
    )
    described = await client.workflow_service.describe_workflow_execution(request, retry=True)
    failures = [
        activity.last_failure.message
        for activity in described.pending_activities
        if activity.activity_type.name == EXPORT_RUNS_ACTIVITY
    ]
    return " ".join(failures[0].split())[:300] if failures else ""
