"""Processes of sandboxes on this machine, as ``/proc`` tells of them."""

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process of a sandbox."""

    pid: int
    line: str
    """Its command line."""
    place: str = ""
    """Name of the workspace that it sees, if that can be known."""


def sandboxed(folder: Path, marker: str) -> list[Process]:
    """All that see a workspace of a campaign, or run one of its commands.

    Args:
        folder: The campaign's.
        marker: Stands in the command line of its commands.
    """
    workspace = re.compile(rf"{re.escape(folder.name)}/\S+/\d+/([^/\s]+)/workspace\s")
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        seen = workspace.search(_text(path / "mountinfo"))
        line = _text(path / "cmdline").replace("\0", " ").strip()
        if seen or (marker in line and line.startswith("sleep ")):
            found.append(Process(int(path.name), line, seen.group(1) if seen else ""))
    return found


def _text(path: Path) -> str:
    # A process may end at any moment, and others' mounts are not shown to everybody.
    with suppress(OSError):
        return path.read_bytes().decode(errors="replace")
    return ""


def left_running(processes: Sequence[Process], over: Collection[str]) -> Iterator[str]:
    """What still runs for sessions that are over.

    Args:
        processes: Those of sandboxes.
        over: Names of the workspaces of such sessions.
    """
    for each in processes:
        if each.place in over:
            yield f"process {each.pid} ({each.line[:60]!r}) still runs in {each.place}, whose session is over"


def left_lying(places: Collection[str], over: Collection[str]) -> Iterator[str]:
    """Workspaces that are still there though their sessions are over."""
    for name in sorted(set(places) & set(over)):
        yield f"the workspace {name} is still there, and its session is over"


def left_stored(paths: Collection[str], deleted: Collection[str]) -> Iterator[str]:
    """Files in the object store that belong to sessions which were deleted."""
    for path in sorted(paths):
        if any(id in path for id in deleted):
            yield f"{path} is still in the store, and its session was deleted"


def left_behind(processes: Sequence[Process]) -> Iterator[str]:
    """What still runs when all workers have ended."""
    for each in processes:
        yield f"process {each.pid} ({each.line[:60]!r}) of a sandbox still runs, and every worker has ended"
