"""HTTP from the worker to hosts that somebody else names: only to addresses that were judged."""

import ssl
from collections.abc import Iterable
from datetime import timedelta

import httpcore2
import httpx2
from httpcore2 import SOCKET_OPTION, AnyIOBackend, AsyncNetworkBackend, AsyncNetworkStream

from sojourn.sandbox.address import NONE, PrivateHosts, Resolver, public_addresses, system_addresses
from sojourn.sandbox.trust import machine_trust

_CONNECTING = timedelta(seconds=30)


class PublicTransport(httpx2.AsyncHTTPTransport):
    """Connects to public addresses alone, and to those that were judged: a name is resolved once for a connection.

    For `httpx2.AsyncClient(transport=…)`. A request to another host fails with `AddressRefusedError`. Redirects go
    through it too. Proxies of the environment are not used: whoever resolves names must be this process.
    """

    def __init__(
        self,
        *,
        private: PrivateHosts = NONE,
        resolver: Resolver = system_addresses,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        context = trust or machine_trust()
        super().__init__(verify=context, trust_env=False)
        # The pool of the base class, with nothing else changed; it takes no backend itself.
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=context, keepalive_expiry=5, network_backend=_PublicBackend(private, resolver)
        )


class _PublicBackend(AsyncNetworkBackend):
    def __init__(self, private: PrivateHosts, resolver: Resolver) -> None:
        self._inner = AnyIOBackend()
        self._private = private
        self._resolver = resolver

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        limit = _CONNECTING.total_seconds() if timeout is None else timeout
        try:
            addresses = await public_addresses(host, port, private=self._private, resolver=self._resolver)
        except OSError:
            raise httpcore2.ConnectError(f"{host!r} does not resolve") from None
        failure: Exception = httpcore2.ConnectError(f"{host!r} has no address")
        for address in addresses:
            try:
                return await self._inner.connect_tcp(address, port, limit / len(addresses), None, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[SOCKET_OPTION] | None = None
    ) -> AsyncNetworkStream:
        raise httpcore2.ConnectError("no unix sockets here")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)
