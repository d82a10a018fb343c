"""Files that survive the death of whoever writes them: JSON lines, each written whole and flushed to disk."""

import os
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

L = TypeVar("L", bound="Line")


class Line(BaseModel):
    """A line of a journal. Times are seconds since the epoch; all processes share one clock."""

    model_config = ConfigDict(frozen=True)


class Effect(Line):
    """What a tool did in the world outside. For the shell: that a command went to the sandbox."""

    session: str
    tool: str
    key: str
    attempt: int
    pid: int
    at: float


class Attempt(Line):
    """A worker began or ended an activity."""

    session: str
    activity: str
    id: str
    attempt: int
    begun: bool
    pid: int
    at: float


class Death(Line):
    """A process was ended, by itself at a named step or by the supervisor."""

    role: str
    point: str
    signal: str
    pid: int
    at: float
    session: str = ""
    """Whose step it was, if it was one."""


class Sent(Line):
    """How far a client has come with one event; it is written before sending, and again when the outcome is known."""

    id: str
    state: str
    """``intent``, ``accepted`` or ``refused``."""
    event: dict[str, JsonValue] = {}
    reason: str = ""


class Done(Line):
    """A move of a client's script was made."""

    move: int
    reason: str = ""
    """Why it was refused, if it was."""


class Seen(Line):
    """One event as a reader saw it."""

    seq: int
    id: str
    type: str
    digest: str
    at: float


class Outage(Line):
    """When the server was away."""

    began: float
    ended: float


class Journal:
    """Appends to one file. Several processes may share it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)

    def write(self, line: Line) -> None:
        """Returns when the line is on disk."""
        os.write(self._file, f"{line.model_dump_json()}\n".encode())
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


def read(path: Path, kind: type[L]) -> list[L]:
    """The lines of a kind. A line that was cut off by a kill is not there."""
    if not path.exists():
        return []
    found: list[L] = []
    for text in path.read_text().split("\n")[:-1]:
        try:
            found.append(kind.model_validate_json(text, extra="forbid"))
        except ValidationError:
            continue
    return found
