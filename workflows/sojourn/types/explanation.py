"""Why a session is in its state, in words and by kind."""

from datetime import datetime
from typing import Literal

from sojourn.types.id import AgentId, EventId, SessionId
from sojourn.types.session import SessionStatus
from sojourn.types.wire import Wire

ReasonType = Literal[
    "approval",
    "budget",
    "custom_tool",
    "ended",
    "ended_from_outside",
    "error",
    "held_by_operator",
    "message",
    "model_call",
    "no_worker",
    "no_worker_of_version",
    "paused",
    "queue",
    "retry",
    "tool_call",
    "worker_silent",
    "workflow_task_failing",
]


class Reason(Wire):
    """One thing that the session does, waits for, or suffers from."""

    type: ReasonType
    text: str
    """One sentence without a full stop."""
    action: str | None = None
    """What to do next, if there is something: a command, or advice."""
    since: datetime | None = None
    until: datetime | None = None
    """When it ends by itself."""
    attempt: int | None = None
    """Counts from 1, for what is tried more than once."""
    tool_use_id: EventId | None = None
    tool: str | None = None
    worker: str | None = None
    """Identity of the worker at it."""


class SessionExplanation(Wire):
    """Where a session stands and why. Read from the server; needs no worker."""

    id: SessionId
    agent_id: AgentId
    status: SessionStatus
    stop_reason: str | None = None
    summary: str
    """The whole in one sentence."""
    reasons: tuple[Reason, ...] = ()
    """The weightiest first."""
    at: datetime
    """When it was looked at."""
