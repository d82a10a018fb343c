"""The model's context: a fold of the session's log to provider-neutral messages.

Feed it the records of history in order, up to the scheduling of the step that is to run. Only what a scheduled step
has consumed is in the conversation, so messages that still wait in the queue stay out, whenever they arrived.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sojourn.types.content import ContentBlock, MessageBlock, TextBlock
from sojourn.types.event import (
    AgentMcpToolResult,
    AgentToolResult,
    SystemMessage,
    ToolResultEvent,
    UserCustomToolResult,
    UserEvent,
    UserMessage,
    UserToolConfirmation,
    UserToolResult,
)
from sojourn.types.id import EventId
from sojourn.types.mcp import ListMcpToolsInput, ListMcpToolsResult, McpTool
from sojourn.types.record import (
    AssistantPart,
    CallModelInput,
    CallModelResult,
    CompactContextInput,
    CompactContextResult,
    PromptVerdict,
    Record,
    RunToolInput,
    RunToolResult,
    Said,
    ToolCallPart,
    UserEvents,
)


@dataclass(frozen=True, slots=True)
class UserTurn:
    """What the user said, or a summary in its place."""

    content: tuple[MessageBlock, ...]
    summary: bool = False
    """Written by a model, to stand for an earlier part of the conversation."""
    id: EventId | None = field(default=None, compare=False)
    """Of the message it was."""


@dataclass(frozen=True, slots=True)
class SystemTurn:
    """Instructions that came in the middle of the conversation."""

    text: str


@dataclass(frozen=True, slots=True)
class AssistantTurn:
    """What the model answered in one step."""

    parts: tuple[AssistantPart, ...]


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of one call, addressed by the model's own call id."""

    call_id: str
    name: str
    content: tuple[ContentBlock, ...]
    is_error: bool


@dataclass(frozen=True, slots=True)
class ToolResults:
    """The results of one step's calls, in the order of the calls."""

    results: tuple[ToolResult, ...]


Message = UserTurn | SystemTurn | AssistantTurn | ToolResults

_SUMMARY = """\
The earlier part of this conversation has been replaced by a summary of it:

<summary>
{summary}
</summary>

The conversation goes on from there."""


def last_request(messages: Sequence[Message]) -> int | None:
    """The place of the last message that the user wrote; ``None`` if there is none."""
    return next(
        (
            place
            for place in reversed(range(len(messages)))
            if isinstance(message := messages[place], UserTurn) and not message.summary
        ),
        None,
    )


def compacted(messages: Sequence[Message], result: CompactContextResult) -> list[Message]:
    """The conversation after a compaction. Depends on the stored result alone, so every worker gets the same.

    Instructions of the part that is replaced stay word for word, in their order, before the summary.
    """
    if not result.summary:
        return list(messages)
    cut = max(len(messages) - result.kept, 0)
    older = messages[:cut]
    request = last_request(older) if result.kept_message else None
    return [
        *(message for message in older if isinstance(message, SystemTurn)),
        UserTurn((TextBlock(text=_SUMMARY.format(summary=result.summary)),), summary=True),
        *([] if request is None else [older[request]]),
        *messages[cut:],
    ]


def judged(messages: Sequence[Message], verdicts: Sequence[PromptVerdict]) -> list[Message]:
    """The conversation with what hooks have made of messages."""
    if not verdicts:
        return list(messages)
    made = {each.id: each for each in verdicts}
    found: list[Message] = []
    for message in messages:
        verdict = made.get(message.id) if isinstance(message, UserTurn) and message.id is not None else None
        if verdict is None or (verdict.content is None and not verdict.denied):
            found.append(message)
        elif not verdict.denied:
            found.append(UserTurn(verdict.content or (), id=verdict.id))
    return found


