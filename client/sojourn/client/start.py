"""Starting a session under an id that somebody else may take at the same time."""

from collections.abc import Sequence

from temporalio.client import Client

from sojourn.types.chain import described_run
from sojourn.types.described import memo
from sojourn.types.event import UserEvent
from sojourn.types.id import SessionId, derived_event_id
from sojourn.types.name import START_MEMO


async def start_mark(client: Client, workflow_id: str) -> str | None:
    """Which call started the workflow; empty if it does not tell, and ``None`` if there is no such workflow.

    Raises:
        RPCError: As the server says.
    """
    info = await described_run(client, workflow_id)
    return None if info is None else await memo(client, info, START_MEMO, str) or ""


def fixed_events(session_id: SessionId, events: Sequence[UserEvent]) -> list[UserEvent]:
    """The first events of a session with ids that follow from its own: starting it again sends nothing new."""
    ids = [derived_event_id(session_id, f"initial/{place}") for place in range(len(events))]
    return [each if each.id else each.model_copy(update={"id": id}) for each, id in zip(events, ids, strict=True)]
