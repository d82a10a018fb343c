"""Side effects: model calls and tool calls, and how users write tools."""

from sojourn.activities.context import ToolCancelledError, ToolContext
from sojourn.activities.tool import Tool, Toolbox, tool

__all__ = ["Tool", "ToolCancelledError", "ToolContext", "Toolbox", "tool"]
