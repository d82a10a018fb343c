"""A session as a chat shows it: the agent's words as they are written, tool calls, and what goes wrong."""

from rich.text import Text

from sojourn.cli.output import Output
from sojourn.cli.render import blocks_text, call_text, printable, snippet
from sojourn.types import (
    AgentCustomToolUse,
    AgentMcpToolResult,
    AgentMcpToolUse,
    AgentMessage,
    AgentToolResult,
    AgentToolUse,
    EventDelta,
    EventId,
    EventStart,
    Preview,
    SessionErrorEvent,
    SessionEvent,
    SessionIdle,
    SessionPaused,
    SessionResumed,
    SessionTerminated,
    ToolProgress,
    UserCustomToolResult,
    UserInterrupt,
    UserMessage,
    UserToolConfirmation,
)

_ANSWERS = {"allow": "allowed", "deny": "denied"}


class Transcript:
    """Prints events. Text that was previewed is completed, not repeated."""

    def __init__(self, out: Output, *, echo: bool) -> None:
        """Print to ``out``; with ``echo`` also what was typed here."""
        self._out = out
        self._echo = echo
        self._own: set[EventId] = set()
        self._writing: EventId | None = None
        self._written = ""

    def own(self, message_id: EventId) -> None:
        """The person has typed this message here and sees it already."""
        self._own.add(message_id)

    def show(self, event: SessionEvent | Preview) -> None:
        """Print an event, if it is worth it."""
        if self._out.as_json:
            if not isinstance(event, EventStart | EventDelta | ToolProgress):
                self._out.json_line(event)
            return
        match event:
            case EventStart(event=previewed):
                if previewed.type == "agent.thinking":
                    self._line(Text("  thinking …", style="dim"))
            case EventDelta():
                self._delta(event)
            case AgentMessage():
                self._message(event)
            case _:
                line = self._text(event)
                if line is not None:
                    self._line(line)

    def close(self) -> None:
        """End the line that is being written."""
        if self._writing is not None:
            self._writing, self._written = None, ""
            self._out.line("")

    def _delta(self, event: EventDelta) -> None:
        if self._writing != event.event_id:
            self.close()
            self._writing = event.event_id
        self._write(event.delta.content.text)

    def _message(self, event: AgentMessage) -> None:
        if self._writing != event.id or not event.text.startswith(self._written):
            self.close()
            self._writing = event.id
        self._write(event.text[len(self._written) :])
        if event.incomplete:
            self._write(" … (cut short)")
        self.close()

    def _write(self, text: str) -> None:
        self._written += text
        self._out.console.print(Text(printable(text)), end="")

    def _line(self, line: Text) -> None:
        self.close()
        self._out.line(line)

    def _text(self, event: SessionEvent | ToolProgress) -> Text | None:
        match event:
            case UserMessage():
                if event.id in self._own and not self._echo:
                    return None
                return Text.assemble(("you: ", "bold green"), printable(blocks_text(event.content)))
            case AgentToolUse() | AgentCustomToolUse() | AgentMcpToolUse():
                return Text.assemble(("  → ", "yellow"), snippet(call_text(event.name, event.input)))
            case AgentToolResult() | AgentMcpToolResult():
                return _result(event)
            case UserCustomToolResult() if not event.is_error:
                return Text.assemble(("  ← ", "green"), snippet(blocks_text(event.content)))
            case UserCustomToolResult():
                return Text.assemble(("  ← ", "red"), snippet(f"error: {blocks_text(event.content)}"))
            case UserToolConfirmation():
                return Text(f"  {_ANSWERS[event.result]}{_reason(event)}", style="dim")
            case ToolProgress():
                return Text(f"  … {snippet(event.text)}", style="dim")
            case _:
                return _state(event)


def _reason(event: UserToolConfirmation) -> str:
    return f": {snippet(event.deny_message)}" if event.deny_message else ""


def _result(event: AgentToolResult | AgentMcpToolResult) -> Text:
    said = snippet(blocks_text(event.content))
    if event.outcome == "ok" and not event.is_error:
        return Text.assemble(("  ← ", "green"), said)
    return Text.assemble(("  ← ", "red"), f"{event.outcome.replace('_', ' ')}: {said}")


_WHY = {
    "budget_reached": "the budget is used up; sojourn sessions budget raises it",
    "max_tokens": "cut at the model's output limit",
    "refusal": "the model refused to answer",
}


def _state(event: SessionEvent) -> Text | None:
    match event:
        case SessionErrorEvent(error=error):
            retried = error.retry_status.type == "retrying" and error.type != "hook_failed_error"
            again = "; trying again" if retried else ""
            return Text(f"{printable(error.message)}{again}", style="red")
        case SessionIdle() if event.stop_reason.type in _WHY:
            return Text(f"({_WHY[event.stop_reason.type]})", style="yellow")
        case UserInterrupt():
            return Text("(interrupted)", style="yellow")
        case SessionPaused():
            return Text("(paused; /resume goes on)", style="yellow")
        case SessionResumed():
            return Text("(resumed)", style="dim")
        case SessionTerminated():
            return Text(f"(the session has ended: {event.status.value})", style="yellow")
        case _:
            return None
