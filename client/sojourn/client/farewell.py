"""Whether a session whose log has ended is still there."""

import asyncio
from datetime import timedelta

from sojourn.client.log import SessionLogs
from sojourn.client.session import SessionStore
from sojourn.types.id import SessionId
from sojourn.types.session import Owner

PATIENCE = timedelta(seconds=30)
"""How long a server may take to forget a session that it has ended in order to delete it."""

_LOOKS = timedelta(seconds=0.5)


async def check_kept(logs: SessionLogs, sessions: SessionStore, session_id: SessionId, owner: Owner) -> None:
    """Return if the session stays.

    To delete one that is open, the server terminates it first; who follows it may see that end before the session is
    gone. One that an operator has terminated stays.

    Raises:
        RPCError: As the server says; ``NOT_FOUND`` when the session has been deleted.
        SessionNotFoundError: It was deleted.
    """
    waited = timedelta(0)
    located = await sessions.locate(session_id, owner)
    # One that only the archive has stays; of those the server has, no history is empty.
    while located.history_length and await logs.is_leaving(located.workflow_id, located.run_id):
        if waited >= PATIENCE:
            return
        await asyncio.sleep(_LOOKS.total_seconds())
        waited += _LOOKS
        located = await sessions.locate(session_id, owner)
