"""A web of the test's own: servers on the loopback that stand for hosts."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field

import h11
import pytest
from pydantic import JsonValue

from sojourn.activities import Tool, ToolContext
from sojourn.activities.web.fetch import web_fetch_tool
from sojourn.sandbox.address import PrivateHosts
from sojourn.types import ContentBlock, ToolOptions
from sojourn.types.id import EventId, SessionId


@dataclass
class Page:
    body: bytes | str = b""
    kind: str | None = "text/html"
    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)

    @property
    def data(self) -> bytes:
        return self.body.encode() if isinstance(self.body, str) else self.body


class Web:
    """Answers by path; every name of ``*.example`` leads here, those with ``private.`` to a private address."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.asked: list[tuple[str, str, str, dict[str, str], bytes]] = []
        """Host, method, target, headers and body of each request."""
        self.port = 0
        self.looked_up: list[str] = []

    @property
    def base(self) -> str:
        return f"http://a.example:{self.port}"

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.looked_up.append(host)
        return ["10.0.0.1"] if host.startswith("private.") else ["127.0.0.1"]

    def tool(self, hosts: str = "a.example,b.example,sub.a.example") -> Tool:
        return web_fetch_tool(private=PrivateHosts.parse(hosts), resolver=self.resolve)

    async def fetch(
        self, url: str, options: ToolOptions | None = None, *, tool: Tool | None = None
    ) -> list[ContentBlock]:
        return await called(tool or self.tool(), {"url": url}, options)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER)
        with contextlib.suppress(OSError, h11.ProtocolError):
            request, body = await self._request(http, reader)
            headers = {name.decode(): value.decode() for name, value in request.headers}
            target = request.target.decode()
            self.asked.append((headers["host"], request.method.decode(), target, headers, body))
            page = self.pages.get(target.partition("?")[0], Page("nothing", status=404))
            sent = [*page.headers, ("Connection", "close")]
            if page.kind is not None:
                sent.append(("Content-Type", page.kind))
            writer.write(http.send(h11.Response(status_code=page.status, headers=sent)) or b"")
            writer.write(http.send(h11.Data(data=page.data)) or b"")
            writer.write(http.send(h11.EndOfMessage()) or b"")
            await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def _request(self, http: h11.Connection, reader: asyncio.StreamReader) -> tuple[h11.Request, bytes]:
        body = b""
        request: h11.Request | None = None
        while not isinstance(event := http.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                raise ConnectionResetError
        assert request is not None
        return request, body


async def called(tool: Tool, input: dict[str, JsonValue], options: ToolOptions | None = None) -> list[ContentBlock]:
    context = ToolContext(SessionId("sesn_1"), EventId("sevt_1"), 1, options=options)
    result: list[ContentBlock] = await tool(**tool.bind(input, context))
    return result


Caller = Callable[..., list[ContentBlock]]


@pytest.fixture
async def web() -> AsyncGenerator[Web, None]:
    web = Web()
    server = await asyncio.start_server(web.serve, "127.0.0.1", 0)
    web.port = server.sockets[0].getsockname()[1]
    try:
        yield web
    finally:
        server.close()
