"""How requests come to an MCP server: to public addresses only, with the session's token, and never out of control.

The library's transports end all that goes on over a connection when one request cannot be sent. So whatever goes wrong
here becomes a response, and the caller whose request it was finds in its `Note` what has really happened.
"""

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta

import httpx2

from sojourn.activities.mcp.credential import Credentials
from sojourn.sandbox.address import AddressRefusedError, PrivateHosts, public_addresses
from sojourn.types.mcp import McpFailure
from sojourn.types.session import SessionInput
from sojourn.types.vault_error import McpAuthenticationError

MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""Of one answer. What a session can store is less; this bounds what a server can make a worker hold."""

_CONNECT = timedelta(seconds=10)
_SESSION_HEADER = "mcp-session-id"
_UNREACHED = 599
"""Status of the response that stands for none."""


@dataclass
class Note:
    """What became of the requests of one caller."""

    failure: McpFailure | None = None
    """Why the last one came to nothing."""
    refused: bool = False
    """The last one has had no effect: it was not sent, or the server did not take it."""
    hopeless: bool = False
    """The next one will fare no better."""
    session_gone: bool = False
    """The server does not know the connection any more."""
    status: int | None = None
    """Of the last response."""
    failed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a request has come to nothing."""

    @property
    def is_denied(self) -> bool:
        """Whether the server does not take the caller for somebody it serves."""
        return self.failure is not None and self.failure.type == "mcp_authentication_failed_error"

    def fail(self, failure: McpFailure, *, refused: bool = False, hopeless: bool = False) -> None:
        """Take down that a request came to nothing."""
        self.failure, self.refused, self.hopeless = failure, refused, hopeless
        self.failed.set()


NOTE: ContextVar[Note | None] = ContextVar("mcp_note", default=None)
"""Of the caller whose request is being sent; the library hands it down to where it sends."""


def lost(message: str) -> McpFailure:
    """A server that cannot be reached, or does not speak as it should."""
    return McpFailure(type="mcp_connection_failed_error", message=message)


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Sends requests of one session to one server.

    Args:
        name: The server's, for words about it.
        start: Whose session it is.
        credentials: Where its token comes from.
        private: Hosts that may be private, by the operator's word.
    """

    def __init__(self, name: str, start: SessionInput, *, credentials: Credentials, private: PrivateHosts) -> None:
        self._name = name
        self._start = start
        self._credentials = credentials
        self._private = private
        self._inner = httpx2.AsyncHTTPTransport(trust_env=False)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send it. Anything but a usable response becomes one that says so."""
        note = NOTE.get() or Note()
        try:
            response = await self._authorized(request)
            note.status = response.status_code
            return await self._judged(request, response, note)
        except McpAuthenticationError as error:
            note.fail(
                McpFailure(type="mcp_authentication_failed_error", message=str(error)), refused=True, hopeless=True
            )
            return httpx2.Response(_UNREACHED, content=b"")
        except AddressRefusedError as error:
            words = f"the address of MCP server {self._name!r} is refused: {error}"
            return self._none(note, words, refused=True, hopeless=True)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, OSError) as error:
            return self._none(note, f"MCP server {self._name!r} cannot be reached: {_words(error)}", refused=True)
        except httpx2.TransportError as error:
            return self._none(note, f"the connection to MCP server {self._name!r} broke: {_words(error)}")

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()

    def _none(self, note: Note, words: str, *, refused: bool = False, hopeless: bool = False) -> httpx2.Response:
        note.fail(lost(words), refused=refused, hopeless=hopeless)
        return httpx2.Response(_UNREACHED, content=b"")

    async def _authorized(self, request: httpx2.Request) -> httpx2.Response:
        url = str(request.url)
        shown = await self._credentials.bearer(self._start, url)
        _show(request, shown)
        response = await self._sent(request)
        if response.status_code not in (401, 403):
            return response
        token = await self._credentials.refreshed(self._start, url, rejected=shown)
        if token is None:
            return response
        await response.aclose()
        _show(request, token)
        return await self._sent(request)

    async def _sent(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        port = url.port or (443 if url.scheme == "https" else 80)
        failure: Exception = httpx2.ConnectError(f"{url.host!r} has no address")
        for address in await public_addresses(url.host, port, private=self._private):
            try:
                return await self._inner.handle_async_request(_addressed(request, address))
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                failure = error
        raise failure

    async def _judged(self, request: httpx2.Request, response: httpx2.Response, note: Note) -> httpx2.Response:
        code = response.status_code
        if code in (401, 403):
            why = "refuses the session's credential" if "authorization" in request.headers else "wants a credential"
            words = f"MCP server {self._name!r} {why} (HTTP {code}); look at the session's vaults"
            note.fail(McpFailure(type="mcp_authentication_failed_error", message=words), refused=True, hopeless=True)
        elif code in (400, 404) and _SESSION_HEADER in request.headers:
            note.session_gone = True
            note.fail(lost(f"MCP server {self._name!r} has forgotten the connection (HTTP {code})"), refused=True)
        elif code >= 400:
            # A server that breaks down may have begun; one that says no has not.
            note.fail(
                lost(f"MCP server {self._name!r} answered with HTTP {code}"), refused=code < 500, hopeless=code < 500
            )
        if response.headers.get("content-type", "").lower().startswith("application/json"):
            return await self._whole(response, note)
        return response

    async def _whole(self, response: httpx2.Response, note: Note) -> httpx2.Response:
        """The response with all of its body: one that breaks off in the middle would end the whole connection."""
        body = bytearray()
        try:
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > MAX_ANSWER_BYTES:
                    words = f"the answer of MCP server {self._name!r} is over {MAX_ANSWER_BYTES:,} bytes"
                    return self._none(note, words, hopeless=True)
        finally:
            await response.aclose()
        headers = {"content-type": response.headers["content-type"]}
        if (session := response.headers.get(_SESSION_HEADER)) is not None:
            headers[_SESSION_HEADER] = session
        return httpx2.Response(response.status_code, headers=headers, content=bytes(body))


def http_client(transport: GuardedTransport) -> httpx2.AsyncClient:
    """A client for one server. How long a call may take is for its caller to say."""
    timeout = httpx2.Timeout(_CONNECT.total_seconds(), read=None)
    return httpx2.AsyncClient(transport=transport, timeout=timeout, trust_env=False)


def _addressed(request: httpx2.Request, address: str) -> httpx2.Request:
    """The request to one address; the certificate must still be that of the name."""
    return httpx2.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": request.url.host},
    )


def _show(request: httpx2.Request, token: str | None) -> None:
    if token is not None:
        request.headers["Authorization"] = f"Bearer {token}"


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
