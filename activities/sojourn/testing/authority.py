"""An authority that grants OAuth tokens, and an MCP server that takes them: both on this machine, in one fake."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qs, unquote_plus


@dataclass(frozen=True)
class AuthorityRequest:
    """One request, as it came in."""

    method: str
    path: str
    headers: Mapping[str, str]
    """By their names in lower case."""
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        """The body of a token request."""
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}

    @property
    def basic(self) -> tuple[str, str] | None:
        """Id and secret of the client, if they are in a header."""
        scheme, _, text = self.headers.get("authorization", "").partition(" ")
        if scheme != "Basic":
            return None
        id, _, secret = base64.b64decode(text).decode().partition(":")
        return unquote_plus(id), unquote_plus(secret)


@dataclass
class FakeAuthority:
    """Grants a new token for each refresh token, which holds once.

    Attributes:
        access_token: The one that the server takes now.
        refresh_token: The one that the next request must bring.
        client_secret: What the client must know; ``None`` wants nothing.
        expires_in: Told with each new token, in seconds; ``None`` tells nothing.
        answers: Status and body for the next token requests, instead of a grant.
        server_status: What the MCP server answers whatever the token; ``0`` looks at the token.
        held: Token requests wait until it is set.
        requests: Everything that came in.
    """

    access_token: str = "plain-access-0"
    refresh_token: str = "plain-refresh-0"
    client_secret: str | None = None
    expires_in: int | None = 3600
    answers: list[tuple[int, str]] = field(default_factory=list)
    server_status: int = 0
    held: asyncio.Event = field(default_factory=asyncio.Event)
    requests: list[AuthorityRequest] = field(default_factory=list)
    address: str = ""

    def __post_init__(self) -> None:
        self.held.set()

    @property
    def token_endpoint(self) -> str:
        """Where tokens are granted."""
        return f"http://{self.address}/token"

    @property
    def mcp_url(self) -> str:
        """Where the server is."""
        return f"http://{self.address}/mcp"

    @property
    def grants(self) -> list[AuthorityRequest]:
        """The requests for tokens."""
        return [each for each in self.requests if each.path == "/token"]

    async def answer(self, request: AuthorityRequest) -> tuple[int, str, dict[str, str]]:
        """Status, body and headers of the answer to one request."""
        self.requests.append(request)
        if request.path == "/token":
            await self.held.wait()
            return (*self._grant(request), {})
        return self._serve(request)

    def _grant(self, request: AuthorityRequest) -> tuple[int, str]:
        if self.answers:
            return self.answers.pop(0)
        form = request.form
        given = request.basic[1] if request.basic else form.get("client_secret")
        if given != self.client_secret:
            return HTTPStatus.UNAUTHORIZED, '{"error":"invalid_client"}'
        if form.get("grant_type") != "refresh_token" or form.get("refresh_token") != self.refresh_token:
            return HTTPStatus.BAD_REQUEST, json.dumps({"error": "invalid_grant", "got": form.get("refresh_token")})
        number = len(self.grants)
        self.access_token, self.refresh_token = f"plain-access-{number}", f"plain-refresh-{number}"
        granted: dict[str, object] = {
            "access_token": self.access_token,
            "refresh_token": self.refresh_token,
            "token_type": "Bearer",
        }
        if self.expires_in is not None:
            granted["expires_in"] = self.expires_in
        return HTTPStatus.OK, json.dumps(granted)

    def _serve(self, request: AuthorityRequest) -> tuple[int, str, dict[str, str]]:
        given = request.headers.get("authorization", "")
        if self.server_status:
            return self.server_status, f"no: {given}", {}
        if given != f"Bearer {self.access_token}":
            return HTTPStatus.UNAUTHORIZED, f'{{"error":"invalid_token","got":"{given}"}}', {}
        result = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "fake", "version": "1"}}
        return HTTPStatus.OK, json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}), {"mcp-session-id": "s1"}


@asynccontextmanager
async def fake_authority() -> AsyncGenerator[FakeAuthority, None]:
    """Serve an authority on the loopback interface while the block runs."""
    authority = FakeAuthority()
    connections: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        try:
            status, body, headers = await authority.answer(await _read(reader))
            lines = [f"HTTP/1.1 {status} .", "content-type: application/json", "connection: close"]
            lines += [f"content-length: {len(body.encode())}", *(f"{name}: {value}" for name, value in headers.items())]
            writer.write(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            connections.discard(writer)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    authority.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield authority
    finally:
        authority.held.set()
        server.close()
        for connection in list(connections):
            connection.close()


async def _read(reader: asyncio.StreamReader) -> AuthorityRequest:
    method, path, _ = (await reader.readline()).decode().split(" ", 2)
    headers: dict[str, str] = {}
    while (line := (await reader.readline()).decode().strip()) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return AuthorityRequest(method, path, headers, body)
