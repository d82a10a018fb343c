"""Previews: text while it is being written. Never stored, never numbered (Managed Agents API §2.6).

They travel in the heartbeat details of the activity that produces them.
"""

from typing import Annotated, Literal

from sojourn.types.content import TextBlock
from sojourn.types.id import EventId
from sojourn.types.wire import Omitted, Wire


class PartPreview(Wire):
    """A part of the answer as far as it has come."""

    id: EventId
    type: Literal["agent.message", "agent.thinking"]
    text: str = ""
    """The text from ``offset`` on."""
    offset: Annotated[int, Omitted] = 0
    """Characters left out at the front, where the whole would be too large for a heartbeat."""


class ModelPreview(Wire):
    """Heartbeat of a model call: every part so far."""

    type: Literal["model"] = "model"
    parts: tuple[PartPreview, ...] = ()


class ToolPreview(Wire):
    """Heartbeat of a tool call: what the tool last said about its progress."""

    type: Literal["tool"] = "tool"
    tool_use_id: EventId
    progress: str = ""


class PreviewedEvent(Wire):
    """The event that a preview becomes."""

    type: Literal["agent.message", "agent.thinking"]
    id: EventId


class EventStart(Wire):
    """The agent begins to write an event of this id."""

    type: Literal["event_start"] = "event_start"
    event: PreviewedEvent


class ContentDelta(Wire):
    """More text."""

    type: Literal["content_delta"] = "content_delta"
    index: int = 0
    content: TextBlock


class EventDelta(Wire):
    """More text of an event that has started."""

    type: Literal["event_delta"] = "event_delta"
    event_id: EventId
    delta: ContentDelta


class ToolProgress(Wire):
    """What a running tool says about its progress."""

    type: Literal["tool_progress"] = "tool_progress"
    tool_use_id: EventId
    text: str


Preview = EventStart | EventDelta | ToolProgress
