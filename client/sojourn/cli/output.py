"""Standard output: lines for people, or JSON for programs."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from pydantic import BaseModel
from pydantic_core import to_json
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from sojourn.cli.render import event_line, printable
from sojourn.types import Preview, SessionEvent


class _Console(Console):
    """A console that lets the command deal with a reader that went away."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class Output:
    """Where commands print. With ``as_json`` only JSON reaches standard output."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.console = _Console(highlight=False, markup=False, soft_wrap=True)
        self._errors = _Console(highlight=False, markup=False, soft_wrap=True, stderr=True)

    def result(self, data: BaseModel | Mapping[str, object], *lines: RenderableType) -> None:
        """The outcome of a command: one JSON document, or lines."""
        if self.as_json:
            self.json_line(data)
            return
        for line in lines:
            self.line(line)

    def json_line(self, data: object) -> None:
        """One JSON value on a line of its own."""
        sys.stdout.write(to_json(data).decode() + "\n")
        sys.stdout.flush()

    def line(self, line: RenderableType) -> None:
        """One line for people."""
        self.console.print(printable(line) if isinstance(line, str) else line)

    def note(self, text: str) -> None:
        """Something worth knowing that is not the outcome; on standard error, and only for people."""
        if not self.as_json:
            self._errors.print(Text(printable(text), style="dim"))

    def event(self, event: SessionEvent | Preview, *, verbose: bool = False) -> None:
        """One event of a stream."""
        if self.as_json:
            self.json_line(event)
        elif (line := event_line(event, verbose=verbose)) is not None:
            self.line(line)

    def fields(self, values: Mapping[str, object]) -> None:
        """Names and values below each other; what is ``None`` or empty is left out."""
        shown = {name: value for name, value in values.items() if value not in (None, "", {}, [], ())}
        width = max(map(len, shown), default=0)
        for name, value in shown.items():
            self.line(Text.assemble((f"{name:<{width}}  ", "dim"), printable(cell(value))))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """A table on a terminal, tab-separated lines elsewhere."""
        cells = [[printable(cell(value)).replace("\n", " ").replace("\t", " ") for value in row] for row in rows]
        if not self.console.is_terminal:
            for row in (columns, *cells):
                # Rich would make spaces of the tabs.
                print(*row, sep="\t")
            return
        table = Table(*columns, box=None, header_style="dim", pad_edge=False)
        table.columns[0].no_wrap = True
        for row in cells:
            table.add_row(*map(Text, row))
        self.console.print(table)


def cell(value: object) -> str:
    """A value in few characters."""
    match value:
        case None:
            return "-"
        case datetime():
            return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        case Mapping():
            return " ".join(f"{key}={each}" for key, each in value.items()) or "-"
        case _:
            return str(value)
