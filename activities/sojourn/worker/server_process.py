"""The process of the embedded server."""

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

# Runs between fork and exec: gives the server a process group of its own, and an end when its parent ends.
_BECOME_SERVER = """
import ctypes, os, signal, sys
if sys.argv[1] == "detached":
    os.setpgid(0, 0)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
os.execv(sys.argv[2], sys.argv[2:])
"""


class ServerProcess:
    """A server that was started. On Linux it ends with this process even when that is killed (``PR_SET_PDEATHSIG``)."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, command: Sequence[str], *, detached: bool) -> "ServerProcess":
        """Start it; whether it serves remains to be seen.

        Args:
            command: Path of the program, and its arguments.
            detached: Keep the terminal's Ctrl-C from it.
        """
        if os.name != "nt":
            command = [sys.executable, "-IS", "-c", _BECOME_SERVER, "detached" if detached else "attached", *command]
        return cls(await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL))

    @property
    def exit_code(self) -> int | None:
        """``None`` while it runs."""
        return self._process.returncode

    async def ended(self) -> None:
        """Wait until it has ended."""
        await self._process.wait()

    async def stop(self) -> None:
        """End it at once, without waiting for those who are connected; its database survives that."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
