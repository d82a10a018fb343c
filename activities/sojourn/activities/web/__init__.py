"""The tools `web_fetch` and `web_search`, which run on the worker and not in a sandbox (Managed Agents API §5.1)."""

from sojourn.activities.tool import Tool
from sojourn.activities.web.fetch import web_fetch_tool
from sojourn.activities.web.search import (
    SearchBackend,
    SearchError,
    SearchHit,
    SearchQuery,
    backend_from_environment,
    web_search_tool,
)
from sojourn.sandbox.address import PrivateHosts


def web_tools(*, private: PrivateHosts | None = None, search: SearchBackend | None = None) -> tuple[Tool, Tool]:
    """Make both tools.

    Args:
        private: Hosts that may have private addresses; those of the environment by default.
        search: The search engine; that of the environment by default.

    Raises:
        InvalidRequestError: The environment says what cannot be read.
    """
    hosts = PrivateHosts.from_environment() if private is None else private
    return web_fetch_tool(private=hosts), web_search_tool(search or backend_from_environment())


__all__ = ["SearchBackend", "SearchError", "SearchHit", "SearchQuery", "web_tools"]
