"""What one history event carries, and the session events it stands for.

Four kinds of history event carry session events and nothing else does (design.md §3). Each record type here is the
payload of one of them and knows its own session events. The workflow counts with `events`, the reader decodes with
`events`: they cannot disagree.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from sojourn.types.builtin import Place
from sojourn.types.content import ContentBlock, MessageBlock, TextBlock
from sojourn.types.event import (
    AgentCustomToolUse,
    AgentMcpToolResult,
    AgentMcpToolUse,
    AgentMessage,
    AgentThinking,
    AgentToolResult,
    AgentToolUse,
    ContextCompacted,
    ModelRequestEnd,
    ModelRequestStart,
    SaidEvent,
    SessionEvent,
    ToolOutcome,
    UserEvent,
)
from sojourn.types.id import AgentId, EventId, SessionId
from sojourn.types.mcp import ELICITATION, ListMcpToolsInput, ListMcpToolsResult, McpOutcome
from sojourn.types.permission import Permission
from sojourn.types.session import Owner, ToolKind
from sojourn.types.usage import Usage
from sojourn.types.wire import Omitted, Unset, Wire


class TextPart(Wire):
    """Text the model wrote."""

    type: Literal["text"] = "text"
    id: EventId
    text: str
    state: Annotated[dict[str, JsonValue] | None, Omitted] = None
    """Provider state that must go back with this part."""


class ThinkingPart(Wire):
    """What the model thought. Kept for the provider; never shown as an event's text."""

    type: Literal["thinking"] = "thinking"
    id: EventId
    text: str
    signature: Annotated[str | None, Omitted] = None
    state: Annotated[dict[str, JsonValue] | None, Omitted] = None


class ToolCallPart(Wire):
    """A tool call of the model, with what the worker knows about the tool."""

    type: Literal["tool_call"] = "tool_call"
    id: EventId
    call_id: str
    """The model's own id of the call."""
    name: str
    input: dict[str, JsonValue]
    kind: ToolKind
    permission: Permission
    place: Annotated[Place | None, Omitted] = None
    """Where it runs; ``None`` is any worker, or the client that runs custom tools."""
    mcp_server_name: Annotated[str, Omitted] = ""
    """The server whose tool it is; empty for any other."""
    mcp_tool_name: Annotated[str, Omitted] = ""
    """What that server calls it; ``name`` is made so that providers take it."""
    idempotent: Annotated[bool, Omitted] = False
    timeout: Annotated[timedelta | None, Omitted] = None
    """Longest run of a function tool, or wait for a custom one; ``None`` takes the agent's limit."""
    state: Annotated[dict[str, JsonValue] | None, Omitted] = None
    refusal: Annotated[str, Omitted] = ""
    """What the model is told of a call that does not run: why it is denied, or what is wrong with it."""


AssistantPart = Annotated[TextPart | ThinkingPart | ToolCallPart, Field(discriminator="type")]

TOOL_GRACE = timedelta(seconds=10)
"""By how much the server's limit on a tool call is longer than the tool's own, which the activity enforces."""

FinishReason = Literal["stop", "tool_calls", "max_tokens", "refusal", "interrupted"]


class CallModelInput(Wire):
    """Schedules one model step. Holds ids, not text: the activity reads the log up to its own scheduling."""

    step: EventId
    """Id of the step's `span.model_request_start`."""
    attempt: Annotated[int, Omitted] = 0
    """Counts the visible attempts of the step, from 1; 0 in histories that did not say."""
    consumes: Annotated[tuple[EventId, ...], Omitted] = ()
    """Client events that enter the conversation with this step."""
    skip_permissions: Annotated[bool, Omitted] = False
    """Whether the session skips permissions at this step."""
    compacted: Annotated[bool, Omitted] = False
    """The conversation has been compacted since the last answer, so only the log tells what it is now."""
    listed: Annotated[bool, Omitted] = False
    """MCP servers have been asked for their tools since the last answer, so only the log tells what there is now."""
    said: Annotated[tuple[SaidEvent, ...], Omitted] = ()
    """What the workflow said in the same task; rides here to save a history event."""

    def events(self) -> Iterator[SessionEvent]:
        """What was said, then the start of the request."""
        yield from self.said
        yield ModelRequestStart(id=self.step, consumed_event_ids=self.consumes)


