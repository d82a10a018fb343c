"""The ways to reach an MCP server: streamable HTTP, the older SSE, a local program."""

import os
import shlex
import shutil
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Self

import httpx2
from mcp import StdioServerParameters, stdio_client
from mcp.client import Transport
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._stream_protocols import ReadStream, WriteStream
from mcp.shared.message import SessionMessage

from sojourn.activities.mcp.http import MAX_ANSWER_BYTES, GuardedTransport, http_client
from sojourn.types.error import InvalidRequestError

Way = Callable[[], AbstractAsyncContextManager[Transport]]
"""Opens what one transport needs."""

Message = SessionMessage | Exception


def streamable_http(url: str, guarded: Callable[[], GuardedTransport]) -> Way:
    """By streamable HTTP."""

    @asynccontextmanager
    async def way() -> AsyncGenerator[Transport, None]:
        async with http_client(guarded()) as client:
            yield streamable_http_client(url, http_client=client, max_sse_event_size=MAX_ANSWER_BYTES)

    return way


def server_sent_events(url: str, guarded: Callable[[], GuardedTransport]) -> Way:
    """By the transport that came before; the library bounds its answers at 1 MiB."""

    def client(
        headers: dict[str, str] | None = None,
        timeout: httpx2.Timeout | None = None,
        auth: httpx2.Auth | None = None,
    ) -> httpx2.AsyncClient:
        return http_client(guarded())

    @asynccontextmanager
    async def way() -> AsyncGenerator[Transport, None]:
        yield sse_client(url, httpx_client_factory=client)

    return way


def local_program(name: str, command: str) -> Way:
    """By the pipes of a program, which gets nothing of the worker's environment but the likes of PATH and HOME.

    Raises:
        InvalidRequestError: The command is none.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InvalidRequestError(f"the command of MCP server {name!r} cannot be read: {error}") from None
    if not words:
        raise InvalidRequestError(f"the command of MCP server {name!r} is empty; write --mcp NAME='COMMAND …'")
    program, *arguments = [*_bound_to_us(), *words]

    @asynccontextmanager
    async def way() -> AsyncGenerator[Transport, None]:
        errors = sys.__stderr__ or open(os.devnull, "w")  # noqa: ASYNC230, SIM115 - a daemon has none; never blocks
        yield stdio_client(StdioServerParameters(command=program, args=arguments), errlog=errors)

    return way


def _bound_to_us() -> list[str]:
    """What has the program killed when the worker is, where the system can do that."""
    found = shutil.which("setpriv") if sys.platform == "linux" else None
    return [found, "--pdeathsig", "KILL", "--"] if found else []


class Watched:
    """A transport that knows when the server has closed it."""

    def __init__(self, inner: Transport) -> None:
        self.ended = False
        self._inner = inner

    async def __aenter__(self) -> tuple[ReadStream[Message], WriteStream[SessionMessage]]:
        read, write = await self._inner.__aenter__()
        return _WatchedStream(read, self), write

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._inner.__aexit__(kind, error, trace)


class _WatchedStream:
    def __init__(self, inner: ReadStream[Message], watched: Watched) -> None:
        self._inner = inner
        self._watched = watched

    @property
    def last_context(self) -> object:
        """By which the library hands down what is known of the caller."""
        return getattr(self._inner, "last_context", None)

    async def receive(self) -> Message:
        return await self._inner.receive()

    async def aclose(self) -> None:
        await self._inner.aclose()

    def __aiter__(self) -> ReadStream[Message]:
        return self

    async def __anext__(self) -> Message:
        try:
            return await self._inner.__anext__()
        except BaseException:
            self._watched.ended = True
            raise

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool | None:
        return await self._inner.__aexit__(exc_type, exc_val, exc_tb)
