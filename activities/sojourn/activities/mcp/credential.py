"""Where the credentials of MCP servers come from."""

from typing import Protocol

from sojourn.types.session import SessionInput


class Credentials(Protocol):
    """Knows what a session may show to a server. Asked for each request, so answers should be cached."""

    async def bearer(self, start: SessionInput, url: str) -> str | None:
        """The token for a server; ``None`` if the session has none for it."""
        ...

    async def refreshed(self, start: SessionInput, url: str) -> str | None:
        """A new token, after the server has refused the last one; ``None`` if there is no other."""
        ...


class NoCredentials:
    """Servers get no token."""

    async def bearer(self, start: SessionInput, url: str) -> str | None:
        """None."""
        return None

    async def refreshed(self, start: SessionInput, url: str) -> str | None:
        """None."""
        return None
