"""One connection from a sandbox: what it asks for, whether it may, and who carries it."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import h11

from sojourn.sandbox.address import AddressRefusedError, connect, plain_host
from sojourn.sandbox.egress.relay import Peer, Relay, SwitchedError
from sojourn.sandbox.egress.secret import Exchange
from sojourn.sandbox.egress.stream import Stream, TlsStream, join

if TYPE_CHECKING:
    from sojourn.sandbox.egress.proxy import EgressProxy

_log = logging.getLogger("sojourn.egress")

_HELLO = b"\x16"
"""How TLS begins."""
_FIRST_WORD = timedelta(seconds=3)
"""A client of TLS speaks first; one that is silent this long speaks something else."""


class _RefusedError(Exception):
    """The answer to a client that gets nothing."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


@dataclass(frozen=True, slots=True)
class _Upstream:
    host: str
    port: int
    peer: Peer


class Connection:
    """Serves one client of the proxy."""

    def __init__(self, proxy: "EgressProxy", stream: Stream) -> None:
        self._proxy = proxy
        self._stream = stream
        self._upstream: _Upstream | None = None

    async def serve(self) -> None:
        """Serve it to its end, whatever it does."""
        at_once = True
        try:
            await self._requests(Peer(self._stream, h11.SERVER))
            at_once = False
        except (OSError, h11.ProtocolError, SwitchedError) as error:
            _log.debug("a connection of a sandbox ended: %s", type(error).__name__)
        finally:
            await self._close_upstream()
            await self._stream.close(at_once=at_once)

    async def _requests(self, client: Peer) -> None:
        while (request := await self._next(client)) is not None:
            try:
                if request.method == b"CONNECT":
                    return await self._tunnel(client, request)
                await self._forward(client, request)
            except _RefusedError as refused:
                return await _refuse(client, refused)
            if not client.again():
                return await _leave(client)

    async def _next(self, client: Peer) -> h11.Request | None:
        async with asyncio.timeout(self._proxy.limits.head.total_seconds()):
            try:
                event = await client.event()
            except h11.RemoteProtocolError as error:
                await _refuse(client, _RefusedError(error.error_status_hint, "that is no request of HTTP/1.1"))
                return None
        return event if isinstance(event, h11.Request) else None

    async def _tunnel(self, client: Peer, request: h11.Request) -> None:
        host, port = _authority(request.target)
        upstream = await self._open(host, port)
        # The end of the request, so that it may become a tunnel.
        await client.event()
        tunnel = _Tunnel(self._proxy, self._stream, host, port, lambda: self._open(host, port))
        try:
            await client.send(h11.Response(status_code=200, reason=b"Connection established", headers=[]))
            self._stream.unread(client.left_over())
            await tunnel.carry(upstream)
        finally:
            upstream.close()
            self._record(host, port, tunnel.flow, "intercepted" if tunnel.intercepted else "allowed")

    async def _forward(self, client: Peer, request: h11.Request) -> None:
        host, port, target = _absolute(request.target)
        upstream = await self._kept(host, port)
        before = (upstream.stream.sent, upstream.stream.received)
        headers = [(name, value) for name, value in request.headers.raw_items() if name.lower() != b"host"]
        authority = urlsplit(request.target.decode("ascii")).netloc.rpartition("@")[2].encode()
        asked = h11.Request(method=request.method, target=target, headers=[(b"host", authority), *headers])
        try:
            await _relayed(Relay(client, upstream), asked, host, idle=self._proxy.limits.idle)
        except SwitchedError:
            await _switched(client, upstream, idle=self._proxy.limits.idle)
        finally:
            flow = upstream.stream.sent - before[0], upstream.stream.received - before[1]
            self._record(host, port, flow, "allowed")
        if not upstream.again():
            await self._close_upstream()

    async def _kept(self, host: str, port: int) -> Peer:
        """The upstream of the request before, if it is the same host."""
        kept = self._upstream
        if kept is not None and (kept.host, kept.port) == (host, port) and not kept.peer.stream.ended:
            self._check(host, port)
            return kept.peer
        await self._close_upstream()
        connected = await self._open(host, port)
        peer = Peer(Stream(*await asyncio.open_connection(sock=connected)), h11.CLIENT)
        self._upstream = _Upstream(host, port, peer)
        return peer

    async def _close_upstream(self) -> None:
        kept, self._upstream = self._upstream, None
        if kept is not None:
            await kept.peer.stream.close(at_once=True)

    def _check(self, host: str, port: int) -> None:
        if (line := self._proxy.policy.refusal(host, port)) is not None:
            self._proxy.count.refused += 1
            _log.info("egress %s:%d refused: %s", host, port, line)
            raise _RefusedError(403, line)

    async def _open(self, host: str, port: int) -> socket.socket:
        self._check(host, port)
        proxy = self._proxy
        try:
            async with proxy.lookups:
                connected = await connect(
                    host, port, private=proxy.private, resolver=proxy.resolver, timeout=proxy.limits.connecting
                )
        except AddressRefusedError as error:
            proxy.count.refused += 1
            _log.info("egress %s:%d refused: address", host, port)
            raise _RefusedError(403, str(error)) from None
        except TimeoutError:
            raise _RefusedError(504, f"{host}:{port} does not answer") from None
        except OSError as error:
            _log.info("egress %s:%d failed: %s", host, port, error)
            raise _RefusedError(502, f"{host}:{port} cannot be reached") from None
        proxy.count.allowed += 1
        return connected

    def _record(self, host: str, port: int, flow: tuple[int, int], word: str) -> None:
        sent, received = flow
        self._proxy.count.sent_bytes += sent
        self._proxy.count.received_bytes += received
        _log.info("egress %s:%d %s, %d bytes out, %d bytes in", host, port, word, sent, received)


