"""The events of a session: what clients send and what the log shows (Managed Agents API §2).

An event in the log has a ``seq`` (1, 2, 3 … per session), a stable ``id`` and the time it was stored. An event that a
client is about to send has none of the three, or only an ``id`` of its choosing, which is its idempotency key.
"""

from datetime import datetime
from typing import Annotated, Literal, Self, cast

from pydantic import ConfigDict, Discriminator, Field, JsonValue, Tag, TypeAdapter

from sojourn.types.account import ActiveSeconds, Budget
from sojourn.types.content import ContentBlock, MessageBlock, TextBlock, text_of
from sojourn.types.id import EventId
from sojourn.types.permission import Permission
from sojourn.types.session import SessionStatus, StopReason
from sojourn.types.session_error import ErrorDetail
from sojourn.types.usage import Usage
from sojourn.types.wire import Metadata, Omitted, Unset, Wire


class Event(Wire):
    """What all events share."""

    id: Annotated[EventId, Omitted] = EventId("")
    seq: Annotated[int, Omitted] = 0
    processed_at: Annotated[datetime | None, Omitted] = None


class UserMessage(Event):
    """Starts a turn, or waits in the queue for the next one."""

    type: Literal["user.message"] = "user.message"
    content: tuple[MessageBlock, ...] = Field(min_length=1)

    @classmethod
    def text(cls, text: str, *, id: str = "") -> Self:
        """A message of one text block."""
        return cls(content=(TextBlock(text=text),), id=EventId(id))


class UserInterrupt(Event):
    """Ends the turn in progress and keeps what was said so far."""

    type: Literal["user.interrupt"] = "user.interrupt"


Remember = Literal["session", "agent", "global"]


class UserToolConfirmation(Event):
    """The answer to a tool call whose permission is ``ask``."""

    type: Literal["user.tool_confirmation"] = "user.tool_confirmation"
    tool_use_id: EventId
    result: Literal["allow", "deny"]
    deny_message: Annotated[str | None, Omitted, Field(max_length=10_000)] = None
    remember: Annotated[Remember | None, Omitted] = None
    """Allow this very call from now on (the same command, path or arguments): in the session, in all sessions of the
    agent, or in the whole workspace."""


class UserCustomToolResult(Event):
    """The result of a tool that the client ran."""

    type: Literal["user.custom_tool_result"] = "user.custom_tool_result"
    custom_tool_use_id: EventId
    content: tuple[ContentBlock, ...] = ()
    is_error: Annotated[bool, Omitted] = False


class UserToolResult(Event):
    """The result of a built-in tool run in a self-hosted environment."""

    type: Literal["user.tool_result"] = "user.tool_result"
    tool_use_id: EventId
    content: tuple[ContentBlock, ...] = ()
    is_error: Annotated[bool, Omitted] = False


class UserDefineOutcome(Event):
    """A goal with a rubric that the work is graded against."""

    type: Literal["user.define_outcome"] = "user.define_outcome"
    description: str = Field(min_length=1)
    rubric: TextBlock
    max_iterations: int = Field(default=3, ge=1, le=20)


class SystemMessage(Event):
    """Instructions that join the conversation with the next step."""

    type: Literal["system.message"] = "system.message"
    content: tuple[TextBlock, ...] = Field(min_length=1, max_length=1000)


UserEvent = Annotated[
    UserMessage
    | UserInterrupt
    | UserToolConfirmation
    | UserCustomToolResult
    | UserToolResult
    | UserDefineOutcome
    | SystemMessage,
    Field(discriminator="type"),
]


class AgentMessage(Event):
    """Text from the agent."""

    type: Literal["agent.message"] = "agent.message"
    content: tuple[TextBlock, ...]
    incomplete: Annotated[bool, Omitted] = False
    """An interrupt cut it short."""

    @property
    def text(self) -> str:
        """The text blocks, joined by newlines."""
        return text_of(self.content)


