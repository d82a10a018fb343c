"""HTTP as lean as it can be, so that the server is measured and not its client: one connection each, no redirects."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit


class Connection:
    """A connection that is kept open, for one request after another."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._address = (parts.hostname, parts.port)
        self._head = f"host: {parts.netloc}\r\nx-api-key: {key}\r\n"
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection(*self._address)

    async def close(self) -> None:
        self._writer.close()

    async def request(self, method: str, path: str, body: object = None) -> Any:
        """The JSON of the answer."""
        status, headers = await self._ask(method, path, body)
        answer = await self._reader.readexactly(int(headers["content-length"]))
        if status != 200:
            raise RuntimeError(f"{method} {path}: {status} {answer.decode()}")
        return json.loads(answer)

    async def lines(self, path: str) -> AsyncGenerator[dict[str, Any], None]:
        """The events of a stream. Its headers have come when this gives its first item, which is empty."""
        status, headers = await self._ask("GET", path, None)
        if status != 200 or headers.get("transfer-encoding") != "chunked":
            raise RuntimeError(f"GET {path}: {status}")
        yield {}
        rest = b""
        while size := int(await self._reader.readline(), 16):
            rest += (await self._reader.readexactly(size + 2))[:-2]
            *whole, rest = rest.split(b"\n")
            for line in whole:
                if line.startswith(b"data:") and line.strip() != b"data:":
                    yield json.loads(line[5:])

    async def _ask(self, method: str, path: str, body: object) -> tuple[int, dict[str, str]]:
        data = b"" if body is None else json.dumps(body).encode()
        kind = "content-type: application/json\r\n" if data else ""
        head = f"{method} {path} HTTP/1.1\r\n{self._head}{kind}content-length: {len(data)}\r\n\r\n"
        self._writer.write(head.encode() + data)
        first, *rest = (await self._reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        return int(first.split()[1]), headers


@asynccontextmanager
async def connection(url: str, key: str) -> AsyncGenerator[Connection, None]:
    """A connection while the block runs."""
    made = Connection(url, key)
    await made.open()
    try:
        yield made
    finally:
        await made.close()
