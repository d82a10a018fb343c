"""The connections of one worker to MCP servers: one for each session and server, kept between calls."""

import asyncio
import logging
from datetime import timedelta
from urllib.parse import urlsplit

from sojourn.activities.mcp.connection import Connection, ServerLostError
from sojourn.activities.mcp.credential import NoCredentials
from sojourn.activities.mcp.http import GuardedTransport, lost
from sojourn.activities.mcp.option import McpOptions
from sojourn.activities.mcp.transport import Way, local_program, server_sent_events, streamable_http
from sojourn.types.agent import McpServer
from sojourn.types.environment import CloudConfig, LimitedNetwork
from sojourn.types.session import SessionInput

logger = logging.getLogger("sojourn.activities")

_SWEEP = timedelta(seconds=15)


Key = tuple[str, McpServer]


class McpPool:
    """Opens connections, lends them and closes those that nobody needs."""

    def __init__(self, options: McpOptions) -> None:
        self._options = options
        # Read at once: a command that is none must stop the worker, not a session.
        self._programs = {name: local_program(name, command) for name, command in options.programs.items()}
        self._connections: dict[Key, Connection] = {}
        self._opening: dict[Key, asyncio.Task[Connection]] = {}
        self._leaving: set[Connection] = set()
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def patience(self) -> timedelta:
        """How long a server may take to say what it offers."""
        return self._options.connect_timeout

    async def get(self, workflow_id: str, start: SessionInput, server: McpServer) -> Connection:
        """The session's connection to a server; opened if there is none.

        Raises:
            ServerLostError: It cannot be opened.
        """
        key = (workflow_id, server)
        found = self._connections.get(key)
        if found is not None and found.is_open:
            return found
        if found is not None:
            self.discard(key, found)
        if key not in self._opening:
            self._opening[key] = asyncio.create_task(self._open(key, start))
            self._opening[key].add_done_callback(lambda task: self._opened(key, task))
        # Shielded: others may wait for it too.
        return await asyncio.shield(self._opening[key])

    def discard(self, key: Key, connection: Connection) -> None:
        """Lend a connection no more; calls in flight may end."""
        if self._connections.get(key) is connection:
            del self._connections[key]
        self._leaving.add(connection)
        connection.retire()

    async def close(self) -> None:
        """Close all connections, and end all local programs."""
        tasks = [*self._opening.values(), *([self._sweeper] if self._sweeper else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        connections = [*self._connections.values(), *self._leaving]
        self._connections.clear()
        await asyncio.gather(*(each.close() for each in connections), return_exceptions=True)

    async def _open(self, key: Key, start: SessionInput) -> Connection:
        connection = Connection(key[1].name, self._ways(start, key[1]), timeout=self._options.connect_timeout)
        try:
            await connection.open()
        except BaseException:
            self._leaving.add(connection)
            connection.retire()
            raise
        self._connections[key] = connection
        self._sweeper = self._sweeper or asyncio.create_task(self._sweep())
        return connection

    def _opened(self, key: Key, task: asyncio.Task[Connection]) -> None:
        del self._opening[key]
        if not task.cancelled():
            # Asked for, so that asyncio does not report what nobody waits for any more.
            task.exception()

    def _ways(self, start: SessionInput, server: McpServer) -> list[Way]:
        if server.type == "stdio":
            if (program := self._programs.get(server.name)) is None:
                has = ", ".join(sorted(self._programs)) or "none"
                words = f"the worker has no local MCP server {server.name!r} (it has: {has})"
                raise ServerLostError(
                    lost(f"{words}; start it with `sojourn worker --mcp {server.name}='COMMAND …'`"), hopeless=True
                )
            return [program]

        if (refusal := network_refusal(start, server)) is not None:
            raise ServerLostError(lost(refusal), hopeless=True)

        def guarded() -> GuardedTransport:
            options = self._options
            credentials = options.credentials or NoCredentials()
            return GuardedTransport(server.name, start, credentials=credentials, private=options.private_hosts)

        return [streamable_http(server.url, guarded), server_sent_events(server.url, guarded)]

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(_SWEEP, self._options.idle_timeout).total_seconds())
            self._leaving = {each for each in self._leaving if not each.is_closed}
            for key, connection in list(self._connections.items()):
                if not connection.is_open or connection.idle_seconds > self._options.idle_timeout.total_seconds():
                    self.discard(key, connection)


def network_refusal(start: SessionInput, server: McpServer) -> str | None:
    """Why the session's environment does not let a server be reached; ``None`` if it does."""
    if not isinstance(start.sandbox, CloudConfig) or not isinstance(start.sandbox.networking, LimitedNetwork):
        return None
    network, host = start.sandbox.networking, (urlsplit(server.url).hostname or "").rstrip(".")
    if network.allow_mcp_servers or any(_covers(allowed, host) for allowed in network.allowed_hosts):
        return None
    return f"the session's environment does not let MCP server {server.name!r} be reached; set allow_mcp_servers there"


def _covers(allowed: str, host: str) -> bool:
    allowed = allowed.lower().rstrip(".")
    return host.endswith(allowed[1:]) if allowed.startswith("*.") else host == allowed