@dataclass
class Conversation:
    """The messages so far, and the tool calls of the last step."""

    messages: list[Message] = field(default_factory=list)
    steps: int = 0
    """Model steps answered so far; scripted models answer by it."""
    used_tokens: int = 0
    """What the provider counted for the last answer and all before it; 0 if that says nothing about the messages."""
    measured: int = 0
    """Messages that `used_tokens` are for, from the first on."""
    fresh: list[EventId] = field(default_factory=list)
    """Messages that no answered step has seen yet."""
    approved: list[ToolCallPart] = field(default_factory=list)
    """Calls that are allowed for the rest of the session, because somebody said so when one of them asked."""
    rules_changed: bool = False
    """Since the last answer somebody has allowed a call beyond the session."""
    _confirmed: dict[EventId, UserToolConfirmation] = field(default_factory=dict)
    mcp_tools: dict[str, tuple[McpTool, ...]] = field(default_factory=dict)
    """What each MCP server offered when it was asked last; a server that could not be asked is not in it."""
    _waiting: dict[EventId, UserMessage | SystemMessage] = field(default_factory=dict)
    _calls: dict[EventId, ToolCallPart] = field(default_factory=dict)
    _results: dict[EventId, ToolResult] = field(default_factory=dict)
    _deny_messages: dict[EventId, str] = field(default_factory=dict)
    _answers: dict[EventId, UserCustomToolResult] = field(default_factory=dict)

    def call(self, tool_use_id: EventId) -> ToolCallPart | None:
        """The open call with this event id."""
        return self._calls.get(tool_use_id)

    def answer(self, question_id: EventId) -> UserCustomToolResult | None:
        """What the client has answered to the question of an MCP server, during a call of the last step."""
        return self._answers.get(question_id)

    def feed(self, record: Record, events: list[UserEvent] | None = None) -> None:
        """Fold one record.

        Args:
            record: The next record of history.
            events: For a signal, its events without repeats, as `LogCursor.accept` gives them.
        """
        match record:
            case UserEvents():
                for event in events or ():
                    self._user_event(event)
            case CallModelInput():
                self._said(record.said)
                self._consume(record.consumes)
            case RunToolInput() | ListMcpToolsInput() | Said():
                self._said(record.said)
            case ListMcpToolsResult():
                self._listed(record)
            case CallModelResult():
                self._answer(record)
            case CompactContextInput():
                self._said(record.said)
                self._consume(())
            case CompactContextResult():
                self._compact(record)
            case RunToolResult() if record.is_final:
                self._settle(record.tool_use_id, record.content, is_error=record.outcome != "ok")

    def _user_event(self, event: UserEvent) -> None:
        match event:
            case UserMessage() | SystemMessage():
                self._waiting[event.id] = event
            case UserToolConfirmation():
                self._confirm(event)
            case UserCustomToolResult():
                if event.custom_tool_use_id not in self._calls:
                    self._answers.setdefault(event.custom_tool_use_id, event)
                self._settle(event.custom_tool_use_id, event.content, is_error=event.is_error)
            case UserToolResult():
                self._settle(event.tool_use_id, event.content, is_error=event.is_error)

    def _confirm(self, event: UserToolConfirmation) -> None:
        """Take an answer to an ``ask``. As in the workflow the first counts, also one that overtakes the call."""
        if event.deny_message is not None:
            self._deny_messages.setdefault(event.tool_use_id, event.deny_message)
        if self._confirmed.setdefault(event.tool_use_id, event) is event:
            call = self._calls.get(event.tool_use_id)
            if call is not None and call.id not in self._results:
                self._remember(call, event)

    def _remember(self, call: ToolCallPart, event: UserToolConfirmation) -> None:
        if event.result != "allow" or call.permission != "ask" or call.kind == "custom":
            return
        if event.remember == "session":
            self.approved.append(call)
        self.rules_changed = self.rules_changed or event.remember in ("agent", "global")

    def _said(self, said: tuple[object, ...]) -> None:
        for event in said:
            if isinstance(event, AgentToolResult | AgentMcpToolResult):
                self._settle(event.tool_use_id, self._explained(event), is_error=event.is_error)

    def _explained(self, event: ToolResultEvent) -> tuple[ContentBlock, ...]:
        reason = self._deny_messages.get(event.tool_use_id)
        if event.outcome != "denied" or reason is None:
            return event.content
        return (*event.content, TextBlock(text=f"Reason given: {reason}"))

    def _answer(self, result: CallModelResult) -> None:
        self.steps += 1
        self.messages = judged(self.messages, result.prompts)
        decided = {each.id for each in result.prompts}
        # What hooks have not decided before an interrupt is for the next step to have decided.
        cut_off = result.finish_reason == "interrupted"
        self.fresh = [id for id in self.fresh if cut_off and id not in decided]
        if result.parts:
            self.messages.append(AssistantTurn(result.parts))
        self._calls = {call.id: call for call in result.calls}
        self._results, self._answers = {}, {}
        self.rules_changed = False
        self._confirmed = {id: event for id, event in self._confirmed.items() if id in self._calls}
        for id, event in self._confirmed.items():
            self._remember(self._calls[id], event)
        # An answer that was cut off has not been counted.
        if result.usage.total_tokens:
            self.used_tokens, self.measured = result.usage.total_tokens, len(self.messages)

    def _compact(self, result: CompactContextResult) -> None:
        if result.summary:
            self.messages = compacted(self.messages, result)
            self.used_tokens = self.measured = 0

    def _listed(self, result: ListMcpToolsResult) -> None:
        for listing in result.listings:
            self.mcp_tools.pop(listing.server, None)
            if listing.failure is None:
                self.mcp_tools[listing.server] = listing.tools

    def _settle(self, tool_use_id: EventId, content: tuple[ContentBlock, ...], *, is_error: bool) -> None:
        call = self._calls.get(tool_use_id)
        if call is not None and tool_use_id not in self._results:
            self._results[tool_use_id] = ToolResult(call.call_id, call.name, content, is_error)

    def _consume(self, ids: tuple[EventId, ...]) -> None:
        if self._calls:
            self.messages.append(ToolResults(tuple(self._result(call) for call in self._calls.values())))
            self._calls = {}
        for event_id in ids:
            self._enter(self._waiting.pop(event_id, None))

    def _result(self, call: ToolCallPart) -> ToolResult:
        lost = (TextBlock(text="No result was recorded."),)
        return self._results.get(call.id) or ToolResult(call.call_id, call.name, lost, is_error=True)

    def _enter(self, event: UserMessage | SystemMessage | None) -> None:
        match event:
            case UserMessage():
                self.messages.append(UserTurn(event.content, id=event.id))
                self.fresh.append(event.id)
            case SystemMessage():
                self.messages.append(SystemTurn("\n".join(block.text for block in event.content)))
