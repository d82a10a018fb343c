"""How a worker reaches MCP servers. Needs no package: a worker without `mcp` has options too."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from sojourn.activities.mcp.credential import Credentials
from sojourn.sandbox.address import NONE, PrivateHosts
from sojourn.types.error import InvalidRequestError


@dataclass(frozen=True)
class McpOptions:
    """How a worker reaches MCP servers."""

    programs: Mapping[str, str] = field(default_factory=dict)
    """Commands of local servers by the names that agents know them by."""
    credentials: Credentials | None = None
    """Where tokens come from; ``None`` takes those of each session's vaults."""
    private_hosts: PrivateHosts = NONE
    connect_timeout: timedelta = timedelta(seconds=30)
    idle_timeout: timedelta = timedelta(minutes=5)
    """After this long without a request a connection is closed."""

    @classmethod
    def read(cls, programs: Iterable[str] = ()) -> "McpOptions":
        """What the operator has said: local servers as ``NAME=COMMAND``, private hosts in the environment.

        Raises:
            InvalidRequestError: One of them cannot be read, or a name is there twice.
        """
        found: dict[str, str] = {}
        for each in programs:
            name, equals, command = each.partition("=")
            if not equals or not re.fullmatch(r"[^\s=][^=]{0,254}", name) or not command.strip():
                raise InvalidRequestError(f"--mcp {each!r}: write NAME='COMMAND …'", param="mcp")
            if found.setdefault(name, command) != command:
                raise InvalidRequestError(f"--mcp: two local MCP servers are called {name!r}; rename one", param="mcp")
        return cls(programs=found, private_hosts=PrivateHosts.from_environment())
