"""The events of a session as the contract has them (Managed Agents API §2). `sojourn.gateway.projection` makes them.

Each has an id, a type and the time it was processed at, which is ``None`` while a client's event waits in the queue.
Nulls are on the wire. `session_thread_id` is set on what comes from another thread than the primary one: never, as long
as there is no other.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Discriminator, Field, JsonValue, Tag

from sojourn.gateway.wire.usage import CumulativeUsage, Money, RequestUsage
from sojourn.types.content import ContentBlock, MessageBlock, TextBlock
from sojourn.types.permission import Permission
from sojourn.types.session import SessionStatus
from sojourn.types.wire import Metadata, Omitted, Unset, Wire


class WireEvent(Wire):
    """What all events have."""

    id: str
    processed_at: datetime | None

    @property
    def kind(self) -> str:
        """Its ``type``, which every class has as a literal of its own."""
        return str(vars(self)["type"])


# --- the client ----------------------------------------------------------------------------------------------------


class UserMessage(WireEvent):
    """Starts a turn, or waits for one."""

    type: Literal["user.message"] = "user.message"
    content: tuple[MessageBlock, ...]


class UserInterrupt(WireEvent):
    """Ends the turn in progress."""

    type: Literal["user.interrupt"] = "user.interrupt"
    session_thread_id: str | None = None


class UserToolConfirmation(WireEvent):
    """Allows or denies a tool call."""

    type: Literal["user.tool_confirmation"] = "user.tool_confirmation"
    tool_use_id: str
    result: Literal["allow", "deny"]
    deny_message: str | None = None
    remember: Annotated[str | None, Omitted] = None
    """For whom the very same call is allowed from now on. An extension."""
    session_thread_id: str | None = None


class UserCustomToolResult(WireEvent):
    """The result of a tool that the client ran."""

    type: Literal["user.custom_tool_result"] = "user.custom_tool_result"
    custom_tool_use_id: str
    content: tuple[ContentBlock, ...] = ()
    is_error: bool = False
    session_thread_id: str | None = None


class UserToolResult(WireEvent):
    """The result of a built-in tool that a worker of the client ran."""

    type: Literal["user.tool_result"] = "user.tool_result"
    tool_use_id: str
    content: tuple[ContentBlock, ...] = ()
    is_error: bool = False
    session_thread_id: str | None = None


class TextRubric(Wire):
    """What an outcome is graded by."""

    type: Literal["text"] = "text"
    content: str


class UserDefineOutcome(WireEvent):
    """A goal with a rubric."""

    type: Literal["user.define_outcome"] = "user.define_outcome"
    outcome_id: str
    description: str
    rubric: TextRubric
    max_iterations: int


class SystemMessage(WireEvent):
    """Instructions in the middle of a conversation."""

    type: Literal["system.message"] = "system.message"
    content: tuple[TextBlock, ...]


# --- the agent -----------------------------------------------------------------------------------------------------


class Evaluation(Wire):
    """By which rule a tool call is permitted."""

    type: Literal["always_allow", "always_ask"]


class AgentMessage(WireEvent):
    """Text of the agent."""

    type: Literal["agent.message"] = "agent.message"
    content: tuple[TextBlock, ...]
    incomplete: Annotated[bool, Omitted] = False
    """An interrupt cut it short. An addition of ours."""


class AgentThinking(WireEvent):
    """The agent has thought."""

    type: Literal["agent.thinking"] = "agent.thinking"


class _ToolUse(WireEvent):
    name: str
    input: dict[str, JsonValue]
    evaluated_permission: Permission
    evaluation: Evaluation | None = None
    """``None`` where the permission is ``deny``: the contract has no name for a rule that always denies."""
    session_thread_id: str | None = None


class AgentToolUse(_ToolUse):
    """The agent calls a tool."""

    type: Literal["agent.tool_use"] = "agent.tool_use"


class AgentMcpToolUse(_ToolUse):
    """The agent calls a tool of an MCP server."""

    type: Literal["agent.mcp_tool_use"] = "agent.mcp_tool_use"
    mcp_server_name: str


class AgentCustomToolUse(WireEvent):
    """The agent calls a tool that the client runs."""

    type: Literal["agent.custom_tool_use"] = "agent.custom_tool_use"
    name: str
    input: dict[str, JsonValue]
    session_thread_id: str | None = None


class AgentToolResult(WireEvent):
    """The one result of a tool call."""

    type: Literal["agent.tool_result"] = "agent.tool_result"
    tool_use_id: str
    content: tuple[ContentBlock, ...] = ()
    is_error: bool = False


class AgentMcpToolResult(WireEvent):
    """The one result of an MCP tool call."""

    type: Literal["agent.mcp_tool_result"] = "agent.mcp_tool_result"
    mcp_tool_use_id: str
    content: tuple[ContentBlock, ...] = ()
    is_error: bool = False


class ContextCompacted(WireEvent):
    """A summary has taken the place of older messages."""

    type: Literal["agent.thread_context_compacted"] = "agent.thread_context_compacted"


# --- the session ---------------------------------------------------------------------------------------------------


class StopReason(Wire):
    """Why the session waits."""

    type: Literal["end_turn", "retries_exhausted", "budget_reached", "refusal"]


class RequiresAction(Wire):
    """It waits for answers to these tool calls."""

    type: Literal["requires_action"] = "requires_action"
    event_ids: tuple[str, ...]


class StopDetails(Wire):
    """More about a refusal. Providers do not tell more."""

    type: Literal["refusal"] = "refusal"
    category: str | None = None
    explanation: str | None = None


class SessionRunning(WireEvent):
    """A turn begins or goes on."""

    type: Literal["session.status_running"] = "session.status_running"


class SessionRescheduled(WireEvent):
    """A model request has failed and is tried again."""

    type: Literal["session.status_rescheduled"] = "session.status_rescheduled"


class SessionTerminated(WireEvent):
    """The session has ended."""

    type: Literal["session.status_terminated"] = "session.status_terminated"
    sojourn_status: SessionStatus
    """Whether it was archived or has failed. An addition of ours."""


class SessionIdle(WireEvent):
    """The session waits."""

    type: Literal["session.status_idle"] = "session.status_idle"
    stop_reason: StopReason | RequiresAction
    stop_details: StopDetails | None = None


class ThreadEvent(WireEvent):
    """What the events about a thread's status have."""

    session_thread_id: str
    agent_name: str


