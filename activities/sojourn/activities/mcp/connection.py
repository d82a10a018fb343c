"""One connection of one session to one MCP server."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from typing import Protocol, TypeVar

from mcp import Client, ClientSession, MCPError, types
from mcp.client import ClientRequestContext, IncomingMessage
from mcp.shared.dispatcher import ProgressFnT
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import TypeAdapter

from sojourn.activities.mcp.http import NOTE, Note, lost
from sojourn.activities.mcp.transport import Watched, Way
from sojourn.types.mcp import McpFailure

T = TypeVar("T")

logger = logging.getLogger("sojourn.activities")

_SSE_ONLY = frozenset({400, 404, 405, 406, 415})
"""What servers answer to streamable HTTP that only know the transport before it."""

_PAGES = 100
"""Of one listing: a server that never ends must not hold a session."""

_LISTENS = timedelta(seconds=3)
"""How long a server may take to say that it will tell of changes."""

_FOLLOWS = timedelta(seconds=1)

_STAND_INS = frozenset({"Server returned an error response", "Session terminated", "Not Found", "Connection closed"})
"""Words of the library where a server has given none."""

_ENDS = timedelta(seconds=8)
"""How long a connection may take to close; a local program is killed within less."""

_ANSWER: TypeAdapter[types.CallToolResult | types.InputRequiredResult] = TypeAdapter(
    types.CallToolResult | types.InputRequiredResult
)


class ServerLostError(Exception):
    """The server cannot be reached, or does not know who is calling."""

    def __init__(self, failure: McpFailure, *, refused: bool = True, hopeless: bool = False) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.refused = refused
        """Whether the request that met with it has surely had no effect."""
        self.hopeless = hopeless
        """Whether the next one will fare no better."""


class Asked(Protocol):
    """A call that a server may ask something about."""

    async def ask(self, params: types.ElicitRequestParams) -> types.ElicitResult:
        """Have the user asked, and wait for the answer."""
        ...


CALL: ContextVar[Asked | None] = ContextVar("mcp_call", default=None)
"""The call whose request is being sent; the library hands it down to what the server asks on its account."""


class Connection:
    """A connection, held by a task of its own until it is closed.

    Args:
        name: The server's in the definition.
        ways: How to reach it, in the order in which to try.
        timeout: Longest time to connect, for all ways together.
    """

    def __init__(self, name: str, ways: list[Way], *, timeout: timedelta) -> None:
        self.name = name
        self._tools_changed = False
        self._ways = ways
        self._timeout = timeout
        self._calls: list[Asked] = []
        self._in_use = 0
        self._retired = False
        self._watched: Watched | None = None
        self._closing = asyncio.Event()
        self._ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        # Asked for, so that asyncio does not report a failure that nobody waits for any more.
        self._ready.add_done_callback(lambda ready: ready.cancelled() or ready.exception())
        self._note = Note()
        self._owner: asyncio.Task[None] | None = None
        self._idle_since = asyncio.get_running_loop().time()

    @property
    def is_open(self) -> bool:
        """Whether requests may be sent over it."""
        running = self._owner is not None and not self._owner.done() and not self._closing.is_set()
        return running and not (self._watched is not None and self._watched.ended)

    @property
    def is_closed(self) -> bool:
        """Whether nothing of it is left."""
        return self._owner is None or self._owner.done()

    @property
    def idle_seconds(self) -> float:
        """How long it has had nothing to do."""
        return 0.0 if self._in_use else asyncio.get_running_loop().time() - self._idle_since

    async def open(self) -> None:
        """Connect and agree on a protocol.

        Raises:
            ServerLostError: No way led there, or not in time.
        """
        self._owner = asyncio.create_task(self._own())
        try:
            await asyncio.wait({self._ready}, timeout=self._timeout.total_seconds())
        finally:
            if not self._ready.done():
                self._ready.cancel()
                self._owner.cancel()
        if self._ready.cancelled():
            words = f"MCP server {self.name!r} did not answer within {self._timeout.total_seconds():g} s"
            raise ServerLostError(self._note.failure or lost(words))
        self._ready.result()

    async def close(self) -> None:
        """End it, and a local program with it. Calls in flight come to nothing."""
        self._closing.set()
        if self._owner is not None:
            await asyncio.wait({self._owner}, timeout=_ENDS.total_seconds())
            self._owner.cancel()
            await asyncio.wait({self._owner}, timeout=_ENDS.total_seconds())

    def retire(self) -> None:
        """Take no more requests, and close when those in flight are over."""
        self._retired = True
        if not self._in_use:
            self._closing.set()

    def change_of_tools(self) -> bool:
        """Whether the server has said since the last question that it offers other tools. The session is told once."""
        changed, self._tools_changed = self._tools_changed, False
        return changed

    async def list_tools(self) -> list[types.Tool]:
        """All tools, page by page.

        Raises:
            MCPError: The server refuses.
            ServerLostError: It is lost.
            ValidationError: Its answer is no list of tools.
        """
        found: list[types.Tool] = []
        cursor: str | None = None
        self._tools_changed = False
        for _ in range(_PAGES):
            params = types.PaginatedRequestParams(cursor=cursor) if cursor else None
            page = await self._guarded(partial(self._session.list_tools, params=params))
            found += page.tools
            cursor = page.next_cursor
            if not cursor:
                break
        return found

    async def call(
        self,
        request: types.CallToolRequestParams,
        asked: Asked,
        progress: ProgressFnT,
    ) -> types.CallToolResult | types.InputRequiredResult:
        """Call a tool. Cancelling it tells the server.

        Raises:
            MCPError: The server refuses.
            ServerLostError: It is lost; says whether the call may have had its effect.
            ValidationError: Its answer is no result.
        """
        token = CALL.set(asked)
        self._calls.append(asked)
        send = partial(self._session.send_request, types.CallToolRequest(params=request), _ANSWER)
        try:
            return await self._guarded(partial(send, progress_callback=progress))
        finally:
            CALL.reset(token)
            self._calls.remove(asked)

    @property
    def _session(self) -> ClientSession:
        return self._ready.result().session

    async def _guarded(self, send: Callable[[], Awaitable[T]]) -> T:
        """Send a request, and notice when its answer can never come."""
        if not self.is_open:
            raise ServerLostError(lost(f"the connection to MCP server {self.name!r} was closed"))
        assert self._owner is not None
        note, self._in_use = Note(), self._in_use + 1
        token = NOTE.set(note)
        request, failed = asyncio.ensure_future(send()), asyncio.create_task(note.failed.wait())
        try:
            await asyncio.wait({request, failed, self._owner}, return_when=asyncio.FIRST_COMPLETED)
            # What the library makes of a failure follows at once, if it notices.
            await asyncio.wait({request}, timeout=_FOLLOWS.total_seconds())
            if not request.done():
                raise ServerLostError(note.failure or self._broken, refused=note.refused, hopeless=note.hopeless)
            return request.result()
        except MCPError as error:
            raise self._understood(error, note) from None
        finally:
            NOTE.reset(token)
            request.cancel()
            failed.cancel()
            self._in_use -= 1
            self._idle_since = asyncio.get_running_loop().time()
            if self._retired:
                self.retire()

    def _understood(self, error: MCPError, note: Note) -> Exception:
        """What an error of the library means: its transports put words of their own in place of a failure."""
        if note.failure is not None and (note.session_gone or note.is_denied or error.message in _STAND_INS):
            return ServerLostError(note.failure, refused=note.refused, hopeless=note.hopeless)
        if error.code == types.CONNECTION_CLOSED:
            return ServerLostError(note.failure or self._broken, refused=False, hopeless=note.hopeless)
        return error

    @property
    def _broken(self) -> McpFailure:
        return lost(f"the connection to MCP server {self.name!r} broke")

    # --- inside ----------------------------------------------------------------------------------------------------

    async def _own(self) -> None:
        NOTE.set(self._note)
        for place, way in enumerate(self._ways):
            try:
                await self._hold(way)
                return
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                if self._ready.done():
                    logger.info("the connection to an MCP server broke: %s", _cause(error), extra={"mcp": self.name})
                    return
                if place + 1 < len(self._ways) and self._note.status in _SSE_ONLY:
                    continue
                failure = self._note.failure or lost(f"MCP server {self.name!r} did not connect: {_cause(error)}")
                self._ready.set_exception(ServerLostError(failure, hopeless=self._note.hopeless))
                return

    async def _hold(self, way: Way) -> None:
        async with way() as transport:
            self._watched = Watched(transport)
            client = Client(
                self._watched,
                elicitation_callback=self._elicit,
                message_handler=self._hear,
                client_info=types.Implementation(name="sojourn", version=version("sojourn")),
                cache=None,
            )
            async with client:
                heard = asyncio.Event()
                listening = asyncio.create_task(self._listen(client, heard))
                try:
                    # Nothing is told twice: what changes before the server listens to our wish would be missed.
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_LISTENS.total_seconds()):
                            await heard.wait()
                    self._ready.set_result(client)
                    await self._closing.wait()
                finally:
                    listening.cancel()

    async def _listen(self, client: Client, heard: asyncio.Event) -> None:
        """Hear of changes where the protocol has a request for that; before, servers just told."""
        tools = client.server_capabilities.tools
        if client.protocol_version not in MODERN_PROTOCOL_VERSIONS or not (tools and tools.list_changed):
            heard.set()
            return
        pause = 1.0
        while True:
            try:
                async with client.listen(tools_list_changed=True) as changes:
                    heard.set()
                    async for _ in changes:
                        self._tools_changed = True
            except (MCPError, RuntimeError, TimeoutError) as error:
                logger.debug("an MCP server is not listened to: %s", error, extra={"mcp": self.name})
            heard.set()
            await asyncio.sleep(pause)
            pause = min(pause * 2, 60.0)

    async def _elicit(
        self, context: ClientRequestContext, params: types.ElicitRequestParams
    ) -> types.ElicitResult | types.ErrorData:
        # Only streamable HTTP tells on whose account a server asks; over other transports the oldest call is asked.
        asked = CALL.get() or next(iter(self._calls), None)
        if asked is None:
            return types.ErrorData(code=types.INVALID_REQUEST, message="no call is in progress that could be asked")
        return await asked.ask(params)

    async def _hear(self, message: IncomingMessage) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self._tools_changed = True


def _cause(error: BaseException) -> str:
    """The first thing that went wrong, in a line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return " ".join(str(error).split())[:200] or type(error).__name__
