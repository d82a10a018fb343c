"""Events as lines for a terminal."""

import json
from collections.abc import Mapping

from pydantic import JsonValue
from rich.text import Text

from sojourn.types import (
    AgentCustomToolUse,
    AgentMcpToolResult,
    AgentMcpToolUse,
    AgentMessage,
    AgentThinking,
    AgentToolResult,
    AgentToolUse,
    Budget,
    ContentBlock,
    ContextCompacted,
    EventDelta,
    EventStart,
    ModelRequestEnd,
    ModelRequestStart,
    Preview,
    RequiresAction,
    SessionErrorEvent,
    SessionEvent,
    SessionIdle,
    SessionResumed,
    SessionRunning,
    SessionTerminated,
    SessionUpdated,
    SessionUsage,
    SystemMessage,
    TextBlock,
    ToolProgress,
    UnknownEvent,
    Usage,
    UserCustomToolResult,
    UserDefineOutcome,
    UserMessage,
    UserToolConfirmation,
    UserToolResult,
)
from sojourn.types.account import MICROCENTS_PER_CENT

SNIPPET = 160
"""Characters of content on a line; verbose shows all of it."""

_QUIET = (AgentThinking, ModelRequestEnd, ModelRequestStart, SessionRunning, SessionUsage)
# A model or a tool may say anything; escape sequences must not reach the terminal.
_CONTROL = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
_STYLES = {
    "user": "bold green",
    "system": "green",
    "agent": "bold cyan",
    "tool": "yellow",
    "ask": "bold yellow",
    "result": "magenta",
    "error": "bold red",
}


def event_line(event: SessionEvent | Preview, *, verbose: bool = False) -> Text | None:
    """One line for an event: its number, a short kind, a snippet of what it says.

    Args:
        event: An event or a preview.
        verbose: Also show spans, usage and ids, and content in full length.

    Returns:
        The line; ``None`` for what is not worth one.
    """
    if isinstance(event, EventStart | EventDelta | ToolProgress):
        return _preview_line(event)
    if isinstance(event, _QUIET) and not verbose:
        return None
    kind, content = _kind(event), snippet(_content(event), length=None if verbose else SNIPPET)
    line = Text.assemble((f"{event.seq:>5}  ", "dim"), (f"{kind:<11} ", _STYLES.get(kind, "dim")), content)
    if verbose or kind == "ask":
        line.append(f"  {event.id}", "dim")
    return line


def printable(text: str) -> str:
    """The text without control characters, which a terminal would obey. New lines and tabs stay."""
    return text.replace("\r\n", "\n").translate(_CONTROL)


def snippet(text: str, *, length: int | None = SNIPPET) -> str:
    """The text on one line, cut to ``length`` characters; ``None`` cuts nothing."""
    flat = printable(" ".join(text.split()))
    return flat if length is None or len(flat) <= length else f"{flat[: length - 1]}…"


def call_text(name: str, arguments: Mapping[str, JsonValue]) -> str:
    """A tool call as it would be written in Python."""
    shown = (f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in arguments.items())
    return f"{name}({', '.join(shown)})"


def _preview_line(event: Preview) -> Text | None:
    match event:
        case EventDelta():
            return Text.assemble(
                ("    ~  writing  ", "dim"), (printable(event.delta.content.text).replace("\n", " "), "dim")
            )
        case ToolProgress():
            return Text(f"    ~  progress {snippet(event.text)}", style="dim")
        case _:
            return None


def _kind(event: SessionEvent) -> str:
    match event:
        case AgentToolUse() | AgentMcpToolUse():
            return "ask" if event.evaluated_permission == "ask" else "tool"
        case AgentCustomToolUse():
            return "ask"
        case AgentToolResult() | AgentMcpToolResult() | UserCustomToolResult() | UserToolResult():
            return "result"
        case UserToolConfirmation():
            return "answer"
        case UserMessage():
            return "user"
        case SystemMessage():
            return "system"
        case AgentMessage():
            return "agent"
        case SessionErrorEvent():
            return "error"
        case ContextCompacted():
            return "compacted"
        case _:
            return event.type.rpartition(".")[2].removeprefix("status_").removeprefix("model_request_")[:11]


def _content(event: SessionEvent) -> str:
    match event:
        case UserMessage() | SystemMessage():
            return blocks_text(event.content)
        case AgentMessage():
            return event.text + (" (cut short)" if event.incomplete else "")
        case AgentToolUse() | AgentCustomToolUse() | AgentMcpToolUse():
            return call_text(event.name, event.input)
        case AgentToolResult() | AgentMcpToolResult():
            said = blocks_text(event.content)
            return said if event.outcome == "ok" else f"{event.outcome.replace('_', ' ')}: {said}"
        case UserCustomToolResult() | UserToolResult():
            return ("error: " if event.is_error else "") + blocks_text(event.content)
        case UserToolConfirmation():
            reason = f": {event.deny_message}" if event.deny_message else ""
            return f"{event.result} {event.tool_use_id}{reason}"
        case UserDefineOutcome():
            return event.description
        case UnknownEvent():
            return event.type
        case _:
            return _session_content(event)


def _session_content(event: SessionEvent) -> str:
    match event:
        case SessionIdle(stop_reason=RequiresAction(event_ids=ids)):
            return f"requires_action: {', '.join(ids)}"
        case SessionIdle():
            return event.stop_reason.type
        case SessionTerminated() | SessionResumed():
            return event.status.value
        case SessionErrorEvent(error=error):
            return f"{error.type} ({error.retry_status.type}): {error.message}"
        case SessionUsage():
            cost = cost_text(event.cost_microcents, event.budget)
            return f"turn {usage_text(event.turn)}, session {usage_text(event.usage)}, {cost}"
        case ModelRequestEnd():
            return usage_text(event.model_usage)
        case ContextCompacted():
            return "a summary takes the place of the older part of the conversation"
        case SessionUpdated():
            return event.model_dump_json(exclude={"id", "seq", "processed_at", "type"})
        case _:
            return ""


def usage_text(usage: Usage) -> str:
    """Tokens in and out."""
    return f"{usage.input_tokens:,} in / {usage.output_tokens:,} out"


def cost_text(cost_microcents: int | None, budget: Budget | None) -> str:
    """What it cost at list price."""
    cost = "cost unknown" if cost_microcents is None else f"${cost_microcents / MICROCENTS_PER_CENT / 100:.4f}"
    return cost if budget is None else f"{cost} of ${budget.max_list_cost_cents / 100:.2f}"


def blocks_text(content: tuple[ContentBlock, ...]) -> str:
    """The text of the blocks, and the kind of those that are not text."""
    return " ".join(block.text if isinstance(block, TextBlock) else f"[{block.type}]" for block in content)
