"""Which addresses a worker connects to on somebody else's behalf: only those that everybody could reach.

An agent that chooses where the worker connects must not choose the worker's own network: its loopback, its neighbours,
the metadata service of its cloud. A name is resolved once and its addresses are judged; callers connect to these
addresses and never resolve again, so that a name that answers differently the second time gains nothing.
"""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import idna

from sojourn.types.error import InvalidRequestError

PRIVATE_HOSTS_VARIABLE = "SOJOURN_PRIVATE_HOSTS"

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""From a name and a port to addresses. Raises `OSError` when there are none."""

_RESOLVING = timedelta(seconds=15)

# The special-purpose registries of IANA. Python's own `is_global` differs between its patch releases.
_SPECIAL = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this host
            "10.0.0.0/8",
            "100.64.0.0/10",  # carriers' own
            "127.0.0.0/8",
            "169.254.0.0/16",  # link-local; the metadata services of clouds
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
        ),
    )
)
_GLOBAL6 = IPv6Network("2000::/3")
_SPECIAL6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocols' own, Teredo among them
            "2001:db8::/32",
            "2002::/16",  # 6to4: any IPv4 address inside
            "3fff::/20",
        ),
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")
"""How a network without IPv4 reaches it: the last four bytes are the address that counts."""


class AddressRefusedError(InvalidRequestError):
    """The host is none that may be connected to."""

    def __init__(self, host: str, *, reason: str) -> None:
        super().__init__(
            f"{host[:253]!r} {reason}; the operator may allow it with {PRIVATE_HOSTS_VARIABLE}",
            host=host,
            reason=reason,
        )
        self.host = host
        self.reason = reason


def plain_host(host: str) -> str:
    """A host in the one form that is compared: lower case, ASCII, no final dot, no brackets.

    Raises:
        AddressRefusedError: It is no host, or an address in a notation other than the usual one.
    """
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if ":" in bare:
        return _plain_ipv6(bare, host)
    try:
        name = idna.encode(bare.rstrip("."), uts46=True).decode() if not bare.isascii() else bare.rstrip(".").lower()
    except (idna.IDNAError, UnicodeError):
        raise AddressRefusedError(host, reason="is no name of a host") from None
    if not name or len(name) > 253 or not all(each.isalnum() or each in "-._" for each in name) or ".." in name:
        raise AddressRefusedError(host, reason="is no name of a host")
    last = name.rpartition(".")[2]
    # Programs disagree on 127.1, 0x7f.1, 2130706433 and 0177.0.0.1; nobody writes them in good faith.
    if (last.isdigit() or last.startswith("0x")) and not _is_ipv4(name):
        raise AddressRefusedError(host, reason="is an address in an unusual notation")
    return name


def _plain_ipv6(bare: str, host: str) -> str:
    try:
        if "%" not in bare:
            return str(IPv6Address(bare))
    except ValueError:
        pass
    raise AddressRefusedError(host, reason="is no name of a host")


def _is_ipv4(name: str) -> bool:
    try:
        IPv4Address(name)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class PrivateHosts:
    """Hosts that may have private addresses, by the operator's word: for internal services and tests."""

    hosts: frozenset[tuple[str, int | None]] = frozenset()
    """Names or addresses as `plain_host` gives them, each with a port; ``None`` is any port."""

    @classmethod
    def parse(cls, text: str) -> "PrivateHosts":
        """Read ``host`` or ``host:port``, separated by commas; ``[::1]:8080`` for IPv6.

        Raises:
            InvalidRequestError: An entry is neither.
        """
        return cls(frozenset(_entry(each.strip()) for each in text.split(",") if each.strip()))

    @classmethod
    def from_environment(cls) -> "PrivateHosts":
        """What `SOJOURN_PRIVATE_HOSTS` says.

        Raises:
            InvalidRequestError: It cannot be read.
        """
        return cls.parse(os.environ.get(PRIVATE_HOSTS_VARIABLE, ""))

    def has(self, host: str, port: int) -> bool:
        """Whether this host may be private at this port. ``host`` is as `plain_host` gives it."""
        return (host, port) in self.hosts or (host, None) in self.hosts

    def ports(self, host: str) -> frozenset[int]:
        """The ports that are named for a host."""
        return frozenset(port for name, port in self.hosts if name == host and port is not None)


