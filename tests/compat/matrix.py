"""The outcome of `make compat`: as JSON, as a table for a terminal, as the table of the README."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).with_name("matrix.json")
README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- compat -->", "<!-- /compat -->"


@dataclass(frozen=True)
class Row:
    """What one client of one SDK came to."""

    sdk: str
    version: str
    client: str
    passed: int
    steps: int
    failed: str = ""
    """The step that failed, and how; or why nothing was run."""
    seconds: float = 0.0

    @property
    def outcome(self) -> str:
        if self.steps and self.passed == self.steps:
            return f"{self.passed} of {self.steps}"
        return f"**{self.passed} of {self.steps}**: {self.failed}" if self.steps else self.failed


def write(rows: Sequence[Row], path: Path = RESULTS) -> None:
    # Without the times, which change with every run.
    facts = [{name: value for name, value in asdict(row).items() if name != "seconds"} for row in rows]
    path.write_text(json.dumps(facts, indent=2) + "\n")


def read(path: Path = RESULTS) -> list[Row]:
    return [Row(**facts) for facts in json.loads(path.read_text())]


def show(console: Console, rows: Sequence[Row]) -> None:
    table = Table("SDK", "version", "client", "steps", "seconds")
    for row in rows:
        style = None if row.passed == row.steps else "red" if row.steps else "dim"
        table.add_row(row.sdk, row.version, row.client, row.outcome, f"{row.seconds:.1f}", style=style)
    console.print(table)


def markdown(rows: Sequence[Row]) -> str:
    """A line for each version of an SDK, a column for each kind of client."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        found.setdefault((row.sdk, row.version), {})[row.client] = row.outcome
    lines = ["| SDK | sync | async |", "|---|---|---|"]
    for (sdk, version), outcomes in found.items():
        lines.append(f"| {sdk} {version} | {outcomes.get('sync', '')} | {outcomes.get('async', '')} |")
    return "\n".join(lines)


def shown(readme: str) -> str:
    """The table between the markers."""
    match = re.search(rf"{BEGIN}\n(.*?)\n{END}", readme, re.DOTALL)
    return match.group(1) if match else ""


def update_readme(rows: Sequence[Row], path: Path = README) -> bool:
    """Put the table between the markers; false where there are none."""
    text = path.read_text()
    if BEGIN not in text:
        return False
    begin, _, rest = text.partition(BEGIN)
    path.write_text(f"{begin}{BEGIN}\n{markdown(rows)}\n{END}{rest.partition(END)[2]}")
    return True
