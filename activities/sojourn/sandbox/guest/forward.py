"""The op ``forward``: the sandbox's way out, a port on its loopback that leads to a socket of the worker's."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from .wire import OpError

_CHUNK = 65536


async def listen(port: int, socket: str) -> int:
    """Relay bytes until the guest ends. What may pass is decided at the other end.

    Returns:
        The port. It is another one if that is taken, which it can only be where the loopback is the whole machine's.
    """

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _connect(socket, reader, writer)

    for choice in (port, 0):
        with suppress(OSError):
            server = await asyncio.start_server(relay, "127.0.0.1", choice)
            listening: int = server.sockets[0].getsockname()[1]
            return listening
    raise OpError("failed", f"nothing can listen on 127.0.0.1:{port} in this sandbox")


async def _connect(socket: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        far_reader, far_writer = await asyncio.open_unix_connection(socket)
    except OSError:
        writer.close()
        return
    await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
    far_writer.close()
    writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while True:
            data = await reader.read(_CHUNK)
            if not data:
                break
            writer.write(data)
            await writer.drain()
    with suppress(OSError, RuntimeError):
        if writer.can_write_eof():
            writer.write_eof()
