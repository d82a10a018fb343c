"""HTTP/1.1 between a sandbox and a host: a request and its answer, as they flow, secrets put in and taken out."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import h11

from sojourn.sandbox.egress.secret import Exchange, Headers, Replacer
from sojourn.sandbox.egress.stream import Stream, ended

_HEADERS_BYTES = 64 * 1024
_WHOLE_BODY_BYTES = 4 * 1024**2
"""A body up to here is read as a whole, so that its length can be told; not every server takes one in chunks."""

_HOP = frozenset({b"connection", b"keep-alive", b"proxy-authorization", b"proxy-connection", b"te", b"expect"})


class Peer:
    """One side of HTTP on a connection."""

    def __init__(self, stream: Stream, role: type[h11.CLIENT | h11.SERVER]) -> None:
        self.stream = stream
        self.http = h11.Connection(role, max_incomplete_event_size=_HEADERS_BYTES)
        self.active: Callable[[], None] = lambda: None
        """Called whenever something has come or gone."""

    async def event(self) -> h11.Event | type[h11.PAUSED]:
        """What the other side says next.

        Raises:
            h11.RemoteProtocolError: It speaks no HTTP.
        """
        while True:
            event = self.http.next_event()
            if event is not h11.NEED_DATA:
                return event  # type: ignore[return-value]
            if self.http.they_are_waiting_for_100_continue:
                await self.send(h11.InformationalResponse(status_code=100, headers=[]))
            self.http.receive_data(await self.stream.read())
            self.active()

    async def send(self, event: h11.Event) -> None:
        """Say something."""
        if data := self.http.send(event):
            await self.stream.write(data)
            self.active()

    def again(self) -> bool:
        """Whether another request may follow; if so, the connection is ready for it."""
        if self.http.our_state is not h11.DONE or self.http.their_state is not h11.DONE:
            return False
        self.http.start_next_cycle()
        return True

    def left_over(self) -> bytes:
        """What the other side has sent after HTTP."""
        data, _ = self.http.trailing_data
        return data


class SwitchedError(Exception):
    """Both sides have agreed to speak something else from here on."""


@dataclass(frozen=True, slots=True)
class Relay:
    """Carries one request to the upstream and its answer back."""

    client: Peer
    upstream: Peer
    exchange: Exchange | None = None
    """The secrets of the upstream; ``None`` leaves everything as it is."""

    async def run(self, request: h11.Request, *, idle: timedelta) -> None:
        """Carry it.

        Args:
            request: Its head; the body is read from the client.
            idle: How long both sides may be silent.

        Raises:
            SwitchedError: The connection is no HTTP any more.
            OSError: The client has left, or the upstream, or both were silent for too long.
            h11.ProtocolError: One of them does not speak HTTP.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(idle.total_seconds()) as limit:
            self.client.active = self.upstream.active = lambda: limit.reschedule(loop.time() + idle.total_seconds())
            try:
                await self._both(request)
            finally:
                self.client.active = self.upstream.active = lambda: None

    async def _both(self, request: h11.Request) -> None:
        asking = asyncio.create_task(self._ask(request))
        answering = asyncio.create_task(self._answer(request))
        try:
            done, _ = await asyncio.wait({asking, answering}, return_when=asyncio.FIRST_COMPLETED)
            # An upstream that takes no more may have answered before: "too large", for instance.
            if answering in done or isinstance(asking.exception(), _UpstreamClosedError):
                await answering
            else:
                await asking
        finally:
            await ended(asking, answering)

    async def _ask(self, request: h11.Request) -> None:
        """Ends with an error only: after the request it watches whether the client stays."""
        headers = without_hops(request.headers.raw_items(), keep=_switches(request))
        put = None
        if self.exchange is not None:
            put = self.exchange.request_body(_header(headers, b"content-type"))
            headers = self.exchange.request_headers(_identity(headers))
        await self._send_body(request, headers, put if _length(headers) != 0 else None)
        await self.client.stream.hung_up()
        raise ConnectionResetError("the client left")

    async def _send_body(self, request: h11.Request, headers: Headers, put: Replacer | None) -> None:
        length = _length(headers)
        body = b""
        if put is not None and length is not None and length <= _WHOLE_BODY_BYTES:
            body = put.replaced(await self._whole())
            headers = _with(headers, b"content-length", str(len(body)).encode())
        elif put is not None and length is not None:
            headers = _with(headers, b"transfer-encoding", b"chunked", without=b"content-length")
        await self._up(h11.Request(method=request.method, target=request.target, headers=headers))
        if body:
            await self._up(h11.Data(data=body))
        if self.client.http.their_state is h11.SEND_BODY:
            await _copy(self.client, self._up, put.feed if put else bytes)
        if put is not None and (rest := put.finish()):
            await self._up(h11.Data(data=rest))
        await self._up(h11.EndOfMessage())

    async def _up(self, event: h11.Event) -> None:
        try:
            await self.upstream.send(event)
        except OSError as error:
            raise _UpstreamClosedError(str(error)) from None

    async def _whole(self) -> bytes:
        parts = []
        while isinstance(event := await self.client.event(), h11.Data):
            parts.append(bytes(event.data))
        return b"".join(parts)

    async def _answer(self, request: h11.Request) -> None:
        while isinstance(event := await self.upstream.event(), h11.InformationalResponse):
            if event.status_code == 101:
                await self.client.send(_informational(event, self.exchange))
                raise SwitchedError
            if event.status_code != 100:
                await self.client.send(_informational(event, self.exchange))
        if not isinstance(event, h11.Response):
            raise ConnectionResetError("the upstream closed without an answer")
        headers = without_hops(event.headers.raw_items())
        take = None
        if self.exchange is not None:
            headers = self.exchange.answer_headers(headers)
            encoded = _header(headers, b"content-encoding").lower() not in (b"", b"identity")
            take = None if encoded else self.exchange.answer()
            bodiless = request.method == b"HEAD" or event.status_code in (204, 304)
            if take is not None and not bodiless:
                headers = [pair for pair in headers if pair[0] != b"content-length"]
        reason = take.replaced(event.reason) if take else event.reason
        await self.client.send(h11.Response(status_code=event.status_code, headers=headers, reason=reason))
        await _copy(self.upstream, self.client.send, take.feed if take else bytes)
        if take is not None and (rest := take.finish()):
            await self.client.send(h11.Data(data=rest))
        await self.client.send(h11.EndOfMessage())


