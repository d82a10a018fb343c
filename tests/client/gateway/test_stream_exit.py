"""Streams of a gateway process that is told to exit."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import httpx

from sojourn.gateway.sse import OpenStreams

if TYPE_CHECKING:
    from tests.conftest import Stage

_PROGRAM = """
import asyncio, signal, socket, sys
from sojourn.client import AgentRuntime
from sojourn.gateway import Gateway
from sojourn.gateway.principal import SCOPES, Principal
from sojourn.gateway.serving import serving

class Anybody:
    async def authenticate(self, headers):
        return Principal("key", sys.argv[3], "ada", frozenset(SCOPES))

async def main():
    async with AgentRuntime.connect(sys.argv[1], namespace=sys.argv[2]) as runtime:
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        listener = socket.create_server(("127.0.0.1", 0))
        async with serving(Gateway(runtime, Anybody()), listener):
            print(listener.getsockname()[1], flush=True)
            await stopped.wait()

asyncio.run(main())
"""


async def test_a_gateway_that_is_told_to_exit_ends_its_streams_in_order(stage: "Stage") -> None:
    probe = await stage.open(await stage.agent())
    address = stage.client.service_client.config.target_host
    arguments = ["-c", _PROGRAM, address, stage.client.namespace, stage.owner.workspace]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=subprocess.PIPE)
    try:
        async with asyncio.timeout(60):
            assert process.stdout is not None
            port = int(await process.stdout.readline())
            async with (
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http,
                AsyncExitStack() as many,
            ):
                url = f"/v1/sessions/{probe.session.id}/events/stream"
                opened = [await many.enter_async_context(http.stream("GET", url)) for _ in range(20)]
                streams = [each.aiter_lines() for each in opened]
                await asyncio.gather(*(anext(each) for each in streams))
                process.terminate()
                # A body that is cut off instead of ended raises here.
                rest = await asyncio.gather(*map(_rest, streams))
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert [line for each in rest for line in each if line.startswith("data:")] == []


async def _rest(lines: AsyncIterator[str]) -> list[str]:
    return [line async for line in lines]


async def test_a_stream_that_opens_as_the_last_one_ends_is_ended_too() -> None:
    streams, closing = OpenStreams(), asyncio.Event()
    first, second = (asyncio.create_task(_forever()) for _ in range(2))
    streams.add(first, closing)
    first.add_done_callback(lambda _: streams.add(second, closing))
    first.cancel()
    await asyncio.wait({first})

    closing.set()
    _, late = await asyncio.wait({second}, timeout=30)

    assert not late


async def _forever() -> None:
    await asyncio.Event().wait()