class _Tunnel:
    """What follows a CONNECT: bytes as they are, or HTTP inside TLS where the host gets secrets."""

    def __init__(
        self, proxy: "EgressProxy", client: Stream, host: str, port: int, reopen: Callable[[], Awaitable[socket.socket]]
    ) -> None:
        self._proxy = proxy
        self._client = client
        self._host = host
        self._port = port
        self._reopen = reopen
        self._idle = proxy.limits.idle
        self.intercepted = False
        self.flow = (0, 0)
        """Bytes that went out and came in."""

    async def carry(self, connected: socket.socket) -> None:
        """Carry everything until the end. Whoever calls closes the socket if it is left."""
        authority = self._proxy.authority
        if authority is not None:
            await self._proxy.renew()
        if authority is None or not self._proxy.secrets_for(self._host) or not await self._speaks_tls():
            return await self._pass(connected)
        self.intercepted = True
        client = TlsStream(self._client, authority.context(self._host))
        async with asyncio.timeout(self._proxy.limits.head.total_seconds()):
            await client.handshake()
        peer = Peer(client, h11.SERVER)
        try:
            await self._requests(peer, connected)
        except _RefusedError as refused:
            await _refuse(peer, refused)
        await client.close()

    async def _pass(self, connected: socket.socket) -> None:
        upstream = Stream(*await asyncio.open_connection(sock=connected))
        try:
            await join(self._client, upstream, idle=self._idle)
        finally:
            await self._done(upstream)

    async def _done(self, upstream: Stream) -> None:
        self.flow = self.flow[0] + upstream.sent, self.flow[1] + upstream.received
        await upstream.close(at_once=True)

    async def _speaks_tls(self) -> bool:
        try:
            async with asyncio.timeout(_FIRST_WORD.total_seconds()):
                data = await self._client.read()
        except TimeoutError:
            return False
        self._client.unread(data)
        return data[:1] == _HELLO

    async def _requests(self, client: Peer, connected: socket.socket) -> None:
        upstream: Peer | None = None
        fresh: socket.socket | None = connected
        exchange = Exchange(self._proxy.secrets_for(self._host))
        try:
            while isinstance(request := await self._next(client), h11.Request):
                asked = self._for_this_host(request)
                if upstream is None or upstream.stream.ended:
                    upstream = Peer(await self._secured(fresh or await self._reopen()), h11.CLIENT)
                    fresh = None
                await _relayed(Relay(client, upstream, exchange), asked, self._host, idle=self._idle)
                if not client.again():
                    return await _leave(client)
                if not upstream.again():
                    await self._done(upstream.stream)
                    upstream = None
        except SwitchedError:
            assert upstream is not None
            await _switched(client, upstream, idle=self._idle)
        finally:
            if upstream is not None:
                await self._done(upstream.stream)

    async def _next(self, client: Peer) -> h11.Event | type[h11.PAUSED]:
        async with asyncio.timeout(self._idle.total_seconds()):
            return await client.event()

    def _for_this_host(self, request: h11.Request) -> h11.Request:
        """The request, which must not be for another host behind the same address: that one may not get the secret."""
        named = next((value for name, value in request.headers if name == b"host"), b"").decode("latin-1")
        if request.target[:1] not in (b"/", b"*"):
            raise _RefusedError(400, f"inside a tunnel to {self._host} a request begins with a path")
        try:
            host, port = _split(named) if named else (self._host, self._port)
        except AddressRefusedError:
            host, port = "", 0
        if host != self._host or port not in (None, self._port):
            raise _RefusedError(403, f"a request for another host than {self._host} in its tunnel")
        if named:
            return request
        headers = [(b"host", self._host.encode()), *request.headers.raw_items()]
        return h11.Request(method=request.method, target=request.target, headers=headers)

    async def _secured(self, connected: socket.socket) -> Stream:
        """The upstream with TLS, for which its certificate must be right."""
        limit = self._proxy.limits.connecting.total_seconds()
        try:
            streams = await asyncio.open_connection(
                sock=connected, ssl=self._proxy.trust, server_hostname=self._host, ssl_handshake_timeout=limit
            )
        except ssl.SSLCertVerificationError as error:
            raise _RefusedError(502, f"the certificate of {self._host} is not valid: {error.verify_message}") from None
        except OSError:
            raise _RefusedError(502, f"{self._host}:{self._port} does not speak TLS") from None
        return Stream(*streams)


