"""A worker's access to MCP servers, as its activities use it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pydantic import ValidationError
from temporalio import activity

from sojourn.activities.envelope import Envelope, UnfitError
from sojourn.activities.mcp.option import McpOptions
from sojourn.activities.model_step import application_error
from sojourn.activities.pulse import Pulse
from sojourn.activities.session_log import SessionLogs
from sojourn.types.error import CheckpointError, StoreUnavailableError
from sojourn.types.failure import ModelFailure
from sojourn.types.mcp import AbandonMcpCallInput, ListMcpToolsInput, ListMcpToolsResult, McpFailure, McpListing
from sojourn.types.name import ABANDON_MCP_CALL_ACTIVITY, LIST_MCP_TOOLS_ACTIVITY
from sojourn.types.record import RunToolInput, RunToolResult, ToolCallPart
from sojourn.types.session import SessionInput

if TYPE_CHECKING:
    from sojourn.activities.mcp.call import McpCalls
    from sojourn.activities.mcp.pool import McpPool

MISSING = 'this worker cannot talk to MCP servers; pip install "sojourn[mcp]" where it runs'


class McpGate:
    """Holds what the activities need on a worker. Without the package `mcp` it says so where it is needed.

    Args:
        logs: Where calls and answers are found.
        envelope: Says what fits.
        options: How servers are reached.
        own_queue: Gives the task queue that only this worker serves.
        installed: Whether the package is there.

    Raises:
        InvalidRequestError: The command of a local program is none.
    """

    def __init__(
        self,
        *,
        logs: SessionLogs,
        envelope: Envelope,
        options: McpOptions,
        own_queue: Callable[[], Awaitable[str]],
        installed: bool | None = None,
    ) -> None:
        self._logs = logs
        self._envelope = envelope
        self._options = options
        self._own_queue = own_queue
        self._installed = find_spec("mcp") is not None if installed is None else installed
        # A command that is none must stop the worker, not a session.
        self._opened = _opened(options, own_queue) if self._installed and options.programs else None

    @activity.defn(name=LIST_MCP_TOOLS_ACTIVITY)
    async def list_mcp_tools(self, record: ListMcpToolsInput) -> ListMcpToolsResult:
        """Ask MCP servers for their tools. A server that fails is a part of the result.

        Safe to retry: asking changes nothing.

        Raises:
            ApplicationError: Of type ``ModelError``; this worker cannot talk to MCP servers, or not read the session.
        """
        if (opened := await self._open()) is None:
            raise application_error(ModelFailure(kind="fatal", message=MISSING))
        from sojourn.activities.mcp.listing import listings

        info = activity.info()
        workflow_id = info.workflow_id or ""
        try:
            async with Pulse(lambda: None):
                start = await self._logs.get(workflow_id).listing(info.workflow_run_id or "", record)
                found = await listings(
                    opened.pool, workflow_id, start, record.servers, limit_bytes=self._envelope.limit_bytes
                )
                return await self._sealed(found)
        except (CheckpointError, ValidationError, StoreUnavailableError) as error:
            failure = ModelFailure(kind="fatal", message=str(error)[:300], error_class=type(error).__name__)
            raise application_error(failure) from None

    @activity.defn(name=ABANDON_MCP_CALL_ACTIVITY)
    async def abandon_mcp_call(self, record: AbandonMcpCallInput) -> None:
        """Give up a call that waits for answers. Safe to repeat."""
        if self._opened is not None:
            self._opened.calls.abandon(activity.info().workflow_id or "", record.tool_use_id)

    async def call(
        self,
        start: SessionInput,
        call: ToolCallPart,
        record: RunToolInput,
        *,
        limit: timedelta,
        progress: Callable[[str], None],
    ) -> RunToolResult | None:
        """Run or go on with a call; see `McpCalls.run`.

        Returns:
            ``None`` if this worker cannot talk to MCP servers.
        """
        if (opened := await self._open()) is None:
            return None
        info = activity.info()
        workflow_id, run_id = info.workflow_id or "", info.workflow_run_id or ""
        log = self._logs.get(workflow_id)
        return await opened.calls.run(
            workflow_id,
            start,
            call,
            record,
            limit=limit,
            progress=progress,
            answers=lambda question: log.answer(run_id, question),
        )

    async def close(self) -> None:
        """Give up calls that wait, close connections and end local programs."""
        if self._opened is not None:
            await self._opened.calls.close()
            await self._opened.pool.close()

    async def _open(self) -> "_Opened | None":
        if self._opened is None and self._installed:
            # Imports the package, which takes as long as all the rest of a worker's start, for sessions that need it.
            await asyncio.to_thread(import_module, "sojourn.activities.mcp.call")
            # Somebody else may have been faster.
            if self._opened is None:
                self._opened = _opened(self._options, self._own_queue)
        return self._opened

    async def _sealed(self, found: list[McpListing]) -> ListMcpToolsResult:
        try:
            return await self._envelope.seal(ListMcpToolsResult(listings=tuple(found)))
        except UnfitError:
            # One of them is to blame, and the others need not suffer for it.
            fitting = await asyncio.gather(*map(self._fitting, found))
            return await self._envelope.seal(ListMcpToolsResult(listings=tuple(fitting)))

    async def _fitting(self, listing: McpListing) -> McpListing:
        try:
            await self._envelope.seal(ListMcpToolsResult(listings=(listing,)))
        except UnfitError as error:
            message = f"the tools of MCP server {listing.server!r} cannot be stored: {error}"
            failure = McpFailure(type="mcp_connection_failed_error", message=message)
            return McpListing(server=listing.server, failure=failure)
        return listing


@dataclass(frozen=True)
class _Opened:
    pool: "McpPool"
    calls: "McpCalls"


def _opened(options: McpOptions, own_queue: Callable[[], Awaitable[str]]) -> _Opened:
    from sojourn.activities.mcp.call import McpCalls
    from sojourn.activities.mcp.pool import McpPool

    pool = McpPool(options)
    return _Opened(pool, McpCalls(pool, own_queue=own_queue))
