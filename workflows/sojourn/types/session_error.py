"""What went wrong in a session, in words and by kind (Managed Agents API §2.3)."""

from typing import Annotated, Literal

from sojourn.types.id import EventId
from sojourn.types.wire import Omitted, Wire


class RetryStatus(Wire):
    """What happens after an error.

    ``retrying``: tried again by itself. ``exhausted``: the turn is over, the session can be used again.
    ``terminal``: the session is over.
    """

    type: Literal["retrying", "exhausted", "terminal"]


class ErrorDetail(Wire):
    """An error in words and by kind."""

    type: str
    """One of Managed Agents' error types, such as ``model_overloaded_error``."""
    message: str
    retry_status: RetryStatus
    error_class: Annotated[str | None, Omitted] = None
    """Name of the class in `sojourn.types` that a waiting caller gets."""
    mcp_server_name: Annotated[str | None, Omitted] = None
    """The MCP server that the error is about."""
    event_ids: Annotated[tuple[EventId, ...], Omitted] = ()
    """Messages that were refused because too many wait: they stay in the log and get no turn."""
    repository_url: Annotated[str | None, Omitted] = None
    """The repository that could not be cloned, without credentials."""
