"""Requests to servers that somebody else has named: never into the worker's own network, never elsewhere by a redirect.

A name is resolved once, its addresses are judged (`sojourn.sandbox.address`), and the connection goes to one of them.
"""

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import httpcore2
import httpx2

from sojourn.sandbox.address import AddressRefusedError, PrivateHosts, public_addresses
from sojourn.types.error import InvalidRequestError

if TYPE_CHECKING:
    from httpcore2 import AsyncNetworkStream

_CONNECT_SECONDS = 5.0
_READ_SECONDS = 10.0
_TOTAL_SECONDS = 20.0
MAX_ANSWER_BYTES = 256 * 1024
"""Of an answer; a token endpoint needs a few thousand."""


class UnreachableError(Exception):
    """There was no answer. The message says why, in words for people, without what was sent."""


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    body: str = field(repr=False)
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By their names in lower case."""

    @property
    def is_success(self) -> bool:
        """Whether the server did what was asked."""
        return 200 <= self.status < 300


class Outbound:
    """Sends requests. One connection for each: they are few and far between."""

    def __init__(self, private: PrivateHosts | None = None) -> None:
        """Use the operator's list of hosts that may be private, by default that of the environment.

        Raises:
            InvalidRequestError: The list cannot be read.
        """
        self._backend = _PublicOnly(private if private is not None else PrivateHosts.from_environment())
        self._tls: ssl.SSLContext | None = None

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], content: bytes = b"", stream: bool = False
    ) -> Answer:
        """Send one request and read its answer.

        Args:
            method: Such as ``POST``.
            url: Where to. A redirect is an answer like any other.
            headers: Everything but host and length.
            content: The body.
            stream: Read nothing of the body of a success: it may never end.

        Raises:
            UnreachableError: There was no answer.
        """
        if self._tls is None:
            self._tls = httpx2.create_ssl_context()
        timeouts = dict.fromkeys(("read", "write", "pool"), _READ_SECONDS) | {"connect": _CONNECT_SECONDS}
        sent = {
            "user-agent": "sojourn",
            "accept-encoding": "identity",
            **headers,
            "host": httpx2.URL(url).netloc.decode(),
        }
        if content or method == "POST":
            sent["content-length"] = str(len(content))
        try:
            async with (
                asyncio.timeout(_TOTAL_SECONDS),
                httpcore2.AsyncConnectionPool(self._tls, network_backend=self._backend) as pool,
                pool.stream(
                    method, url, headers=list(sent.items()), content=content, extensions={"timeout": timeouts}
                ) as response,
            ):
                is_wanted = not (stream and 200 <= response.status < 300)
                body = await _read(response) if is_wanted else b""
        except (
            httpcore2.NetworkError,
            httpcore2.ProtocolError,
            httpcore2.TimeoutException,
            httpcore2.UnsupportedProtocol,
            OSError,
            ValueError,
        ) as error:
            raise UnreachableError(f"it cannot be reached ({type(error).__name__})") from None
        except InvalidRequestError as error:
            raise UnreachableError(str(error)) from None
        found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        text = body.decode("utf-8", "replace")
        return Answer(response.status, text, found.get("content-type", ""), found)


async def _read(response: "httpcore2.Response") -> bytes:
    data = bytearray()
    async for chunk in response.aiter_stream():
        data += chunk
        if len(data) > MAX_ANSWER_BYTES:
            break
    return bytes(data[:MAX_ANSWER_BYTES])


class _PublicOnly(httpcore2.AsyncNetworkBackend):
    """Connects to addresses that everybody could reach, or that the operator has allowed."""

    def __init__(self, private: PrivateHosts) -> None:
        self._private = private
        # The class is another one where anyio is not installed, and type checkers see that.
        self._inner = cast(httpcore2.AsyncNetworkBackend, httpcore2.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> "AsyncNetworkStream":
        failure: Exception = httpcore2.ConnectError(f"{host!r} has no address")
        for address in await public_addresses(host, port, private=self._private):
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure


__all__ = ["AddressRefusedError", "Answer", "Outbound", "UnreachableError"]