NONE = PrivateHosts()


def _entry(text: str) -> tuple[str, int | None]:
    host, colon, port = text.rpartition(":")
    bare = not colon or (":" in host and not host.endswith("]"))
    try:
        if bare:
            return plain_host(text), None
        if port.isascii() and port.isdigit() and 0 < int(port) < 65536:
            return plain_host(host), int(port)
    except AddressRefusedError:
        pass
    raise InvalidRequestError(
        f"{PRIVATE_HOSTS_VARIABLE}: {text!r} is no host; write host or host:port, separated by commas",
        param=PRIVATE_HOSTS_VARIABLE,
    )


def is_public(address: str) -> bool:
    """Whether everybody could reach an address, going by its number."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv4Address):
        return not _within(ip, _SPECIAL)
    if ip in _NAT64:
        return not _within(IPv4Address(int(ip) & 0xFFFFFFFF), _SPECIAL)
    return ip.scope_id is None and ip in _GLOBAL6 and not _within(ip, _SPECIAL6)


def _within(ip: IPv4Address | IPv6Address, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    return any(ip in network for network in networks)


@cache
def _threads() -> ThreadPoolExecutor:
    # Its own: names that resolve slowly must not hold up what else the worker does in threads.
    return ThreadPoolExecutor(32, thread_name_prefix="resolve")


async def system_addresses(host: str, port: int) -> Sequence[str]:
    """What the machine's resolver says."""
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(
        _threads(), lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    )
    return [str(address[0]) for *_, address in found]


async def public_addresses(
    host: str, port: int, *, private: PrivateHosts = NONE, resolver: Resolver = system_addresses
) -> list[str]:
    """Resolve a host to addresses that may be connected to, in the resolver's order.

    Connect to these and not to the name. A name that has a private address beside public ones is refused as a whole:
    nobody needs one, but for leading a worker astray.

    Raises:
        AddressRefusedError: It is no host, or has an address that not everybody could reach and is not in ``private``.
        OSError: It does not resolve, or not in time.
    """
    name = plain_host(host)
    if not 0 < port < 65536:
        raise AddressRefusedError(f"{host}:{port}", reason="has no such port")
    allowed = private.has(name, port)
    if not allowed and (name == "localhost" or name.endswith(".localhost")):
        raise AddressRefusedError(host, reason="is the machine itself")
    async with asyncio.timeout(_RESOLVING.total_seconds()):
        found = list(dict.fromkeys(await _resolved(name, port, resolver)))
    if not found:
        raise OSError(f"{host!r} has no address")
    if not allowed and not all(map(is_public, found)):
        raise AddressRefusedError(host, reason="has an address that is not public")
    return found


async def _resolved(name: str, port: int, resolver: Resolver) -> Sequence[str]:
    try:
        return [str(ip_address(name))]
    except ValueError:
        pass
    try:
        return await resolver(name, port)
    except UnicodeError:
        # What the machine's resolver says of a label that is too long.
        raise OSError(f"{name!r} is no name of a host") from None


async def connect(
    host: str,
    port: int,
    *,
    private: PrivateHosts = NONE,
    resolver: Resolver = system_addresses,
    timeout: timedelta = timedelta(seconds=30),
) -> socket.socket:
    """Open a TCP connection to a host that may be connected to; its addresses are tried in order.

    Raises:
        AddressRefusedError: See `public_addresses`.
        OSError: No address takes the connection, or not in time.
    """
    failure: OSError = OSError(f"{host!r} has no address")
    async with asyncio.timeout(timeout.total_seconds()):
        for address in await public_addresses(host, port, private=private, resolver=resolver):
            try:
                # An address that is silent must leave time for the next one.
                async with asyncio.timeout(timeout.total_seconds() / 3):
                    return await _connected(address, port)
            except OSError as error:
                failure = error
    raise failure


async def _connected(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(connection, (address, port))
    except BaseException:
        connection.close()
        raise
    return connection
