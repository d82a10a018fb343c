"""Work items and what their workers hear (Managed Agents API §1.2)."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from sojourn.types.wire import Wire
from sojourn.types.work import HeartbeatReply, WorkItem, WorkState


class WorkData(Wire):
    """What the work is for."""

    id: str
    type: Literal["session"] = "session"


class Work(Wire):
    """One item."""

    id: str
    type: Literal["work"] = "work"
    environment_id: str
    state: WorkState
    data: WorkData
    metadata: dict[str, str]
    secret: str | None = None
    """Always ``None``: the environment's key serves for the session's calls too."""
    created_at: datetime
    acknowledged_at: datetime | None
    started_at: datetime | None
    latest_heartbeat_at: datetime | None
    stop_requested_at: datetime | None
    stopped_at: datetime | None


class WorkHeartbeat(Wire):
    """What a worker hears."""

    type: Literal["work_heartbeat"] = "work_heartbeat"
    last_heartbeat: str
    """To be sent back with the next one."""
    lease_extended: bool
    state: WorkState
    ttl_seconds: int


class WorkQueueStats(Wire):
    """How full the queue is."""

    type: Literal["work_queue_stats"] = "work_queue_stats"
    depth: int
    pending: int
    oldest_queued_at: datetime | None
    workers_polling: int
    """Workers that this gateway has heard within 30 s."""


class StopBody(Wire):
    """How to end an item."""

    force: bool = False


class UpdateBody(Wire):
    """What to change."""

    metadata: Annotated[dict[str, str | None], Field(max_length=16)] = {}


def wire_work(item: WorkItem) -> Work:
    """An item as replies show it."""
    return Work(
        id=item.id,
        environment_id=item.environment_id,
        state=item.state,
        data=WorkData(id=item.session_id),
        metadata=dict(item.metadata),
        created_at=item.created_at,
        acknowledged_at=item.acknowledged_at,
        started_at=item.started_at,
        latest_heartbeat_at=item.latest_heartbeat_at,
        stop_requested_at=item.stop_requested_at,
        stopped_at=item.stopped_at,
    )


def wire_heartbeat(reply: HeartbeatReply) -> WorkHeartbeat:
    """What the worker hears. The time is sent as it is stored: it comes back to be compared."""
    last = reply.item.latest_heartbeat_at
    return WorkHeartbeat(
        last_heartbeat=last.isoformat() if last else "",
        lease_extended=reply.extended,
        state=reply.item.state,
        ttl_seconds=reply.item.lease_seconds,
    )
