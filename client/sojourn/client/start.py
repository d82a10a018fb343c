"""Starting a session under an id that somebody else may take at the same time."""

from collections.abc import Sequence
from datetime import timedelta

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from sojourn.types.described import memo
from sojourn.types.event import UserEvent
from sojourn.types.id import SessionId, derived_event_id
from sojourn.types.name import START_MEMO

_AT_ONCE = timedelta(seconds=5)


async def start_mark(client: Client, workflow_id: str) -> str | None:
    """Which call started the workflow; empty if it does not tell, and ``None`` if there is no such workflow.

    Raises:
        RPCError: As the server says.
    """
    request = DescribeWorkflowExecutionRequest(
        namespace=client.namespace, execution=WorkflowExecution(workflow_id=workflow_id)
    )
    try:
        described = await client.workflow_service.describe_workflow_execution(request, retry=True, timeout=_AT_ONCE)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise
    return await memo(client, described.workflow_execution_info, START_MEMO, str) or ""


def fixed_events(session_id: SessionId, events: Sequence[UserEvent]) -> list[UserEvent]:
    """The first events of a session with ids that follow from its own: starting it again sends nothing new."""
    ids = [derived_event_id(session_id, f"initial/{place}") for place in range(len(events))]
    return [each if each.id else each.model_copy(update={"id": id}) for each, id in zip(events, ids, strict=True)]
