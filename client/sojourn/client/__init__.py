"""The Python client: `AgentRuntime`, its handles, and what they take and give."""

from sojourn.client.connection import connect_client, missing_search_attributes, name_store, register_search_attributes
from sojourn.client.handle import AgentHandle, SessionHandle
from sojourn.client.listing import CreatedRange, Page
from sojourn.client.runtime import AgentRuntime

__all__ = [
    "AgentHandle",
    "AgentRuntime",
    "CreatedRange",
    "Page",
    "SessionHandle",
    "connect_client",
    "missing_search_attributes",
    "name_store",
    "register_search_attributes",
]
