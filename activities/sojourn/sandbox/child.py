"""A program that a sandbox runs as a child of the worker: its pipes, its end, and the reason for it."""

import asyncio
import os
import signal
from asyncio.subprocess import PIPE, SubprocessStreamProtocol
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sojourn.types import SandboxError

LINE_LIMIT_BYTES = 9 * 1024**2
"""Longest line that can be read from a guest: its messages may have 8 MiB."""

KILLED = "ended by the worker"

_TOLD_BYTES = 64 * 1024
_SHOWN = 500
_PATIENCE = timedelta(seconds=10)


class _Streams(SubprocessStreamProtocol):
    """Knows that the process has ended while something it left behind still holds its pipes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=LINE_LIMIT_BYTES, loop=loop)
        self.exited = asyncio.Event()

    def process_exited(self) -> None:
        super().process_exited()
        self.exited.set()


@dataclass(frozen=True, slots=True)
class Program:
    """A process with pipes on its three streams."""

    transport: asyncio.SubprocessTransport
    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader
    exited: asyncio.Event

    @classmethod
    async def start(
        cls, command: Sequence[str], *, env: Mapping[str, str], pass_fds: Sequence[int] = (), folder: Path | None = None
    ) -> "Program":
        """Start it with these variables and open files alone, in a session of its own.

        Raises:
            SandboxError: There is no such program, or no more process.
        """
        loop = asyncio.get_running_loop()
        starting = asyncio.ensure_future(
            loop.subprocess_exec(
                lambda: _Streams(loop),
                *command,
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                env=env,
                pass_fds=pass_fds,
                cwd=folder,
                start_new_session=True,
            )
        )
        try:
            transport, streams = await asyncio.shield(starting)
        except asyncio.CancelledError:
            # asyncio would kill the process, and not what it has just started.
            starting.add_done_callback(_undo)
            raise
        except OSError as error:
            raise SandboxError(f"{command[0]!r} could not be started: {error}") from error
        assert streams.stdin is not None
        assert streams.stdout is not None
        assert streams.stderr is not None
        return cls(transport, streams.stdin, streams.stdout, streams.stderr, streams.exited)

    def kill(self) -> None:
        """Kill it, and what it has started that has no session of its own yet."""
        _kill_group(self.transport)

    async def complaint(self) -> str:
        """Last line that it writes to its standard error, which is closed when it writes too much."""
        kept, number = b"", 0
        while number < _TOLD_BYTES and (chunk := await self.stderr.read(4096)):
            number += len(chunk)
            kept = (kept + chunk)[-4096:]
        pipe = self.transport.get_pipe_transport(2)
        if pipe is not None:
            # More of it would only cost the worker time.
            pipe.close()
        lines = kept.decode(errors="replace").strip().splitlines()
        return lines[-1][-_SHOWN:] if lines else ""


def _undo(starting: "asyncio.Future[tuple[asyncio.SubprocessTransport, _Streams]]") -> None:
    if not starting.cancelled() and starting.exception() is None:
        transport, _ = starting.result()
        _kill_group(transport)
        transport.close()


def _kill_group(transport: asyncio.SubprocessTransport) -> None:
    with suppress(ProcessLookupError):
        os.killpg(transport.get_pid(), signal.SIGKILL)


class Child:
    """A running sandbox whose outermost process is a child of the worker.

    Args:
        program: That process.
        end: Ends everything in the sandbox, at once and for good; the process ends with it. May be called twice.
    """

    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader

    def __init__(self, program: Program, end: Callable[[], Awaitable[None]]) -> None:
        self.stdin, self.stdout = program.stdin, program.stdout
        self._program = program
        self._end = end
        self._reason: str | None = None
        self._told = asyncio.create_task(program.complaint())
        self._watch: asyncio.Task[None] | None = None
        self._done = asyncio.create_task(self._run())

    @property
    def pid(self) -> int:
        """Of the outermost process."""
        return self._program.transport.get_pid()

    def end_after(self, overflow: Coroutine[None, None, str]) -> None:
        """End it as soon as ``overflow`` has, with its result as the reason."""

        async def watch() -> None:
            told = await overflow
            self._watch = None
            self._reason = self._reason or told
            await self._stop()

        self._watch = asyncio.create_task(watch())

    async def wait(self) -> str:
        return await asyncio.shield(self._done)

    async def kill(self) -> None:
        self._reason = self._reason or KILLED
        # Killing is not given up half-way because nobody waits for it any more.
        await asyncio.shield(asyncio.ensure_future(self._stop()))

    async def _stop(self) -> None:
        if self._done.done():
            return
        await self._end()
        try:
            async with asyncio.timeout(_PATIENCE.total_seconds()):
                await self._program.exited.wait()
        except TimeoutError:
            self._program.kill()
        await asyncio.wait({self._done})

    async def _run(self) -> str:
        await self._program.exited.wait()
        await self._end()
        await asyncio.wait({self._told}, timeout=_PATIENCE.total_seconds())
        told = self._told.result() if self._told.done() else ""
        self._told.cancel()
        if self._watch is not None:
            self._watch.cancel()
        self._program.transport.close()
        return self._reason or describe(self._program.transport.get_returncode(), told)


def describe(status: int | None, told: str) -> str:
    """Why a program ended, in one line."""
    number = status if status is not None else 0
    # A shell's way to tell of a signal, which bubblewrap has too.
    number = -number if number < 0 else number - 128
    known = {each.value: each.name for each in signal.Signals}
    how = f"by {known[number]}" if number in known else f"with status {status}"
    return f"its program ended {how}" + (f": {told}" if told else "")
