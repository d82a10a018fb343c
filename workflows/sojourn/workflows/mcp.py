"""The session's MCP servers as the workflow sees them: which have been asked for their tools, and which are lost."""

from collections.abc import Awaitable, Callable, Sequence

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError

from sojourn.workflows.activity import model_failure, start_abandon_mcp_call, start_list_mcp_tools
from sojourn.workflows.failure import TurnFailedError
from sojourn.workflows.journal import Journal

with workflow.unsafe.imports_passed_through():
    from sojourn.types.agent import AgentDefinition
    from sojourn.types.event import SessionErrorEvent
    from sojourn.types.id import EventId
    from sojourn.types.mcp import ListMcpToolsInput, ListMcpToolsResult, McpFailure, McpListing
    from sojourn.types.mcp_state import McpState
    from sojourn.types.name import MODEL_ERROR
    from sojourn.types.record import RunToolResult
    from sojourn.types.session_error import ErrorDetail, RetryStatus

_SILENT = "the tools of the MCP server could not be listed: no worker answered in time"

Track = Callable[["workflow.ActivityHandle[ListMcpToolsResult]"], Awaitable[ListMcpToolsResult]]


class McpServers:
    """Has the tools of the servers listed, once and when they change; what fails is told and tried with the next turn.

    Commands come from it only where the agent has MCP servers.
    """

    def __init__(self, state: McpState | None, agent: AgentDefinition, journal: Journal) -> None:
        state = state or McpState()
        self._names = tuple(server.name for server in agent.mcp_servers)
        self._listed = [name for name in state.listed if name in self._names]
        self._changed = [name for name in state.changed if name in self._listed]
        self._journal = journal

    @property
    def state(self) -> McpState | None:
        """What the next run must know; ``None`` where there is nothing to know."""
        if not self._listed:
            return None
        return McpState(listed=tuple(self._listed), changed=tuple(self._changed))

    def due(self, *, turn_begins: bool) -> tuple[str, ...]:
        """The servers to be asked now: those that changed, and as a turn begins those that were not reached before."""
        return tuple(
            name for name in self._names if name in self._changed or (turn_begins and name not in self._listed)
        )

    async def list_tools(self, servers: Sequence[str], track: Track) -> bool:
        """Ask servers for their tools. A server that fails does not hold the turn.

        Args:
            servers: Their names.
            track: Awaits an activity so that an interrupt can cancel it.

        Returns:
            Whether anything was stored; an interrupt leaves nothing.

        Raises:
            TurnFailedError: The worker cannot talk to MCP servers at all.
        """
        id = EventId(f"sevt_{workflow.uuid7().hex}")
        record = ListMcpToolsInput(id=id, servers=tuple(servers), said=self._journal.take())
        self._journal.count(record)
        try:
            result = await track(start_list_mcp_tools(record, summary=f"tools of {', '.join(servers)}"))
        except ActivityError as error:
            self._not_listed(servers, error)
            return False
        self._journal.count(result)
        for listing in result.listings:
            self._take(listing)
        return True

    def heard(self, server: str, result: RunToolResult) -> None:
        """Take what a call to a server has told about it."""
        if result.mcp is None:
            return
        if result.mcp.tools_changed and server in self._listed and server not in self._changed:
            self._changed.append(server)
        if result.mcp.failure is not None:
            self._lost(server, result.mcp.failure)

    def abandon(self, tool_use_id: EventId, queue: str) -> None:
        """Have a worker withdraw a call whose questions nobody will answer. Nobody waits for that."""
        start_abandon_mcp_call(tool_use_id, queue=queue).add_done_callback(_heard)

    def _take(self, listing: McpListing) -> None:
        if listing.server in self._changed:
            self._changed.remove(listing.server)
        if listing.failure is not None:
            self._lost(listing.server, listing.failure)
        elif listing.server not in self._listed:
            self._listed.append(listing.server)

    def _lost(self, server: str, failure: McpFailure) -> None:
        for names in (self._listed, self._changed):
            if server in names:
                names.remove(server)
        detail = ErrorDetail(
            type=failure.type,
            message=failure.message,
            retry_status=RetryStatus(type="retrying"),
            mcp_server_name=server,
        )
        self._journal.say(SessionErrorEvent(error=detail))

    def _not_listed(self, servers: Sequence[str], error: ActivityError) -> None:
        cause = error.cause
        if isinstance(cause, CancelledError):
            return
        if isinstance(cause, ApplicationError) and cause.type == MODEL_ERROR:
            raise TurnFailedError(model_failure(error))
        for server in servers:
            self._lost(server, McpFailure(type="mcp_connection_failed_error", message=_SILENT))


def _heard(handle: "workflow.ActivityHandle[None]") -> None:
    """Asked for, so that asyncio does not report the failure of what nobody waits for."""
    if not handle.cancelled():
        handle.exception()
