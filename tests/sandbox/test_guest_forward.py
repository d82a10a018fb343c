import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.sandbox.guest_stand import PATIENCE_SECONDS, Sandboxed, sandboxed

from sojourn.sandbox.protocol import PROXY_PORT


@pytest.fixture
async def box(tmp_path: Path) -> AsyncGenerator[Sandboxed, None]:
    async with sandboxed(tmp_path) as box:
        yield box


@asynccontextmanager
async def echo(socket: Path) -> AsyncGenerator[None, None]:
    """Sends back what it gets, and "over" at the end of it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
            await writer.drain()
        writer.write(b"over")
        writer.close()

    async with await asyncio.start_unix_server(serve, socket):
        yield


async def said(port: int, *data: bytes) -> bytes:
    async with asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for each in data:
                writer.write(each)
                await writer.drain()
            writer.write_eof()
            return await reader.read()
        finally:
            writer.close()


async def test_bytes_go_both_ways_to_their_end(box: Sandboxed, tmp_path: Path) -> None:
    socket = tmp_path / "proxy.sock"
    async with echo(socket):
        port = (await box.call("forward", port=0, socket=str(socket)))["port"]
        large = bytes(range(256)) * 4000

        answers = tuple(await asyncio.gather(said(port, b"hi ", b"there "), said(port, large), said(port)))

    assert answers == (b"hi there over", large + b"over", b"over")


async def test_without_anybody_at_the_other_end_a_connection_is_closed(box: Sandboxed, tmp_path: Path) -> None:
    port = (await box.call("forward", port=0, socket=str(tmp_path / "nobody")))["port"]

    assert await said(port) == b""
    assert await box.call("ping") == {}


async def test_a_sandbox_with_a_proxy_has_its_way_out_from_the_start(tmp_path: Path) -> None:
    socket = tmp_path / "proxy.sock"
    async with echo(socket):
        box = Sandboxed(tmp_path)
        box.spec = replace(box.spec, proxy=socket)
        try:
            await box.start()
            output, _ = await box.bash("echo $HTTP_PROXY")
            port = int(output.rpartition(":")[2])

            assert output.startswith("http://127.0.0.1:")
            assert await said(port, b"x ") == b"x over"
        finally:
            await box.close()


async def test_a_port_that_is_taken_is_another_one_for_programs(box: Sandboxed, tmp_path: Path) -> None:
    first = (await box.call("forward", port=PROXY_PORT, socket=str(tmp_path / "a")))["port"]
    second = (await box.call("forward", port=PROXY_PORT, socket=str(tmp_path / "a")))["port"]

    assert second not in (first, PROXY_PORT)
    assert await box.bash("echo $HTTP_PROXY") == (f"http://127.0.0.1:{first if first != PROXY_PORT else second}\n", 0)
