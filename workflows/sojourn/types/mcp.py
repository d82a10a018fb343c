"""MCP servers of a session: what they offer, how a listing is stored, and what a call may come back with."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import JsonValue

from sojourn.types.event import SaidEvent, SessionEvent
from sojourn.types.id import EventId
from sojourn.types.wire import Omitted, Wire

ELICITATION = "elicitation"
"""Name of the `agent.custom_tool_use` by which the question of an MCP server comes to the client."""

McpFailureType = Literal["mcp_connection_failed_error", "mcp_authentication_failed_error"]


class McpFailure(Wire):
    """Why a server cannot be used for now (Managed Agents API §2.3)."""

    type: McpFailureType
    message: str


class McpTool(Wire):
    """A tool as its server describes it."""

    name: str
    """The server's own; what the model calls it by is another (`sojourn.activities.mcp.name`)."""
    description: Annotated[str, Omitted] = ""
    input_schema: dict[str, JsonValue] = {}
    read_only: Annotated[bool, Omitted] = False
    """The server hints that a call changes nothing."""
    idempotent: Annotated[bool, Omitted] = False
    """The server hints that a repeated call changes nothing more."""

    @property
    def is_repeatable(self) -> bool:
        """Whether a lost call may be made again."""
        return self.read_only or self.idempotent


class McpListing(Wire):
    """What one server said when it was asked for its tools."""

    server: str
    """Its name in the agent's definition."""
    tools: tuple[McpTool, ...] = ()
    left_out: Annotated[int, Omitted] = 0
    """Tools beyond what a session can take."""
    failure: Annotated[McpFailure | None, Omitted] = None
    """Why there are none; ``None`` if it answered."""


class ListMcpToolsInput(Wire):
    """Schedules one listing of the tools of MCP servers."""

    id: EventId
    """By which the activity finds itself in the log."""
    servers: tuple[str, ...]
    said: Annotated[tuple[SaidEvent, ...], Omitted] = ()
    """What the workflow said in the same task; rides here to save a history event."""

    def events(self) -> Iterator[SessionEvent]:
        """What was said in the same task."""
        yield from self.said


class ListMcpToolsResult(Wire):
    """What the servers offer. The one place where it is stored; every worker folds it from here."""

    listings: tuple[McpListing, ...] = ()

    def events(self) -> Sequence[SessionEvent]:
        """None: what failed is said by the workflow."""
        return ()


class McpQuestion(Wire):
    """Something that a server asks the user while a call runs."""

    id: EventId
    """Of the `agent.custom_tool_use` that shows it."""
    mcp_server_name: str
    message: str
    requested_schema: Annotated[dict[str, JsonValue] | None, Omitted] = None
    """What the answer must look like; ``None`` where the user is sent to a page."""
    url: Annotated[str, Omitted] = ""
    """The page, if there is one."""
    note: Annotated[str, Omitted] = ""
    """Why it is asked again."""

    @property
    def input(self) -> dict[str, JsonValue]:
        """What the client gets to see."""
        return self.model_dump(mode="json", exclude={"id"})


class McpOutcome(Wire):
    """What the workflow must know about a call to an MCP server, beside its result."""

    questions: Annotated[tuple[McpQuestion, ...], Omitted] = ()
    """The server wants answers before it goes on: there is no result yet."""
    queue: Annotated[str, Omitted] = ""
    """Task queue of the one worker that can give them to it."""
    tools_changed: Annotated[bool, Omitted] = False
    """The server offers other tools than before."""
    failure: Annotated[McpFailure | None, Omitted] = None
    """The server was lost."""


class AbandonMcpCallInput(Wire):
    """Names a call whose questions nobody will answer."""

    tool_use_id: EventId
