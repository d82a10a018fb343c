"""Exporting closed runs to the archive: what the activity is asked for and what comes of it."""

from enum import StrEnum
from typing import Annotated, Literal

from sojourn.types.wire import Omitted, Wire


class ExportState(StrEnum):
    """Whether the closed runs of a session are in the archive, as its search attribute says."""

    NONE = "none"
    """Nothing has been exported yet."""
    STORED = "stored"
    FAILING = "failing"
    """The export does not succeed; it is tried again until it does."""


class ExportInput(Wire):
    """Exports a run and all before it that the archive does not have yet."""

    workflow_id: str
    """The session's workflow."""
    run_id: str
    final: Annotated[bool, Omitted] = False
    """Whether it is the session's last run: wait for its end, and enter the session into the lists."""


class ExportResult(Wire):
    """What an export came to."""

    outcome: Literal["stored", "no_store", "gone"]
    """``no_store``: the worker was started without one. ``gone``: the session was deleted."""
    runs: int = 0
    """How many runs were written; those that the archive had already do not count."""
    size_bytes: int = 0
