"""What all processes of a campaign do at their beginning and at their end."""

import asyncio
import os
import sys
import threading

from temporalio.client import Client

from sojourn.client import connect_client
from sojourn.types import ServerUnavailableError


def tied() -> None:
    """End this process, whatever it does, when its standard input closes: with the one that started it."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


async def connected(address: str) -> Client:
    """A connection to the server, which may just be away."""
    while True:
        try:
            return await connect_client(address)
        except ServerUnavailableError:
            await asyncio.sleep(0.1)
