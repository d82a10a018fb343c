"""The guest's main loop: takes calls from standard input, runs them side by side, answers on standard output."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import signal
import stat
from typing import Callable, Mapping

from .operation import Call, Operation, Operations
from .process import Children, guard_self, kill_below
from .wire import Arguments, LineSplitter, OpError, encode, pieces

_CROWDED = 256 * 1024
"""Bytes waiting for the worker from which on nobody is told of progress."""

_KILL_SECONDS = 5


class Answers:
    """The way to the worker."""

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport

    def ready(self) -> None:
        self._send({"ready": {"python": platform.python_version(), "pid": os.getpid()}})

    def progress(self, id: int, text: str) -> None:
        if self._transport.get_write_buffer_size() < _CROWDED:
            self._send({"id": id, "progress": text})

    def ok(self, id: int, result: Mapping[str, object]) -> None:
        data = result.get("data")
        if isinstance(data, str):
            result = {key: value for key, value in result.items() if key != "data"}
            for piece in pieces(data):
                self._send({"id": id, "more": piece})
        self._send({"id": id, "ok": result})

    def error(self, id: int, error: OpError) -> None:
        self._send({"id": id, "error": {"type": error.kind, "message": error.message}})

    def _send(self, message: Mapping[str, object]) -> None:
        self._transport.write(encode(message))


class Service:
    """Runs calls. Whatever goes wrong in one is its own answer."""

    def __init__(self, answers: Answers, operations: Operations) -> None:
        self._answers = answers
        self._operations: Mapping[str, Operation] = operations.by_name()
        self._running: dict[int, asyncio.Task[None]] = {}

    def take(self, line: bytes | None) -> None:
        """Begin what a line asks for. One that makes no sense is left out: there is no call that it could answer."""
        message = _message(line)
        id = message.get("id")
        if not isinstance(id, int) or id in self._running:
            return
        task = asyncio.ensure_future(self._answer(id, message))
        self._running[id] = task
        task.add_done_callback(lambda _: self._running.pop(id, None))

    async def _answer(self, id: int, message: Mapping[str, object]) -> None:
        try:
            self._answers.ok(id, await self._run(id, message))
        except OpError as error:
            self._answers.error(id, error)
        except asyncio.CancelledError:
            self._answers.error(id, OpError("killed", "the call was killed"))
        except Exception as error:
            self._answers.error(id, OpError("internal", f"{type(error).__name__}: {error}"))

    async def _run(self, id: int, message: Mapping[str, object]) -> Mapping[str, object]:
        name, arguments = message.get("op"), Arguments(message)
        if name == "kill":
            return await self._kill(arguments.whole("target"))
        operation = self._operations.get(name) if isinstance(name, str) else None
        if operation is None:
            raise OpError("invalid", f"there is no op {name!r}")
        return await operation(Call(arguments, lambda text: self._answers.progress(id, text)))

    async def _kill(self, target: int) -> Mapping[str, object]:
        task = self._running.get(target)
        if task is None:
            return {"killed": False}
        task.cancel()
        await asyncio.wait({task}, timeout=_KILL_SECONDS)
        return {"killed": True}


def _message(line: bytes | None) -> Mapping[str, object]:
    try:
        message = json.loads(line or b"")
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


class _Input(asyncio.Protocol):
    """What comes from the worker, until it is gone."""

    def __init__(self, take: Callable[[bytes | None], None], ended: Callable[[], None]) -> None:
        self._lines = LineSplitter()
        self._take = take
        self._ended = ended

    def data_received(self, data: bytes) -> None:
        for line in self._lines.feed(data):
            self._take(line)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended()


async def serve(receive: int, send: int) -> None:
    """Serve until the worker closes its end, or a signal asks for the end."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(send, "wb", buffering=0))
    answers = Answers(transport)
    service = Service(answers, Operations(Children(loop), dict(os.environ)))
    await loop.connect_read_pipe(lambda: _Input(service.take, over.set), os.fdopen(receive, "rb", buffering=0))
    answers.ready()
    await over.wait()


def main() -> None:
    """Run the guest. Its way to the worker is moved from where programs, and stray prints, would meet it."""
    if not (stat.S_ISFIFO(os.fstat(0).st_mode) or stat.S_ISSOCK(os.fstat(0).st_mode)):
        # Nothing else tells of its end, and the guest would live for ever.
        raise SystemExit("the guest's standard input is to be a pipe or a socket")
    receive, send, nothing = os.dup(0), os.dup(1), os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    guard_self()
    try:
        asyncio.run(serve(receive, send))
    finally:
        # Nothing of the agent's outlives the guest, and no thread that still reads a file holds up the end.
        kill_below(os.getpid())
        os._exit(0)
