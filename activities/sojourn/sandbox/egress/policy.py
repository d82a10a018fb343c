"""What a sandbox may reach, by the names of hosts. Their addresses are judged by `sojourn.sandbox.address`."""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from sojourn.sandbox.address import NONE, AddressRefusedError, PrivateHosts, plain_host
from sojourn.types.environment import LimitedNetwork, UnrestrictedNetwork

_WEB = frozenset({80, 443})
_MAIL = 25
"""What a machine that has been taken over is used for first."""


@dataclass(frozen=True, slots=True)
class AllowedHost:
    """A host that may be reached, at some ports."""

    pattern: str
    """A name or address, or ``*.example.com`` for all below one (not itself)."""
    ports: frozenset[int] = _WEB

    @classmethod
    def of_url(cls, url: str) -> "AllowedHost | None":
        """The host and port of an http or https URL; ``None`` if there are none."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
            if parts.scheme not in ("http", "https") or not host:
                return None
            return cls(plain_host(host), frozenset({port or (443 if parts.scheme == "https" else 80)}))
        except (ValueError, AddressRefusedError):
            return None

    def covers(self, host: str, port: int) -> bool:
        """Whether it is this host. ``host`` is as `plain_host` gives it."""
        return port in self.ports and matches(self.pattern, host)


def matches(pattern: str, host: str) -> bool:
    """Whether a host is the one of a pattern, or lies below ``*.``."""
    if pattern.startswith("*."):
        return host.endswith(pattern[1:].lower().rstrip("."))
    try:
        return plain_host(pattern) == host
    except AddressRefusedError:
        return False


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """Which hosts may be reached."""

    allowed: tuple[AllowedHost, ...] | None = None
    """``None`` is every host, at every port but that of mail."""

    @classmethod
    def of(
        cls,
        network: UnrestrictedNetwork | LimitedNetwork,
        *,
        mcp_servers: Iterable[str] = (),
        package_hosts: Iterable[AllowedHost] = (),
        private: PrivateHosts = NONE,
    ) -> "EgressPolicy":
        """What an environment's networking says.

        Args:
            network: As the environment has it.
            mcp_servers: URLs of the agent's MCP servers; count if the environment allows them.
            package_hosts: Registries of package managers; count likewise.
            private: A port that is named for an allowed host here is allowed too.
        """
        if isinstance(network, UnrestrictedNetwork):
            return cls()
        found = [AllowedHost(host.lower(), _WEB | private.ports(host.lower())) for host in network.allowed_hosts]
        if network.allow_mcp_servers:
            found += [host for url in mcp_servers if (host := AllowedHost.of_url(url)) is not None]
        if network.allow_package_managers:
            found += package_hosts
        return cls(tuple(found))

    def refusal(self, host: str, port: int) -> str | None:
        """Why a host may not be reached, in one line; ``None`` if it may. ``host`` is as `plain_host` gives it."""
        if self.allowed is None:
            return f"port {_MAIL} of {host} is closed to sandboxes; no setting opens it" if port == _MAIL else None
        if any(each.covers(host, port) for each in self.allowed):
            return None
        if ports := {open for each in self.allowed if matches(each.pattern, host) for open in each.ports}:
            listed = " and ".join(map(str, sorted(ports)))
            return f"port {port} of {host} is closed; limited networking opens {listed} of it"
        return f"{host} is not among networking.allowed_hosts of the environment"