class AgentThinking(Event):
    """The agent is thinking; the thoughts stay with the model."""

    type: Literal["agent.thinking"] = "agent.thinking"


class AgentToolUse(Event):
    """The agent calls a tool on the worker. Its ``id`` is what confirmations refer to."""

    type: Literal["agent.tool_use"] = "agent.tool_use"
    name: str
    input: dict[str, JsonValue]
    evaluated_permission: Permission


class AgentCustomToolUse(Event):
    """The agent calls a tool that the client runs. Its ``id`` is what the result refers to."""

    type: Literal["agent.custom_tool_use"] = "agent.custom_tool_use"
    name: str
    input: dict[str, JsonValue]


class AgentMcpToolUse(Event):
    """The agent calls a tool of an MCP server."""

    type: Literal["agent.mcp_tool_use"] = "agent.mcp_tool_use"
    mcp_server_name: str
    name: str
    input: dict[str, JsonValue]
    evaluated_permission: Permission


ToolOutcome = Literal["ok", "error", "denied", "interrupted", "timed_out", "unknown"]


class AgentToolResult(Event):
    """The one result of a tool call."""

    type: Literal["agent.tool_result"] = "agent.tool_result"
    tool_use_id: EventId
    content: tuple[ContentBlock, ...] = ()
    is_error: Annotated[bool, Omitted] = False
    outcome: ToolOutcome = "ok"
    """``unknown``: the attempt was lost and may have had its effect; the tool is not safe to repeat."""

    @property
    def text(self) -> str:
        """The text blocks, joined by newlines."""
        return text_of(self.content)


class AgentMcpToolResult(Event):
    """The one result of an MCP tool call."""

    type: Literal["agent.mcp_tool_result"] = "agent.mcp_tool_result"
    mcp_tool_use_id: EventId
    content: tuple[ContentBlock, ...] = ()
    is_error: Annotated[bool, Omitted] = False
    outcome: ToolOutcome = "ok"
    """As that of `AgentToolResult`."""

    @property
    def tool_use_id(self) -> EventId:
        """The call, by the name that it has in other results."""
        return self.mcp_tool_use_id

    @property
    def text(self) -> str:
        """The text blocks, joined by newlines."""
        return text_of(self.content)


ToolResultEvent = AgentToolResult | AgentMcpToolResult
"""The one result of a call that a worker or an MCP server runs."""


class ContextCompacted(Event):
    """Older parts of the conversation were replaced by a summary in the model's context."""

    type: Literal["agent.thread_context_compacted"] = "agent.thread_context_compacted"


class SessionRunning(Event):
    """A turn begins, or goes on after answers came or a retry."""

    type: Literal["session.status_running"] = "session.status_running"
    user_event_id: Annotated[EventId | None, Omitted] = None
    """The message whose turn begins; ``None`` when a turn goes on."""


class SessionIdle(Event):
    """The session waits; the stop reason says for what."""

    type: Literal["session.status_idle"] = "session.status_idle"
    stop_reason: StopReason


class SessionRescheduled(Event):
    """A model call failed and is tried again by itself."""

    type: Literal["session.status_rescheduled"] = "session.status_rescheduled"


class SessionPaused(Event):
    """The session holds before its next step."""

    type: Literal["session.status_paused"] = "session.status_paused"


class SessionResumed(Event):
    """The hold is over."""

    type: Literal["session.status_resumed"] = "session.status_resumed"
    status: SessionStatus
    """What the session is again."""


class SessionTerminated(Event):
    """The last event of a session."""

    type: Literal["session.status_terminated"] = "session.status_terminated"
    status: SessionStatus


class SessionUpdated(Event):
    """What `update_session` changed; fields that stayed are left out."""

    type: Literal["session.updated"] = "session.updated"
    title: Annotated[str | None, Unset] = None
    metadata: Annotated[Metadata | None, Omitted] = None
    agent_version: Annotated[int | None, Omitted] = None
    budget: Annotated[Budget | None, Omitted] = None
    budget_removed: Annotated[bool, Omitted] = False
    skip_permissions: Annotated[bool | None, Unset] = None


