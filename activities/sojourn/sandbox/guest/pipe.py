"""A pipe from a process to the guest."""

from __future__ import annotations

import array
import asyncio
import fcntl
import os
import termios
from typing import Callable

_CHUNK = 65536


class Pipe:
    """Gives on what comes through a pipe, until its end.

    Args:
        sink: Gets the bytes. It may be changed at any time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, sink: Callable[[bytes], None]) -> None:
        self.sink = sink
        self._loop = loop
        self._read, self.write = os.pipe()
        os.set_blocking(self._read, False)
        self._open = True
        loop.add_reader(self._read, self._receive, _CHUNK)

    def started(self) -> None:
        """The process has its end; the guest gives up its own."""
        os.close(self.write)

    def drain(self) -> None:
        """Take what is in the pipe now, and no more: another process may go on writing for ever."""
        if self._open:
            waiting = array.array("i", [0])
            fcntl.ioctl(self._read, termios.FIONREAD, waiting)
            while waiting[0] > 0 and self._open:
                waiting[0] -= self._receive(waiting[0]) or waiting[0]

    def close(self) -> None:
        if self._open:
            self._open = False
            self._loop.remove_reader(self._read)
            os.close(self._read)

    def _receive(self, size: int) -> int:
        try:
            data = os.read(self._read, size)
        except BlockingIOError:
            return 0
        if data:
            self.sink(data)
        else:
            self.close()
        return len(data)


def discard(data: bytes) -> None:
    """Sink for what nobody will read. Without one the process would be stopped or stand still."""
