"""The embedded server and the process that it belongs to. The file is also the program of that process."""

import asyncio
import socket
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from temporalio.client import Client

from sojourn.types import ServerNotReadyError
from sojourn.worker import embedded_server
from sojourn.worker.port import free_port, is_free
from sojourn.worker.server import start_server


async def _serve(data: str) -> None:
    async with embedded_server(data=Path(data)) as server:
        sys.stdout.write(f"{server.address}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


async def _refuses(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except ConnectionRefusedError:
        return True
    writer.close()
    await writer.wait_closed()
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot tie a process to its parent's life")
async def test_the_server_ends_with_the_process_that_was_killed(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    address = (await process.stdout.readline()).decode().strip()
    assert not await _refuses(address)

    process.kill()
    await process.wait()

    async with asyncio.timeout(60):
        while not await _refuses(address):  # noqa: ASYNC110 (another process does it)
            await asyncio.sleep(0.05)


@pytest.fixture
def taken() -> Generator[int, None, None]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


def test_a_port_is_free_that_nobody_listens_on(taken: int) -> None:
    assert is_free(free_port())
    assert not is_free(taken)


@pytest.mark.parametrize("place", [0, 1], ids=["frontend", "Web UI"])
async def test_a_port_that_was_taken_meanwhile_is_replaced_by_another(taken: int, place: int) -> None:
    good = [free_port() for _ in range(3)]
    chosen = iter([*good[:place], taken, *good[place:]])

    process, client, ui_port = await start_server(Client.connect, choose=lambda: next(chosen))
    running = process.exit_code
    await process.stop()

    assert running is None
    assert (client.service_client.config.target_host, ui_port) == (f"127.0.0.1:{good[1]}", good[2])


@pytest.mark.parametrize("place", [0, 1], ids=["frontend", "Web UI"])
async def test_a_port_that_was_asked_for_and_is_taken_is_told(taken: int, place: int) -> None:
    port, ui_port = (taken, None) if place == 0 else (None, taken)

    with pytest.raises(ServerNotReadyError, match=f"port {taken} is taken"):
        async with embedded_server(port=port, ui_port=ui_port):
            pass


async def test_a_server_that_ends_at_once_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "temporal.db").mkdir()

    with pytest.raises(ServerNotReadyError, match="ended with exit code 1"):
        async with embedded_server(data=tmp_path):
            pass


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
