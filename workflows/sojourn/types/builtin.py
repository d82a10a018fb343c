"""The built-in tools: their names, and where they run (Managed Agents API §5.1)."""

from typing import Literal, get_args

BuiltInName = Literal["bash", "read", "write", "edit", "glob", "grep", "web_fetch", "web_search"]
"""The tools of the set ``agent_toolset_20260401``."""

BUILT_IN: tuple[BuiltInName, ...] = get_args(BuiltInName)

CODE_EXECUTION = "code_execution"
"""A built-in tool that is no part of the set."""

IN_WORKSPACE = frozenset({"bash", "read", "write", "edit", "glob", "grep", CODE_EXECUTION})
"""Those that need the session's workspace; the others run on any worker."""

Place = Literal["workspace", "client"]
"""Where a call runs: on the worker that holds the session's workspace, or with a client that fetches its work."""
