"""Whether a session whose log has ended is still there."""

import asyncio
from datetime import UTC, datetime, timedelta

from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflow.v1 import WorkflowExecutionInfo

from sojourn.client.session import Located, SessionStore
from sojourn.types.id import SessionId
from sojourn.types.session import Owner

PATIENCE = timedelta(seconds=30)
"""How long a server may take to forget a session that it has ended in order to delete it."""

_LOOKS = timedelta(seconds=0.5)


async def check_kept(sessions: SessionStore, session_id: SessionId, owner: Owner) -> None:
    """Return if the session stays.

    To delete one that is open, the server terminates it first; who follows it may see that end before the session is
    gone. One that an operator has terminated looks the same, and stays.

    Raises:
        SessionNotFoundError: It was deleted.
    """
    waited = timedelta(0)
    while _may_vanish(await sessions.locate(session_id, owner)) and waited < PATIENCE:
        await asyncio.sleep(_LOOKS.total_seconds())
        waited += _LOOKS


def _may_vanish(located: Located) -> bool:
    info = located.described
    if not isinstance(info, WorkflowExecutionInfo):
        return False
    terminated = info.status == WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TERMINATED
    return terminated and datetime.now(UTC) - info.close_time.ToDatetime(tzinfo=UTC) < PATIENCE
