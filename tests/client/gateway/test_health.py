import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import httpx

from sojourn.client import AgentRuntime, connect_client
from sojourn.gateway import Gateway, create_app
from sojourn.gateway.principal import Principal
from sojourn.worker import EmbeddedServer


class Nobody:
    """Probes have no key."""

    async def authenticate(self, headers: object) -> Principal:
        raise AssertionError("asked for a key")


class Line:
    """A way to the server that can be cut."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server
        self.address = ""

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def cut(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection(self._host, self._port)
        self._writers += [writer, to_writer]
        await asyncio.gather(_copy(reader, to_writer), _copy(to_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def probes(address: str) -> AsyncGenerator[httpx.AsyncClient, None]:
    runtime = AgentRuntime(await connect_client(address))
    transport = httpx.ASGITransport(create_app(Gateway(runtime, Nobody())))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            yield client
    finally:
        await runtime.close()


async def test_ready_while_temporal_answers(server: EmbeddedServer) -> None:
    async with probes(server.address) as client:
        answers = await client.get("/healthz"), await client.get("/readyz")

    assert [answer.status_code for answer in answers] == [200, 200]


async def test_not_ready_but_alive_without_temporal(server: EmbeddedServer) -> None:
    line = Line(server.address)
    await line.open()
    async with probes(line.address) as client:
        before = await client.get("/readyz")
        await line.cut()
        after, alive = await client.get("/readyz"), await client.get("/healthz")

    assert (before.status_code, after.status_code, alive.status_code) == (200, 503, 200)
    assert after.json()["status"] == "unavailable"
    assert "Temporal" in after.json()["reason"]
