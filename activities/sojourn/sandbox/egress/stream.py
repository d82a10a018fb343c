"""Connections as the proxy uses them: plain ones, and those whose TLS ends here."""

import asyncio
import contextlib
import select
import ssl
from asyncio import StreamReader, StreamWriter
from datetime import timedelta

_PIECE = 64 * 1024
_LOOK = timedelta(seconds=2)
"""How often a connection that has nothing more to say is looked at."""

_FAREWELL = timedelta(seconds=30)
"""How long the other side may take to read what was written to it before the end."""


class Stream:
    """One connection: bytes in, bytes out, and how many there were."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._before = b""
        self.received = 0
        self.sent = 0

    async def read(self) -> bytes:
        """The next piece; empty at the end. Loses nothing when it is cancelled."""
        if self._before:
            data, self._before = self._before, b""
            return data
        data = await self._reader.read(_PIECE)
        self.received += len(data)
        return data

    def unread(self, data: bytes) -> None:
        """Put a piece back that the next `read` gives."""
        self._before = data + self._before

    async def write(self, data: bytes) -> None:
        """Send, as fast as the other side takes it."""
        self._writer.write(data)
        self.sent += len(data)
        await self._writer.drain()

    async def finish(self) -> None:
        """Say that nothing more is sent; reading goes on."""
        if self._writer.can_write_eof():
            self._writer.write_eof()

    @property
    def ended(self) -> bool:
        """Whether the other side has sent all it will."""
        return self._reader.at_eof()

    async def hung_up(self) -> None:
        """Wait until the other side has closed the connection in both directions. For unix sockets."""
        poll = select.poll()
        poll.register(self._writer.get_extra_info("socket").fileno(), 0)
        # Asyncio tells of the first direction only.
        while not self._writer.is_closing() and not poll.poll(0):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK.total_seconds())

    async def linger(self) -> None:
        """Say that nothing more is sent, and take what still comes for a while.

        A client that is sending would otherwise be cut off before it has read what it was told.
        """
        with contextlib.suppress(OSError):
            await self.finish()
            async with asyncio.timeout(_FAREWELL.total_seconds()):
                while await self.read():
                    pass

    async def close(self, *, at_once: bool = False) -> None:
        """Close it. What was written is sent first, unless it is to be closed at once. Safe to repeat."""
        if at_once:
            self._writer.transport.abort()
        self._writer.close()
        with contextlib.suppress(OSError):
            try:
                async with asyncio.timeout(_FAREWELL.total_seconds()):
                    await self._writer.wait_closed()
            except TimeoutError:
                self._writer.transport.abort()


class TlsStream(Stream):
    """The server's end of TLS inside another connection."""

    def __init__(self, inner: Stream, context: ssl.SSLContext) -> None:
        super().__init__(inner._reader, inner._writer)
        self._inner = inner
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def handshake(self) -> None:
        """Agree on keys.

        Raises:
            OSError: The client does not trust the certificate, or speaks no TLS.
        """
        while True:
            try:
                self._tls.do_handshake()
                return await self._flush()
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._more():
                    raise ConnectionResetError("the client left during the TLS handshake") from None
            except ssl.SSLError:
                await self._flush()
                raise

    async def read(self) -> bytes:
        if self._before:
            return await super().read()
        while True:
            try:
                data = self._tls.read(_PIECE)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._more()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            else:
                self.received += len(data)
                return data

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]
        self.sent += len(data)
        await self._flush()

    async def finish(self) -> None:
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        await self._flush()

    async def linger(self) -> None:
        with contextlib.suppress(OSError):
            await self.finish()
        await self._inner.linger()

    async def close(self, *, at_once: bool = False) -> None:
        if not at_once:
            with contextlib.suppress(OSError):
                await self.finish()
        await self._inner.close(at_once=at_once)

    async def _more(self) -> bool:
        data = await self._inner.read()
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return bool(data)

    async def _flush(self) -> None:
        if data := self._outgoing.read():
            await self._inner.write(data)


async def join(client: Stream, upstream: Stream, *, idle: timedelta) -> None:
    """Carry bytes both ways until both sides have said all, one fails, or neither has said anything for ``idle``.

    A side that ends its half leaves the other half open. The client's going away altogether ends both.

    Raises:
        OSError: One side failed, or nothing was said for so long.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(idle.total_seconds()) as limit:

        async def carry(source: Stream, target: Stream) -> None:
            while data := await source.read():
                limit.reschedule(loop.time() + idle.total_seconds())
                await target.write(data)
                limit.reschedule(loop.time() + idle.total_seconds())
            await target.finish()

        up, down = asyncio.create_task(carry(client, upstream)), asyncio.create_task(carry(upstream, client))
        left = asyncio.create_task(_left(up, client))
        sides = {up, down}
        try:
            while sides:
                done, _ = await asyncio.wait(sides | {left}, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                sides -= done
        finally:
            await ended(up, down, left)


async def _left(up: "asyncio.Task[None]", client: Stream) -> None:
    await asyncio.wait({up})
    if up.exception() is None:
        await client.hung_up()
        raise ConnectionResetError("the client left")


async def ended(*tasks: "asyncio.Task[None]") -> None:
    """Cancel tasks and wait until they are gone, whatever became of them."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()