async def _relayed(relay: Relay, request: h11.Request, host: str, *, idle: timedelta) -> None:
    try:
        await relay.run(request, idle=idle)
    except (OSError, h11.ProtocolError) as error:
        if relay.client.http.our_state is not h11.SEND_RESPONSE:
            raise
        if isinstance(error, TimeoutError):
            raise _RefusedError(504, f"{host} gives no answer") from None
        raise _RefusedError(502, f"{host} gives no answer of HTTP/1.1") from None


async def _switched(client: Peer, upstream: Peer, *, idle: timedelta) -> None:
    client.stream.unread(client.left_over())
    upstream.stream.unread(upstream.left_over())
    await join(client.stream, upstream.stream, idle=idle)


async def _refuse(client: Peer, refused: _RefusedError) -> None:
    """Tell the client. Many programs show the reason only, so it says the same as the body."""
    line = str(refused)
    if client.http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
        raise ConnectionResetError(line)
    body = f"{line}\n".encode()
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    reason = line.encode("ascii", "replace")
    await client.send(
        h11.Response(status_code=refused.status, reason=reason, headers=[*headers, ("Connection", "close")])
    )
    await client.send(h11.Data(data=body))
    await client.send(h11.EndOfMessage())
    await _leave(client)


async def _leave(client: Peer) -> None:
    """Let a client that has not said all read the answer all the same."""
    if client.http.their_state is h11.SEND_BODY:
        await client.stream.linger()


def _authority(target: bytes) -> tuple[str, int]:
    try:
        host, port = _split(target.decode("latin-1"))
    except AddressRefusedError as error:
        raise _RefusedError(400, str(error)) from None
    if port is None:
        raise _RefusedError(400, "CONNECT needs host:port")
    return host, port


def _split(text: str) -> tuple[str, int | None]:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        return plain_host(text), None
    if not (port.isascii() and port.isdigit() and len(port) < 6):
        raise AddressRefusedError(text, reason="has no such port")
    return plain_host(host), int(port)


def _absolute(target: bytes) -> tuple[str, int, bytes]:
    try:
        parts = urlsplit(target.decode("ascii"))
        host, port = plain_host(parts.hostname or ""), parts.port or 80
    except AddressRefusedError as error:
        raise _RefusedError(400, str(error)) from None
    except ValueError:
        raise _RefusedError(400, "that is no URL") from None
    if parts.scheme != "http":
        raise _RefusedError(400, "this is a proxy: it takes CONNECT host:port, and whole URLs with http")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return host, port, path.encode("ascii")