class SessionUsage(Event):
    """Tokens used. Comes right before every idle."""

    type: Literal["session.usage"] = "session.usage"
    usage: Usage
    """The whole session."""
    turn: Usage
    """The turn that just ended or parked."""
    cost_microcents: Annotated[int | None, Unset] = None
    """The whole session at list price, in millionths of a US cent; ``None`` if a model has no known price."""
    active_seconds: ActiveSeconds = 0
    budget: Annotated[Budget | None, Omitted] = None


class SessionErrorEvent(Event):
    """Something went wrong in the turn."""

    type: Literal["session.error"] = "session.error"
    error: ErrorDetail


class ModelRequestStart(Event):
    """A model call begins."""

    type: Literal["span.model_request_start"] = "span.model_request_start"
    consumed_event_ids: Annotated[tuple[EventId, ...], Omitted] = ()
    """Queued client events that this step is the first to show to the model."""


class ModelRequestEnd(Event):
    """A model call ended."""

    type: Literal["span.model_request_end"] = "span.model_request_end"
    model_request_start_id: EventId
    model_usage: Usage = Usage()
    is_error: Annotated[bool, Omitted] = False


class UnknownEvent(Event):
    """An event of a newer release; it keeps its place in the numbering."""

    model_config = ConfigDict(extra="allow")
    type: str


_SAID = (
    SessionRunning,
    SessionIdle,
    SessionRescheduled,
    SessionPaused,
    SessionResumed,
    SessionTerminated,
    SessionUpdated,
    SessionUsage,
    SessionErrorEvent,
    AgentToolResult,
    AgentMcpToolResult,
    ModelRequestEnd,
    ContextCompacted,
)
_SAID_TYPES = {kind.model_fields["type"].default for kind in _SAID}


def _said_tag(value: object) -> str:
    found = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return "known" if found in _SAID_TYPES else "unknown"


_KnownSaid = Annotated[
    SessionRunning
    | SessionIdle
    | SessionRescheduled
    | SessionPaused
    | SessionResumed
    | SessionTerminated
    | SessionUpdated
    | SessionUsage
    | SessionErrorEvent
    | AgentToolResult
    | AgentMcpToolResult
    | ModelRequestEnd
    | ContextCompacted,
    Field(discriminator="type"),
]

SaidEvent = Annotated[
    Annotated[_KnownSaid, Tag("known")] | Annotated[UnknownEvent, Tag("unknown")], Discriminator(_said_tag)
]
"""What the workflow itself says; an unknown type is kept as `UnknownEvent`."""

SessionEvent = (
    UserMessage
    | UserInterrupt
    | UserToolConfirmation
    | UserCustomToolResult
    | UserToolResult
    | UserDefineOutcome
    | SystemMessage
    | AgentMessage
    | AgentThinking
    | AgentToolUse
    | AgentCustomToolUse
    | AgentMcpToolUse
    | AgentToolResult
    | AgentMcpToolResult
    | ContextCompacted
    | SessionRunning
    | SessionIdle
    | SessionRescheduled
    | SessionPaused
    | SessionResumed
    | SessionTerminated
    | SessionUpdated
    | SessionUsage
    | SessionErrorEvent
    | ModelRequestStart
    | ModelRequestEnd
    | UnknownEvent
)
"""Any event of the log."""

_EVENT_TYPES: dict[str, type[Event]] = {
    kind.model_fields["type"].default: kind for kind in SessionEvent.__args__ if kind is not UnknownEvent
}


def read_event(data: str | bytes) -> SessionEvent:
    """Read one event from its JSON, tolerantly: additions of a newer release are ignored, its new types kept."""
    loose = TypeAdapter(dict[str, JsonValue]).validate_json(data)
    kind = _EVENT_TYPES.get(str(loose.get("type")), UnknownEvent)
    event = kind.model_validate_json(data, extra="allow" if kind is UnknownEvent else "ignore")
    return cast(SessionEvent, event)
