"""The worker's side of the guest: calls what a sandbox can do.

Whatever comes from the guest may come from the agent's own programs instead. So its lines are bounded, an answer
nobody waits for is left out, and a guest that talks nonsense is ended together with its sandbox.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, JsonValue, StrictInt, StringConstraints, ValidationError

from sojourn.sandbox.guest.wire import LINE_LIMIT, LineSplitter, OpError, encode
from sojourn.sandbox.protocol import PROXY_PORT, Sandbox, SandboxProcess, SandboxSpec
from sojourn.types.error import SandboxError

logger = logging.getLogger("sojourn.sandbox")

START_SECONDS = 60
"""Longest wait for a guest's first line, on a machine that is very busy."""

MORE_LIMIT = 32 * 1024 * 1024
"""Characters that an answer may have beyond its own line."""

_END_SECONDS = 5
_CHUNK = 256 * 1024


class GuestError(OpError):
    """The guest's answer to a call is an error.

    Attributes:
        kind: ``invalid``, ``failed``, ``killed`` or ``internal``.
        message: What is wrong, for the model.
    """


class _Failure(BaseModel):
    model_config = ConfigDict(extra="ignore")

    type: Annotated[str, StringConstraints(max_length=100)]
    message: str


class _Ready(BaseModel):
    model_config = ConfigDict(extra="ignore")

    python: Annotated[str, StringConstraints(max_length=100)]
    pid: StrictInt


class _Line(BaseModel):
    """One line from the guest; exactly one of the optional fields has a meaning."""

    model_config = ConfigDict(extra="ignore")

    id: StrictInt | None = None
    ready: _Ready | None = None
    progress: str | None = None
    more: str | None = None
    ok: dict[str, JsonValue] | None = None
    error: _Failure | None = None


class _Call:
    """A call that is waiting for its answer."""

    def __init__(self, progress: Callable[[str], None] | None) -> None:
        self.answer: asyncio.Future[dict[str, JsonValue]] = asyncio.get_running_loop().create_future()
        self.progress = progress
        self.more: list[str] = []
        self.more_size = 0

    def leave(self) -> None:
        """Nobody waits any more; an error that came meanwhile is nobody's."""
        if not self.answer.cancel() and not self.answer.cancelled():
            self.answer.exception()


class Guest:
    """A running sandbox, through its guest. Make it with `start`."""

    def __init__(self, process: SandboxProcess) -> None:
        self._process = process
        self._ended: str | None = None
        self._calls: dict[int, _Call] = {}
        self._last_id = 0
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, sandbox: Sandbox, spec: SandboxSpec) -> Self:
        """Start a sandbox, and open its way out if it has one.

        Raises:
            SandboxError: It could not be started, or its guest does not answer.
        """
        guest = cls(await sandbox.start(spec))
        try:
            async with asyncio.timeout(START_SECONDS):
                await guest._ready
                if spec.proxy is not None:
                    await guest.call("forward", {"port": PROXY_PORT})
        except TimeoutError:
            await guest.close()
            raise SandboxError(f"the guest did not answer within {START_SECONDS} s") from None
        except GuestError as error:
            await guest.close()
            raise SandboxError(f"the sandbox has no way out: {error}") from None
        except BaseException:
            await guest.close()
            raise
        return guest

    @property
    def ended(self) -> str | None:
        """Why the sandbox is gone, in words for people and the model; ``None`` while it lives."""
        return self._ended

    async def call(
        self, op: str, arguments: Mapping[str, JsonValue], *, progress: Callable[[str], None] | None = None
    ) -> dict[str, JsonValue]:
        """Let the guest do something. Calls run side by side, except that shell commands wait for one another.

        Cancelling it kills what the call runs, at once.

        Args:
            op: See `sojourn.sandbox.guest.operation`.
            progress: Gets the end of the output now and then while a command runs.

        Raises:
            GuestError: The guest's answer is an error.
            SandboxError: The sandbox is gone.
        """
        self._last_id += 1
        id, call = self._last_id, _Call(progress)
        line = encode({**arguments, "id": id, "op": op})
        if len(line) > LINE_LIMIT:
            raise GuestError("invalid", f"{len(line)} bytes are more than one call can carry; do it in parts")
        self._check()
        self._calls[id] = call
        try:
            self._process.stdin.write(line)
            # A guest that is gone is noticed by its silence, with the reason.
            with suppress(ConnectionError):
                await self._process.stdin.drain()
            return await call.answer
        except asyncio.CancelledError:
            self._kill(id)
            raise
        finally:
            del self._calls[id]
            call.leave()

    async def close(self) -> None:
        """End the sandbox with everything in it. Safe to repeat."""
        await self._end("it was closed")
        self._reader.cancel()
        with suppress(asyncio.CancelledError):
            await self._reader

    def _kill(self, id: int) -> None:
        if self._ended is None:
            self._last_id += 1
            # Not waited for, nor is its answer: whoever cancels must not be held up.
            self._process.stdin.write(encode({"id": self._last_id, "op": "kill", "target": id}))

    def _check(self) -> None:
        if self._ended is not None:
            raise SandboxError(f"the sandbox is gone: {self._ended}")

    async def _read(self) -> None:
        splitter = LineSplitter()
        try:
            while data := await self._process.stdout.read(_CHUNK):
                for line in splitter.feed(data):
                    self._take(line)
        except Exception as error:
            # Nobody else would notice: the calls would wait for ever.
            logger.warning("a guest talks nonsense: %s", error)
            await self._end("its guest broke off")
        else:
            await self._end(None)

    def _take(self, raw: bytes | None) -> None:
        """Hand on one line.

        Raises:
            ValueError: It is nothing that a guest says.
        """
        if raw is None:
            raise ValueError(f"a line of more than {LINE_LIMIT} bytes")
        line = _line(raw)
        if line.ready is not None and not self._ready.done():
            self._ready.set_result(None)
        call = None if line.id is None else self._calls.get(line.id)
        if call is None or call.answer.done():
            return
        if line.progress is not None and call.progress is not None:
            call.progress(line.progress)
        elif line.more is not None:
            call.more_size += len(line.more)
            if call.more_size > MORE_LIMIT:
                raise ValueError(f"an answer of more than {MORE_LIMIT} characters")
            call.more.append(line.more)
        elif line.ok is not None:
            call.answer.set_result({**line.ok, "data": "".join(call.more)} if call.more else line.ok)
        elif line.error is not None:
            call.answer.set_exception(GuestError(line.error.type, line.error.message))

    async def _end(self, why: str | None) -> None:
        """End the sandbox, and with it all calls. The first reason counts; ``None`` asks the sandbox for it."""
        if self._ended is None:
            self._note(why or await self._reason())
        for call in self._calls.values():
            if not call.answer.done():
                call.answer.set_exception(SandboxError(f"the sandbox is gone: {self._ended}"))
        if not self._ready.done():
            self._ready.set_exception(SandboxError(f"the sandbox ended at its start: {self._ended}"))
            # Whoever starts it asks; if that was given up, nobody does.
            self._ready.exception()
        await self._process.kill()

    def _note(self, why: str) -> None:
        if self._ended is None:
            self._ended = why

    async def _reason(self) -> str:
        try:
            return await asyncio.wait_for(self._process.wait(), _END_SECONDS)
        except TimeoutError:
            return "its guest fell silent"


def _line(raw: bytes) -> _Line:
    try:
        return _Line.model_validate_json(raw)
    except ValidationError as error:
        # Without what was said: it is the agent's, and does not belong into a log.
        raise ValueError(
            f"a line with {error.error_count()} faults: {error.errors(include_input=False)[0]['msg']}"
        ) from None
