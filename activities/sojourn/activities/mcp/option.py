"""How a worker reaches MCP servers. Needs no package: a worker without `mcp` has options too."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from sojourn.activities.mcp.credential import Credentials, NoCredentials
from sojourn.sandbox.address import NONE, PrivateHosts


@dataclass(frozen=True)
class McpOptions:
    """How a worker reaches MCP servers."""

    programs: Mapping[str, str] = field(default_factory=dict)
    """Commands of local servers by the names that agents know them by."""
    credentials: Credentials = field(default_factory=NoCredentials)
    private_hosts: PrivateHosts = NONE
    connect_timeout: timedelta = timedelta(seconds=30)
    idle_timeout: timedelta = timedelta(minutes=5)
    """After this long without a request a connection is closed."""
