"""Where the credentials of MCP servers come from."""

from typing import Protocol

from sojourn.types.session import SessionInput


class Credentials(Protocol):
    """Knows what a session may show to a server. Asked for each request, so answers should be cached."""

    async def bearer(self, start: SessionInput, url: str) -> str | None:
        """The token for a server; ``None`` if the session has none for it.

        Raises:
            McpAuthenticationError: It has one that cannot be used.
        """
        ...

    async def refreshed(self, start: SessionInput, url: str, *, rejected: str | None = None) -> str | None:
        """A new token, after the server has refused the last one; ``None`` if there is no other.

        Args:
            start: Whose session it is.
            url: Of the server.
            rejected: The token that was refused.

        Raises:
            McpAuthenticationError: It could not be renewed.
        """
        ...


class NoCredentials:
    """Servers get no token."""

    async def bearer(self, start: SessionInput, url: str) -> str | None:
        """None."""
        return None

    async def refreshed(self, start: SessionInput, url: str, *, rejected: str | None = None) -> str | None:
        """None."""
        return None