class Warned(Wire):
    """Something that people are to know, and the model is not told."""

    type: str
    """``hook_failed_error`` or ``prompt_denied_error``."""
    message: str


class PromptVerdict(Wire):
    """What the model sees in place of a message."""

    id: EventId
    content: tuple[MessageBlock, ...] | None = None
    """``None`` as it was sent."""
    denied: Annotated[bool, Omitted] = False
    """The model does not see it at all."""


class CallModelResult(Wire):
    """What the model answered. The one place where the assistant's text is stored."""

    step: EventId
    model: str = ""
    """The name the provider gives the model that answered."""
    parts: tuple[AssistantPart, ...] = ()
    usage: Usage = Usage()
    cost_microcents: Annotated[int | None, Unset] = None
    """At list price, in millionths of a US cent; ``None`` if the model has no known price."""
    finish_reason: FinishReason = "stop"
    prompts: Annotated[tuple[PromptVerdict, ...], Omitted] = ()
    """What hooks made of the messages that this step was the first to see."""
    warnings: Annotated[tuple[Warned, ...], Omitted] = ()
    """Hooks that failed, and other things that people are to know."""
    notify: Annotated[bool, Omitted] = False
    """A hook wants to know when the turn ends."""
    compact: Annotated[bool, Omitted] = False
    """The conversation fills so much of the model's window that it is to be compacted before the next step."""

    @property
    def calls(self) -> tuple[ToolCallPart, ...]:
        """The tool calls, in the model's order."""
        return tuple(part for part in self.parts if isinstance(part, ToolCallPart))

    def events(self) -> Iterator[SessionEvent]:
        """One event for each part, then the end of the request."""
        for part in self.parts:
            yield self._event(part)
        yield ModelRequestEnd(model_request_start_id=self.step, model_usage=self.usage)

    def _event(self, part: AssistantPart) -> SessionEvent:
        match part:
            case TextPart():
                cut = self.finish_reason == "interrupted" and part is self.parts[-1]
                return AgentMessage(id=part.id, content=(TextBlock(text=part.text),), incomplete=cut)
            case ThinkingPart():
                return AgentThinking(id=part.id)
            case ToolCallPart(kind="custom"):
                return AgentCustomToolUse(id=part.id, name=part.name, input=part.input)
            case ToolCallPart(kind="mcp"):
                return AgentMcpToolUse(
                    id=part.id,
                    mcp_server_name=part.mcp_server_name,
                    name=part.mcp_tool_name,
                    input=part.input,
                    evaluated_permission=part.permission,
                )
            case ToolCallPart():
                return AgentToolUse(id=part.id, name=part.name, input=part.input, evaluated_permission=part.permission)


class RunToolInput(Wire):
    """Schedules one call of a tool. The arguments are in the model step's result."""

    tool_use_id: EventId
    name: str
    generation: Annotated[int, Omitted] = 0
    """Which opening of the session's workspace the call is for; 0 if it needs none."""
    notice: Annotated[str, Omitted] = ""
    """What the model is to know before the result, such as that the workspace is not what it was."""
    mcp: Annotated[bool, Omitted] = False
    """Whether it is the tool of an MCP server."""
    answered: Annotated[tuple[EventId, ...], Omitted] = ()
    """Questions of the MCP server that a client has answered meanwhile: the call goes on."""
    withdrawn: Annotated[tuple[EventId, ...], Omitted] = ()
    """Questions of it that nobody has answered in time: the call goes on."""
    said: Annotated[tuple[SaidEvent, ...], Omitted] = ()

    def events(self) -> Iterator[SessionEvent]:
        """What was said in the same task."""
        yield from self.said


