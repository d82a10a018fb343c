"""Removing the workflow of an entity, with all its history."""

import asyncio
from datetime import timedelta

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest, TerminateWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.service import RPCError

from sojourn.client.failure import translated
from sojourn.client.listing import MAX_LIMIT, condition, list_workflows
from sojourn.types.chain import described_run, is_missing


async def remove_workflow(client: Client, workflow_id: str) -> None:
    """End it, so that nobody finds it from now on, and have the server forget all its runs in its own time.

    Raises:
        SojournError: As the server says.
    """
    terminate = TerminateWorkflowExecutionRequest(
        namespace=client.namespace,
        workflow_execution=WorkflowExecution(workflow_id=workflow_id),
        reason="deleted",
        identity=client.identity,
    )
    with translated(client.service_client.config.target_host):
        runs, _ = await list_workflows(client, condition({"WorkflowId": workflow_id}), limit=MAX_LIMIT, page=None)
        try:
            await client.workflow_service.terminate_workflow_execution(terminate, retry=True)
        except RPCError as error:
            if not is_missing(error):
                raise
        for execution in (WorkflowExecution(workflow_id=workflow_id), *(run.execution for run in runs)):
            await _delete(client, execution)


async def forget_runs(client: Client, workflow_id: str, run_id: str, *, patience: timedelta) -> bool:
    """Have the server forget a run once another has taken its place, and those before it.

    Returns:
        ``False`` if nothing has taken its place in time.

    Raises:
        SojournError: As the server says.
    """
    closed = condition({"WorkflowId": workflow_id, "ExecutionStatus": "ContinuedAsNew"})
    with translated(client.service_client.config.target_host):
        try:
            async with asyncio.timeout(patience.total_seconds()):
                # A run that goes on would be ended by its deletion.
                while not await _was_continued(client, workflow_id, run_id):  # noqa: ASYNC110 (the server tells nobody)
                    await asyncio.sleep(0.02)
        except TimeoutError:
            return False
        before, _ = await list_workflows(client, closed, limit=MAX_LIMIT, page=None)
        for id in {run_id, *(run.execution.run_id for run in before)}:
            await _delete(client, WorkflowExecution(workflow_id=workflow_id, run_id=id))
    return True


async def _was_continued(client: Client, workflow_id: str, run_id: str) -> bool:
    info = await described_run(client, workflow_id, run_id)
    return info is None or info.status == WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW


async def _delete(client: Client, execution: WorkflowExecution) -> None:
    request = DeleteWorkflowExecutionRequest(namespace=client.namespace, workflow_execution=execution)
    try:
        await client.workflow_service.delete_workflow_execution(request, retry=True)
    except RPCError as error:
        if not is_missing(error):
            raise
