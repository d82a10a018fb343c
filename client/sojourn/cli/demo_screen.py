"""What the demonstration shows: scenes, the log as it happens, text as it is written, the list of checks."""

import time
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from sojourn.cli.demo_check import Check
from sojourn.cli.render import event_line, printable
from sojourn.types import EventDelta, Preview, SessionEvent, ToolProgress


class Screen:
    """Writes line by line, so that it reads the same in a terminal, a pipe and a file."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._writing = False
        self._last = time.monotonic()

    @property
    def silent_seconds(self) -> float:
        """How long nothing was written."""
        return time.monotonic() - self._last

    def scene(self, title: str) -> None:
        """A heading."""
        self._line(Text.assemble("\n", (title, "bold")))

    def say(self, text: str) -> None:
        """What the demonstration does."""
        self._line(Text.assemble(("  ▸ ", "bold blue"), (text, "blue")))

    def quote(self, text: str) -> None:
        """A line of a file."""
        self._line(Text(f"    │ {printable(text)}", style="dim"))

    def link(self, label: str, text: str) -> None:
        """Something to open or to copy."""
        style = f"cyan link {text}" if text.startswith("http") else "cyan"
        self._line(Text.assemble((f"  {label:<9}", "dim"), (text, style)))

    def waiting(self, text: str) -> None:
        """A sign of life."""
        self._line(Text(f"    … {text}", style="dim"))

    def event(self, event: SessionEvent) -> None:
        """An event of the log, also those that are of little interest: every number is to be seen."""
        self._line(event_line(event) or Text(f"{event.seq:>5}  {event.type}", style="dim"))

    def preview(self, preview: Preview) -> None:
        """More of what is being written, on the same line."""
        match preview:
            case EventDelta():
                if not self._writing:
                    self._put(Text("    ~  ", style="dim"), end="")
                self._writing = True
                self._put(Text(printable(preview.delta.content.text).replace("\n", " "), style="dim"), end="")
            case ToolProgress():
                self._line(event_line(preview) or Text())

    def checks(self, checks: Sequence[Check]) -> None:
        """The list, with a tick or with what is wrong."""
        for each in checks:
            mark = ("  ✗ ", "bold red") if each.faults else ("  ✓ ", "bold green")
            self._line(Text.assemble(mark, each.promise))
            for fault in each.faults:
                self._line(Text(f"      {fault}", style="red"))

    def complain(self, text: str) -> None:
        """What other processes said before all went wrong."""
        if text.strip():
            self._line(Text(f"\n{printable(text).strip()}", style="dim"))

    def verdict(self, text: str, *, good: bool) -> None:
        """The last word."""
        self._line(Text.assemble("\n", (text, "bold green" if good else "bold red")))

    def _line(self, text: Text) -> None:
        if self._writing:
            self._put(Text(""))
            self._writing = False
        self._put(text)

    def _put(self, text: Text, *, end: str = "\n") -> None:
        self._console.print(text, end=end, soft_wrap=True)
        self._last = time.monotonic()
