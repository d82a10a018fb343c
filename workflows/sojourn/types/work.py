"""Work for self-hosted environments: an item for each session whose tools wait for a worker of the user's own.

Managed Agents API §1.2 and §6.5. An item is handed out by `ClaimWork`, kept by heartbeats, and given back when these
stop. While a session's calls are open it always has an item, or gets the next one.
"""

from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field

from sojourn.types.id import EnvironmentId, SessionId, WorkId
from sojourn.types.wire import Metadata, Wire

WorkState = Literal["queued", "starting", "active", "stopping", "stopped"]

NO_HEARTBEAT = "NO_HEARTBEAT"
"""What the first heartbeat expects to be the last one."""

LEASE = timedelta(seconds=300)
"""How long an item stays with a worker that is silent, unless the worker asks for another time."""

LONGEST_LEASE = timedelta(hours=1)

RECLAIM = timedelta(seconds=5)
"""After so long an item that was handed out and not acknowledged is handed out again."""


class WorkItem(Wire):
    """One item as stored."""

    id: WorkId
    workspace: str
    environment_id: EnvironmentId
    session_id: SessionId
    state: WorkState = "queued"
    metadata: Metadata = {}
    created_at: datetime
    claimed_at: datetime | None = None
    """When it was handed out last; ``None`` while it waits for that."""
    acknowledged_at: datetime | None = None
    started_at: datetime | None = None
    latest_heartbeat_at: datetime | None = None
    stop_requested_at: datetime | None = None
    stopped_at: datetime | None = None
    lease_seconds: int = int(LEASE.total_seconds())

    @property
    def lease_ends_at(self) -> datetime | None:
        """When it goes back to the queue, or is over, unless its worker is heard before."""
        heard = self.latest_heartbeat_at or self.acknowledged_at
        return None if heard is None or self.state == "queued" else heard + timedelta(seconds=self.lease_seconds)


class WorkInput(Wire):
    """What a `WorkWorkflow` run starts from."""

    item: WorkItem


class ClaimWork(Wire):
    """Hands the item out."""

    reclaim_seconds: float = Field(default=RECLAIM.total_seconds(), ge=0, le=86_400)


class Heartbeat(Wire):
    """Keeps the item."""

    expected: str
    """The last heartbeat that the worker knows of, or `NO_HEARTBEAT`; empty does not care."""
    lease_seconds: int | None = Field(default=None, ge=1)


class StopWork(Wire):
    """Ends the item: at once, or when its worker is heard next."""

    force: bool = False


class UpdateWork(Wire):
    """Changes what is for people."""

    metadata: Annotated[dict[str, str | None], Field(max_length=16)]
    """A merge patch: ``None`` as a value removes the key."""


class HeartbeatReply(Wire):
    """What a worker hears."""

    item: WorkItem
    extended: bool
