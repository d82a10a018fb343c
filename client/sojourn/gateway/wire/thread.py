"""Threads of a session (Managed Agents API §1.6). There is one, the primary: its id comes from the session's."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field

from sojourn.gateway.translation import thread_id
from sojourn.gateway.wire.agent import AgentSnapshot, snapshot
from sojourn.gateway.wire.model import ModelNames
from sojourn.gateway.wire.page import ListPage
from sojourn.gateway.wire.usage import CumulativeUsage, cumulative
from sojourn.types.session import SessionSnapshot, SessionStatus
from sojourn.types.wire import Wire

ThreadStatus = Literal["running", "idle", "rescheduling", "terminated"]


class ThreadQuery(Wire):
    """Which threads."""

    statuses: Annotated[tuple[ThreadStatus, ...], Field(max_length=100)] = ()
    limit: Annotated[int, Field(ge=1, le=1000)] = 1000
    page: str | None = None


class ThreadStats(Wire):
    """Times of a thread."""

    active_seconds: float
    duration_seconds: float
    startup_seconds: float


class Thread(Wire):
    """A thread."""

    id: str
    type: Literal["session_thread"] = "session_thread"
    session_id: str
    parent_thread_id: str | None = None
    status: ThreadStatus
    agent: AgentSnapshot
    usage: CumulativeUsage
    stats: ThreadStats
    workflow_run_id: str | None = None
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None


class ThreadPage(ListPage[Thread]):
    """One page of threads."""


_STATUSES: dict[SessionStatus, ThreadStatus] = {
    SessionStatus.RUNNING: "running",
    SessionStatus.RESCHEDULING: "rescheduling",
    SessionStatus.COMPLETED: "terminated",
    SessionStatus.FAILED: "terminated",
    SessionStatus.ARCHIVED: "terminated",
}


def primary_thread(found: SessionSnapshot, names: ModelNames) -> Thread:
    """The primary thread of a session, which shares everything with it."""
    info = found.info
    account, ended = info.account, info.closed_at or datetime.now(UTC)
    return Thread(
        id=thread_id(info.id),
        session_id=info.id,
        status=_STATUSES.get(info.status, "idle"),
        agent=snapshot(found.agent, names),
        usage=cumulative(account.usage, cost_microcents=account.cost_microcents, active_seconds=account.active_seconds),
        stats=ThreadStats(
            active_seconds=account.active_seconds,
            duration_seconds=max((ended - info.created_at).total_seconds(), 0),
            startup_seconds=0,
        ),
        created_at=info.created_at,
        updated_at=info.updated_at or info.created_at,
        archived_at=info.closed_at if info.status is SessionStatus.ARCHIVED else None,
    )
