"""The embedded server and the process that it belongs to. The file is also the program of that process."""

import asyncio
import sys
from pathlib import Path

import pytest

from sojourn.worker import embedded_server


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


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