class ThreadRunning(ThreadEvent):
    """The thread runs."""

    type: Literal["session.thread_status_running"] = "session.thread_status_running"


class ThreadRescheduled(ThreadEvent):
    """The thread waits to try again."""

    type: Literal["session.thread_status_rescheduled"] = "session.thread_status_rescheduled"


class ThreadTerminated(ThreadEvent):
    """The thread has ended."""

    type: Literal["session.thread_status_terminated"] = "session.thread_status_terminated"


class ThreadIdle(ThreadEvent):
    """The thread waits."""

    type: Literal["session.thread_status_idle"] = "session.thread_status_idle"
    stop_reason: StopReason | RequiresAction
    stop_details: StopDetails | None = None


class Budget(Wire):
    """The most that a session may cost."""

    type: Literal["limit"] = "limit"
    max_list_cost: Money


class SessionUsage(WireEvent):
    """What the session has used. Right before every idle."""

    type: Literal["session.usage"] = "session.usage"
    usage: CumulativeUsage
    budget: Budget | None = None


class SessionUpdated(WireEvent):
    """Only what has changed."""

    type: Literal["session.updated"] = "session.updated"
    title: Annotated[str | None, Unset] = None
    metadata: Annotated[Metadata | None, Unset] = None
    agent_version: Annotated[int | None, Unset] = None
    """The session runs another agent from now on, as the session itself shows it. An addition of ours."""
    budget: Annotated[Budget | None, Unset] = None
    skip_permissions: Annotated[bool | None, Unset] = None
    """An addition of ours."""


class SessionUnlimited(SessionUpdated):
    """The budget was removed: the one change that is told by a null."""

    budget: Budget | None = None


class RetryStatus(Wire):
    """What happens after an error."""

    type: Literal["retrying", "exhausted", "terminal"]


class ErrorDetail(Wire):
    """What went wrong."""

    type: str
    message: str
    retry_status: RetryStatus
    event_ids: Annotated[tuple[str, ...], Omitted] = ()
    """Messages that were refused and get no turn. An addition of ours."""
    repository_url: Annotated[str | None, Unset] = None
    """The repository that the error is about."""
    mcp_server_name: Annotated[str | None, Omitted] = None
    """The server that could not be used, where the error is about one."""


class SessionError(WireEvent):
    """Something went wrong."""

    type: Literal["session.error"] = "session.error"
    error: ErrorDetail


class SessionDeleted(WireEvent):
    """The session is gone; the last event of a stream."""

    type: Literal["session.deleted"] = "session.deleted"


class ModelRequestStart(WireEvent):
    """A model request begins."""

    type: Literal["span.model_request_start"] = "span.model_request_start"


class ModelRequestEnd(WireEvent):
    """A model request has ended."""

    type: Literal["span.model_request_end"] = "span.model_request_end"
    model_request_start_id: str
    model_usage: RequestUsage
    is_error: bool = False


class OtherEvent(WireEvent):
    """An event of ours that the contract does not have, such as ``session.status_paused``."""

    model_config = ConfigDict(extra="allow")
    type: str


_Known = Annotated[
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
    | AgentMcpToolUse
    | AgentCustomToolUse
    | AgentToolResult
    | AgentMcpToolResult
    | ContextCompacted
    | SessionRunning
    | SessionRescheduled
    | SessionTerminated
    | SessionIdle
    | ThreadRunning
    | ThreadRescheduled
    | ThreadTerminated
    | ThreadIdle
    | SessionUsage
    | SessionUpdated
    | SessionError
    | SessionDeleted
    | ModelRequestStart
    | ModelRequestEnd,
    Field(discriminator="type"),
]
_KNOWN = {kind.model_fields["type"].default for kind in _Known.__origin__.__args__}  # type: ignore[attr-defined]


def _tag(value: object) -> str:
    found = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return "known" if found in _KNOWN else "other"


AnyEvent = Annotated[Annotated[_Known, Tag("known")] | Annotated[OtherEvent, Tag("other")], Discriminator(_tag)]
"""Any event on the wire."""
