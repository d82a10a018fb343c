"""Server-sent events over ASGI.

Not `sse_starlette.EventSourceResponse`: at a shutdown that one is cancelled in the middle of its body, which clients
see as a broken connection; it learns of the shutdown by looking twice a second at uvicorn, which it patches for the
whole process; and it holds five tasks for each stream.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

OPENED = b": open\n\n"
"""First bytes of a stream, so that clients and proxies see it open before anything happens."""

PING = b'event: ping\ndata: {"type":"ping"}\n\n'

_LAST_WORD = timedelta(seconds=1)
"""How long a client that does not read may hold up the end of its stream."""


def frame(data: str, *, id: str | None = None, event: str = "message") -> bytes:
    """One event. The data is one line, as JSON is.

    The name is ``message`` for everything but errors: it is the only one that all releases of the SDKs take.
    """
    prefix = f"id: {id}\n" if id is not None else ""
    return f"{prefix}event: {event}\ndata: {data}\n\n".encode()


class OpenStreams:
    """The streams that are open in this process. They end when it is told to exit."""

    def __init__(self) -> None:
        self._pumps: set[asyncio.Task[None]] = set()
        self._watch: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._pumps)

    def add(self, pump: asyncio.Task[None], closing: asyncio.Event) -> None:
        """Count a stream until it ends, which is when the event is set at the latest."""
        self._pumps.add(pump)
        pump.add_done_callback(self._leave)
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._end_at(closing))

    def _leave(self, pump: asyncio.Task[None]) -> None:
        self._pumps.discard(pump)
        if not self._pumps and self._watch is not None:
            self._watch.cancel()
            # The next stream may come before the watch has ended, and must not count on it.
            self._watch = None

    async def _end_at(self, closing: asyncio.Event) -> None:
        await closing.wait()
        for pump in self._pumps:
            pump.cancel()


class EventStream(Response):
    """Sends frames as they come, and pings between them, until they end or the client leaves.

    A client that reads slowly is waited for: nothing piles up but what the connection itself buffers.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        frames: AsyncGenerator[bytes, None],
        *,
        streams: OpenStreams,
        closing: asyncio.Event,
        ping: timedelta,
        close: Callable[[], Awaitable[None]],
    ) -> None:
        """Make a response.

        Args:
            frames: What is sent.
            streams: Where the stream is counted.
            closing: Ends it when it is set.
            ping: How often a silent stream shows that it lives.
            close: Called when it is over, also when it never began.
        """
        self.status_code = 200
        self.background = None
        self.init_headers({"cache-control": "no-store", "x-accel-buffering": "no"})
        self._frames = frames
        self._streams = streams
        self._closing = closing
        self._ping = ping
        self._close = close
        self._sending = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] != "HEAD":
                await self._stream(receive, send)
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORD.total_seconds()):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await self._frames.aclose()
            await self._close()

    async def _stream(self, receive: Receive, send: Send) -> None:
        """Until the frames end, the client leaves or the process is told to exit."""
        pump = asyncio.create_task(self._pump(send))
        gone = asyncio.create_task(_left(receive))
        pings: asyncio.Task[None] | None = None
        self._streams.add(pump, self._closing)
        try:
            while not (await asyncio.wait({pump, gone}, timeout=self._ping.total_seconds(), return_when=_FIRST))[0]:
                # While something is being sent the client does not need to be told that the stream lives.
                if not self._sending.locked():
                    pings = asyncio.create_task(self._send(send, PING))
        finally:
            tasks = [task for task in (pump, gone, pings) if task is not None]
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _pump(self, send: Send) -> None:
        async for each in self._frames:
            await self._send(send, each)
            # A long log is sent without waiting for anything: others get their turn, and a client that left is noticed.
            await asyncio.sleep(0)

    async def _send(self, send: Send, body: bytes) -> None:
        async with self._sending:
            await send({"type": "http.response.body", "body": body, "more_body": True})


_FIRST = asyncio.FIRST_COMPLETED


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
