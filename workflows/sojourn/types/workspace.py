"""A session's workspace: the files that its tools see. It lies on one worker, and moves when that worker is gone.

What a workflow asks of the workers that hold workspaces, and what it remembers of its own.
"""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from sojourn.types.resource import Resource
from sojourn.types.session_error import ErrorDetail
from sojourn.types.wire import Omitted, Wire


def sandbox_queue(task_queue: str) -> str:
    """Task queue of all workers with a sandbox among those that share a task queue."""
    return f"{task_queue}.sandbox"


class Checkpoint(Wire):
    """The files of a workspace as they were at the end of a turn, in the object store."""

    key: str
    size_bytes: int
    digest: str = ""
    """SHA-256 of what is stored, in hex."""
    at: datetime


class WorkspaceState(Wire):
    """What survives continue-as-new."""

    queue: Annotated[str, Omitted] = ""
    """Task queue of the worker that holds it; empty before the first opening and after that worker was lost."""
    generation: Annotated[int, Omitted] = 0
    """Counts the openings. What an earlier one left on a worker is stale and counts for nothing."""
    checkpoint: Annotated[Checkpoint | None, Omitted] = None
    touched: Annotated[bool, Omitted] = False
    """Tools have run in it since the checkpoint."""
    held: Annotated[int, Omitted] = 0
    """The last generation that a worker is known to have held; 0 before the first."""
    stale: Annotated[bool, Omitted] = False
    """The session's resources have changed since it was opened."""


class OpenWorkspaceInput(Wire):
    """Makes the workspace, or brings an open one up to date with the session's resources."""

    generation: int = Field(ge=1)
    held: Annotated[int, Omitted] = 0
    """The last generation in which calls may have run; a worker that has run one has the newest files."""
    checkpoint: Checkpoint | None = None
    """What to restore, where the worker has nothing of this generation; ``None`` begins empty."""
    resources: Annotated[tuple[Resource, ...], Omitted] = ()
    """What is to be mounted now. The session's input has what was mounted when its run began."""


class OpenWorkspaceResult(Wire):
    """An open workspace."""

    queue: str
    """Task queue of the worker that holds it."""
    restored: Annotated[Checkpoint | None, Omitted] = None
    """The checkpoint it was restored from; ``None`` where it is new or was there already."""
    kept: Annotated[bool, Omitted] = False
    """The worker had it before, and nothing was lost."""
    errors: Annotated[tuple[ErrorDetail, ...], Omitted] = ()
    """What is missing in it, such as a repository that could not be cloned; said as `session.error`."""


class CheckpointWorkspaceInput(Wire):
    """Stores the files of the workspace, and makes files of the session out of its outputs."""

    generation: int = Field(ge=1)
    previous: Checkpoint | None = None


class CheckpointWorkspaceResult(Wire):
    """What was stored."""

    checkpoint: Checkpoint | None = None
    """``None`` without an object store."""
    errors: Annotated[tuple[ErrorDetail, ...], Omitted] = ()
    """What of the outputs could not be made a file of the session; said as `session.error`."""


class CheckSandboxInput(Wire):
    """Asks a worker whether it can honour what a session wants of its sandbox."""

    needs: tuple[str, ...] = ()
    """Package managers, and ``sandbox`` for any at all."""


class CheckSandboxResult(Wire):
    """What a worker says."""

    refusal: str | None = None
    """Why it cannot, in one line; ``None`` if it can."""
    param: str | None = None
    """Which of the needs it cannot honour."""
