"""Queries and pages of a session's events (Managed Agents API §1.4, §1.6)."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from sojourn.gateway.wire.event import AnyEvent
from sojourn.gateway.wire.page import ListPage
from sojourn.types.wire import Wire

Order = Literal["asc", "desc"]
Limit = Annotated[int, Field(ge=1, le=1000)]


class EventQuery(Wire):
    """Which events, in which order. Times are compared with ``processed_at``."""

    types: Annotated[tuple[str, ...], Field(max_length=100)] = ()
    gt: AwareDatetime | None = Field(default=None, alias="created_at[gt]")
    gte: AwareDatetime | None = Field(default=None, alias="created_at[gte]")
    lt: AwareDatetime | None = Field(default=None, alias="created_at[lt]")
    lte: AwareDatetime | None = Field(default=None, alias="created_at[lte]")
    order: Order = "asc"
    limit: Limit = 1000
    page: str | None = None


class ThreadEventQuery(Wire):
    """Which page of a thread's events."""

    limit: Limit = 1000
    page: str | None = None


class StreamQuery(Wire):
    """What a stream shows beside the events, and from where."""

    event_deltas: Annotated[tuple[Literal["agent.message", "agent.thinking"], ...], Field(max_length=100)] = ()
    """Of which events previews are wanted while they are being written."""
    from_seq: str | None = None
    """Id of the last event that is not wanted; 0 is everything. An addition of ours, as is ``Last-Event-ID``."""


class EventPage(ListPage[AnyEvent]):
    """One page of events."""
