"""Who makes a request, as far as the gateway is concerned."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from sojourn.types import EnvironmentId, Owner, Scope
from sojourn.types.key import SCOPES

__all__ = ["SCOPES", "Authenticator", "Principal", "Scope"]


@dataclass(frozen=True)
class Principal:
    """The holder of an API key."""

    key_id: str
    workspace: str
    user: str
    scopes: frozenset[str]
    environment_id: EnvironmentId | None = None
    """The self-hosted environment whose workers have the key; ``None`` for an API key."""

    @property
    def owner(self) -> Owner:
        """Whose agents and sessions the holder sees."""
        return Owner(self.workspace, self.user)


class Authenticator(Protocol):
    """Tells who makes a request."""

    async def authenticate(self, headers: Mapping[str, str]) -> Principal:
        """The holder of the key in the headers.

        Raises:
            GatewayError: 401 when there is no valid key; 503 when that cannot be found out.
        """
        ...
