"""What a tool gets to know about its call, and what it may do while it runs."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from sojourn.types.agent import ToolOptions
from sojourn.types.id import EventId, SessionId
from sojourn.types.session import SessionInput

if TYPE_CHECKING:
    from sojourn.activities.workspace import WorkspaceHandle


class ToolCancelledError(Exception):
    """The call was interrupted or is out of time; a sync tool should clean up and leave."""


@dataclass
class ToolContext:
    """One call of a tool. Give a parameter this type to get it."""

    session_id: SessionId
    tool_use_id: EventId
    """The same in every attempt of the call: the key by which a repeated effect can be recognised."""
    attempt: int
    """Counts the attempts of the call, from 1."""
    options: ToolOptions | None = None
    """Settings of a built-in tool."""
    start: SessionInput | None = field(repr=False, default=None)
    """What the session's current run started from; ``None`` only in tests of a tool."""
    _workspace: "WorkspaceHandle | None" = field(repr=False, default=None)
    _report: Callable[[str], None] = field(repr=False, default=lambda text: None)
    _cancelled: threading.Event = field(repr=False, default_factory=threading.Event)

    @property
    def workspace(self) -> "WorkspaceHandle":
        """The session's workspace. Only tools that run in it may ask.

        Raises:
            RuntimeError: The tool does not run in one.
        """
        if self._workspace is None:
            raise RuntimeError("the tool does not run in a workspace")
        return self._workspace

    @property
    def cancelled(self) -> bool:
        """Whether the call was interrupted or is out of time."""
        return self._cancelled.is_set()

    def progress(self, text: str) -> None:
        """Tell people who watch the session how far the tool is. Not stored. Safe in threads."""
        self._report(text)

    async def sleep(self, duration: timedelta) -> None:
        """Wait in an async tool. An interrupt ends it at once."""
        await asyncio.sleep(duration.total_seconds())

    def sleep_blocking(self, duration: timedelta) -> None:
        """Wait in a sync tool.

        Raises:
            ToolCancelledError: The call was interrupted or is out of time.
        """
        if self._cancelled.wait(duration.total_seconds()):
            raise ToolCancelledError(f"tool call {self.tool_use_id!r} was cancelled")