class RunToolResult(Wire):
    """What a tool returned."""

    tool_use_id: EventId
    content: tuple[ContentBlock, ...] = ()
    outcome: ToolOutcome = "ok"
    warnings: Annotated[tuple[Warned, ...], Omitted] = ()
    """Hooks that failed."""
    mcp: Annotated[McpOutcome | None, Omitted] = None
    """``None`` for any call but one to an MCP server."""

    @property
    def is_final(self) -> bool:
        """Whether the call is over; else an MCP server waits for answers."""
        return self.mcp is None or not self.mcp.questions

    def events(self) -> Iterator[SessionEvent]:
        """The result, or the questions that come before it."""
        if self.mcp is None:
            yield AgentToolResult(
                tool_use_id=self.tool_use_id,
                content=self.content,
                is_error=self.outcome != "ok",
                outcome=self.outcome,
            )
        elif self.is_final:
            yield AgentMcpToolResult(
                mcp_tool_use_id=self.tool_use_id,
                content=self.content,
                is_error=self.outcome != "ok",
                outcome=self.outcome,
            )
        else:
            for question in self.mcp.questions:
                yield AgentCustomToolUse(id=question.id, name=ELICITATION, input=question.input)


class NotifyTurnInput(Wire):
    """Schedules that hooks are told of the end of a turn. No part of the log."""

    session_id: SessionId
    agent_id: AgentId
    owner: Owner
    hooks: tuple[str, ...] = ()
    """Of the agent's definition."""
    stop_reason: str
    turn: int
    steps: int


class CompactContextInput(Wire):
    """Schedules one compaction: the older part of the conversation gives way to a summary that the model writes."""

    step: EventId
    """Id of the `span.model_request_start` of the summary call."""
    attempt: Annotated[int, Omitted] = 0
    """Counts the visible attempts of the compaction, from 1."""
    too_long: Annotated[bool, Omitted] = False
    """The conversation has been refused as too long, whatever the window is said to be."""
    said: Annotated[tuple[SaidEvent, ...], Omitted] = ()
    """What the workflow said in the same task; rides here to save a history event."""

    def events(self) -> Iterator[SessionEvent]:
        """What was said, then the start of the request."""
        yield from self.said
        yield ModelRequestStart(id=self.step)


class CompactContextResult(Wire):
    """What became of a compaction. The one place where the summary is stored; every worker folds it the same way."""

    step: EventId
    model: str = ""
    """The name the provider gives the model that answered."""
    summary: Annotated[str, Omitted] = ""
    """Stands for all messages but those kept; empty if there was nothing to replace."""
    kept: Annotated[int, Omitted] = 0
    """The newest messages of the conversation that stay, counted from its end."""
    kept_message: Annotated[bool, Omitted] = False
    """Whether the last message of the user before those stays too: the agent is still working on it."""
    usage: Usage = Usage()
    cost_microcents: Annotated[int | None, Unset] = None
    """As that of a model step; 0 where there was nothing to replace and the model was not asked."""

    def events(self) -> Iterator[SessionEvent]:
        """That the context is another one now, then the end of the request."""
        if self.summary:
            yield ContextCompacted()
        yield ModelRequestEnd(model_request_start_id=self.step, model_usage=self.usage)


class UserEvents(Wire):
    """The signal that carries client events."""

    sent: tuple[UserEvent, ...]

    def events(self) -> Sequence[SessionEvent]:
        """The client's events, in the order of the list."""
        return self.sent


class Said(Wire):
    """The memo that carries what the workflow itself says."""

    said: tuple[SaidEvent, ...]

    def events(self) -> Sequence[SessionEvent]:
        """What was said."""
        return self.said


ActivityInput = CallModelInput | RunToolInput | CompactContextInput | ListMcpToolsInput
ActivityResult = CallModelResult | RunToolResult | CompactContextResult | ListMcpToolsResult

Record = UserEvents | ActivityInput | ActivityResult | Said