class _UpstreamClosedError(OSError):
    """The upstream takes no more of the request."""


async def _copy(source: Peer, send: Callable[[h11.Event], Awaitable[None]], change: Callable[[bytes], bytes]) -> None:
    while isinstance(event := await source.event(), h11.Data):
        if data := change(bytes(event.data)):
            await send(h11.Data(data=data))
    if not isinstance(event, h11.EndOfMessage):
        raise ConnectionResetError("the connection ended within a message")


def without_hops(headers: list[tuple[bytes, bytes]], *, keep: bool = False) -> Headers:
    """Headers without those that were for the connection alone; with them where the connection is to be switched.

    Names are in lower case after this.
    """
    lower = [(name.lower(), value) for name, value in headers]
    if keep:
        return [pair for pair in lower if not pair[0].startswith(b"proxy-")]
    named = {each.strip().lower() for name, value in lower if name == b"connection" for each in value.split(b",")}
    framing = {b"content-length", b"transfer-encoding", b"host"}
    return [pair for pair in lower if pair[0] not in _HOP and (pair[0] not in named or pair[0] in framing)]


def _switches(request: h11.Request) -> bool:
    return any(name.lower() == b"upgrade" for name, _ in request.headers)


def _informational(event: h11.InformationalResponse, exchange: Exchange | None) -> h11.InformationalResponse:
    headers = event.headers.raw_items()
    return h11.InformationalResponse(
        status_code=event.status_code,
        headers=exchange.answer_headers(headers) if exchange else headers,
        reason=event.reason,
    )


def _identity(headers: Headers) -> Headers:
    """So that a value in the answer can be seen."""
    return _with(headers, b"accept-encoding", b"identity")


def _with(headers: Headers, name: bytes, value: bytes, *, without: bytes = b"") -> Headers:
    return [pair for pair in headers if pair[0] not in (name, without)] + [(name, value)]


def _header(headers: Headers, name: bytes) -> bytes:
    return next((value for key, value in headers if key == name), b"")


def _length(headers: Headers) -> int | None:
    """Of the body; ``None`` if it is not told."""
    if any(name == b"transfer-encoding" for name, _ in headers):
        return None
    return int(_header(headers, b"content-length") or 0)
