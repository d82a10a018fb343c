"""Side effects: model calls and tool calls, and how users write tools and hooks."""

from sojourn.activities.context import ToolCancelledError, ToolContext
from sojourn.activities.hook import (
    Allow,
    Append,
    Ask,
    Deny,
    Hook,
    PostResponse,
    PostTool,
    PreTool,
    Rewrite,
    TurnComplete,
    UserPrompt,
    hook,
)
from sojourn.activities.tool import Tool, Toolbox, tool

__all__ = [
    "Allow",
    "Append",
    "Ask",
    "Deny",
    "Hook",
    "PostResponse",
    "PostTool",
    "PreTool",
    "Rewrite",
    "Tool",
    "ToolCancelledError",
    "ToolContext",
    "Toolbox",
    "TurnComplete",
    "UserPrompt",
    "hook",
    "tool",
]
