"""A shell that keeps its state from one command to the next."""

from __future__ import annotations

import asyncio
import os
import secrets
from typing import Callable, Mapping

from .pipe import Pipe, discard
from .process import Children
from .wire import LineSplitter, OpError

_LEFTOVER = 16 * 1024
"""Bytes that background processes wrote between two commands and that the next one shows."""


class Shell:
    """A running bash without a terminal.

    Bash reads one line for each command from its standard input. The command is one quoted argument of ``eval`` there,
    so whatever it is, a missing quote or a stray ``break``, ends with it. Its exit code comes through a pipe that the
    command does not have, behind a random word.
    """

    def __init__(self, children: Children, bash: str, *, cwd: str, env: Mapping[str, str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._leftover = bytearray()
        self._awaited: tuple[bytes, asyncio.Future[int]] | None = None
        self._lines = LineSplitter(1024)
        self._killed = False
        self._script: asyncio.WriteTransport | None = None
        self._output = Pipe(self._loop, self._keep)
        self._status = Pipe(self._loop, self._hear)
        script, feed = os.pipe()
        self._feed: int | None = feed
        try:
            self.child = children.spawn(
                ["bash", "--noprofile", "--norc", "-O", "expand_aliases", "-s"],
                program=bash,
                cwd=cwd,
                env=env,
                stdin=script,
                stdout=self._output.write,
                stderr=self._output.write,
                keep=[self._status.write],
            )
        except OSError:
            self.close()
            self._output.close()
            raise
        finally:
            self._channel = self._status.write
            os.close(script)
            self._output.started()
            self._status.started()

    @property
    def alive(self) -> bool:
        return not (self._killed or self.child.ended.done())

    async def run(self, command: str, output: Callable[[bytes], None], *, seconds: float) -> int | None:
        """Run a command and wait for its end, not for that of what it leaves in the background.

        Not to be called again before it has returned. If it is cancelled, the shell is to be killed.

        Returns:
            The command's exit code; ``None`` if the shell ended with it, or the time is over.
        """
        token = secrets.token_hex(16).encode()
        exit_code: asyncio.Future[int] = self._loop.create_future()
        line = _line(command, token, self._channel)
        self._awaited = token, exit_code
        output(bytes(self._leftover))
        self._leftover.clear()
        self._output.sink = output
        try:
            (await self._input()).write(line)
            await asyncio.wait({exit_code, self.child.ended}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            # If both are there, it is the exit code that counts.
            self._status.drain()
            return exit_code.result() if exit_code.done() else None
        finally:
            self._output.drain()
            self._output.sink = self._keep if self.alive else discard
            self._awaited = None

    def kill(self) -> None:
        """End it, and all that it has started. Safe to repeat."""
        self._killed = True
        self.child.kill()
        self.close()
        self._output.close()

    def close(self) -> None:
        """Give up the ends of the pipes of a shell that is gone; what it left running may still write."""
        self._status.close()
        if self._feed is not None:
            os.close(self._feed)
            self._feed = None
        if self._script is not None and not self._script.is_closing():
            self._script.abort()

    async def _input(self) -> asyncio.WriteTransport:
        if self._feed is not None:
            file, self._feed = os.fdopen(self._feed, "wb", buffering=0), None
            self._script, _ = await self._loop.connect_write_pipe(asyncio.BaseProtocol, file)
        assert self._script is not None
        return self._script

    def _keep(self, data: bytes) -> None:
        self._leftover += data
        del self._leftover[:-_LEFTOVER]

    def _hear(self, data: bytes) -> None:
        for line in self._lines.feed(data):
            token, _, code = (line or b"").partition(b" ")
            awaited = self._awaited
            if awaited is not None and token == awaited[0] and not awaited[1].done() and code.isdigit():
                awaited[1].set_result(int(code))


def _line(command: str, token: bytes, channel: int) -> bytes:
    if "\0" in command:
        raise OpError(
            "invalid", "the command holds a NUL byte, which no shell can take; write it to a file another way"
        )
    try:
        quoted = b"'" + command.encode().replace(b"'", b"'\\''") + b"'"
    except UnicodeEncodeError:
        raise OpError("invalid", "the command is not valid text") from None
    # `set -e` and the like last for one command: else a later failure would end the shell and lose its state.
    end = b"{ builtin printf '%%s %%d\\n' %b \"$?\" >&%d; set +evx; } 2>/dev/null" % (token, channel)
    return b"eval -- %b </dev/null %d>&-; %b\n" % (quoted, channel, end)
