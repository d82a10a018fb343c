"""The gateway as an HTTP server in the event loop that is running."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta

import uvicorn

from sojourn.gateway.access import AccessLog
from sojourn.gateway.app import create_app
from sojourn.gateway.endpoint import Gateway

GRACE = timedelta(seconds=5)
"""What requests that are running get when the server stops; streams are told to end at once."""
_KEEP_ALIVE_SECONDS = 75
"""Longer than load balancers keep idle connections (60 s as a rule), so that the server never closes one in use."""


@asynccontextmanager
async def serving(
    gateway: Gateway, listener: socket.socket, *, grace: timedelta = GRACE, access_log: bool = False
) -> AsyncGenerator[str, None]:
    """Serve while the block runs; gives the base URL.

    At the end no new connection is taken, streams end as if they were over, and running requests may finish.

    Args:
        gateway: What is served.
        listener: Bound to the address; closed at the end.
        grace: How long running requests may take at the end.
        access_log: Log each request, with its id, to the logger ``sojourn.gateway.access``.
    """
    app = create_app(gateway)
    config = uvicorn.Config(
        AccessLog(app) if access_log else app,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(grace.total_seconds())),
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve([listener]), name="gateway")
    try:
        await server.listening(task)
        yield base_url(listener)
    finally:
        gateway.closing.set()
        server.should_exit = True
        await task


_REACHED_AT = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def base_url(listener: socket.socket) -> str:
    """Where clients on this machine reach the listener."""
    bound, port = listener.getsockname()[:2]
    host = str(bound)
    host = _REACHED_AT.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """Leaves signals to the program, and tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._listening = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening.set()

    async def listening(self, task: asyncio.Task[None]) -> None:
        """Wait until connections are taken; what keeps the server from it is raised."""
        waiting = asyncio.create_task(self._listening.wait())
        await asyncio.wait({waiting, task}, return_when=asyncio.FIRST_COMPLETED)
        if not self._listening.is_set():
            waiting.cancel()
            await task
