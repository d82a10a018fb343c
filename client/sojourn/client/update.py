"""Control that can be refused: workflow updates with a bound on the wait for a worker."""

import asyncio
from datetime import timedelta
from typing import Any, TypeVar

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.service import RPCError, RPCStatusCode

from sojourn.client.failure import translated
from sojourn.types.error import InternalError, SojournError, WorkerUnavailableError

R = TypeVar("R")

PATIENCE = timedelta(seconds=10)
"""How long a worker may take to accept an update, a restart included."""


async def execute_update(
    client: Client,
    workflow_id: str,
    name: str,
    argument: object | None = None,
    *,
    result: type[R] | None,
    missing: SojournError,
    task_queue: str,
    timeout: timedelta = PATIENCE,
) -> R:
    """Send an update and wait for what its handler returns.

    Args:
        client: Connected to the namespace.
        workflow_id: Whom to update.
        name: The update's name.
        argument: Its one argument, if it takes one.
        result: Type of what it returns.
        missing: What to raise if there is no such workflow, or it is closed.
        task_queue: Where a worker should be, for the error when there is none.
        timeout: Longest wait.

    Raises:
        SojournError: As the handler refused it, or ``missing``.
        WorkerUnavailableError: Nobody took it in time.
    """
    handle = client.get_workflow_handle(workflow_id)
    arguments = [] if argument is None else [argument]
    with translated(client.service_client.config.target_host, missing=missing):
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                while True:
                    try:
                        found: R = await handle.execute_update(name, args=arguments, result_type=result)
                        return found
                    except RPCError as error:
                        if not await is_dropped(error, handle):
                            raise
                    await asyncio.sleep(0.02)
        except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError):
            if await has_worker(client, task_queue):
                text = f"{name!r} was not answered within {timeout.total_seconds():g} s; try again"
                raise InternalError(text) from None
            raise WorkerUnavailableError(task_queue) from None


async def is_dropped(error: RPCError, handle: WorkflowHandle[Any, Any]) -> bool:
    """Whether the update was lost, unseen, and may be sent again.

    The server keeps an update that nobody has accepted in memory only. It is lost with a workflow task that has to be
    done again (a signal comes in while a run gives way to the next, or ends), with a run that closes, and with the
    server itself: an update that is "not found" then means nothing as long as the workflow is there. And the server
    takes none while the workflow's task has failed several times, as when workers keep dying.
    """
    if error.status is RPCStatusCode.NOT_FOUND:
        return (await handle.describe()).status is WorkflowExecutionStatus.RUNNING
    if error.status is RPCStatusCode.FAILED_PRECONDITION:
        return "workflow task" in error.message.lower()
    return error.status is RPCStatusCode.ABORTED


async def has_worker(client: Client, task_queue: str) -> bool:
    """Whether somebody has polled the task queue for workflow tasks within the last minutes."""
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=task_queue),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    )
    described = await client.workflow_service.describe_task_queue(request, retry=True, timeout=timedelta(seconds=10))
    return bool(described.pollers)
