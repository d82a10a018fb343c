"""What the benchmarks found: tables for people, JSON for machines."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable


@dataclass(frozen=True)
class Row:
    """One line: what was measured, both sides, and what we aim at."""

    what: str
    ours: str
    raw: str
    ratio: str = ""
    aim: str = ""
    met: bool | None = None
    """``None`` where there is no aim."""
    figures: dict[str, float] = field(default_factory=dict)
    """The numbers behind the texts."""


@dataclass(frozen=True)
class Table:
    """The outcome of one benchmark."""

    name: str
    title: str
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    sides: tuple[str, str] = ("sojourn", "raw")


def _heads(table: Table) -> tuple[str, ...]:
    ours, raw = table.sides
    return ("", ours, raw, f"{ours} / {raw}", "aim", "met")


def show(console: Console, tables: Sequence[Table]) -> None:
    """Print for a terminal."""
    for table in tables:
        shown = RichTable(*_heads(table), title=table.title, title_justify="left")
        for row in table.rows:
            shown.add_row(*_cells(row))
        console.print(shown)
        for note in table.notes:
            console.print(f"  {note}", style="dim", highlight=False)
        console.print()


def markdown(tables: Sequence[Table]) -> str:
    """The same for a README."""
    lines: list[str] = []
    for table in tables:
        heads = _heads(table)
        lines += [f"**{table.title}**", "", _line(heads), _line(["---"] * len(heads))]
        lines += [_line(_cells(row)) for row in table.rows]
        lines += ["", *(f"- {note}" for note in table.notes), ""]
    return "\n".join(lines)


def write(path: Path, tables: Sequence[Table]) -> None:
    """Store everything as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    machine = {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()}
    content = {"at": datetime.now(UTC).isoformat(), "machine": machine, "tables": [asdict(each) for each in tables]}
    path.write_text(json.dumps(content, indent=2) + "\n")


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


def milliseconds(*seconds: float) -> str:
    """Times side by side."""
    return " / ".join(f"{each * 1000:.0f}" if each >= 0.0995 else f"{each * 1000:.1f}" for each in seconds) + " ms"


def spread(values: Sequence[float]) -> str:
    """Median and 95th percentile of times in seconds."""
    return milliseconds(percentile(values, 50), percentile(values, 95))


def _cells(row: Row) -> list[str]:
    return [row.what, row.ours, row.raw, row.ratio, row.aim, {True: "yes", False: "NO", None: ""}[row.met]]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
