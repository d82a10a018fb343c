"""Workspaces on a worker: opening, keeping, storing and removing them."""

from pathlib import Path
from typing import Protocol

from sojourn.sandbox.guest_client import Guest


class WorkspaceLostError(Exception):
    """The workspace is not, or no longer, on this worker. Nothing has run."""


class WorkspaceHandle(Protocol):
    """A session's workspace, for the tools that run in it."""

    @property
    def folder(self) -> Path:
        """Where its files lie on the worker."""
        ...

    async def guest(self) -> Guest:
        """The running sandbox; started if need be.

        Raises:
            SandboxError: It could not be started.
        """
        ...


class Workspaces(Protocol):
    """The workspaces that this worker holds."""

    async def get(self, workflow_id: str, generation: int) -> WorkspaceHandle:
        """An open workspace.

        Raises:
            WorkspaceLostError: It is not on this worker, or of another generation.
        """
        ...
