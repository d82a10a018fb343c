"""A model provider on a loopback port, for tests: four protocols, one script, failures on demand."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from types import TracebackType
from typing import Self

from sojourn.testing.document import document
from sojourn.testing.protocol import JsonObject, Protocol, Reply, error_body, frames
from sojourn.types.model import ModelRef, ModelSettings, Provider


@dataclass(frozen=True, slots=True)
class Fault:
    """An error response."""

    status: int
    message: str = "scripted failure"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: JsonObject | None = None
    """The whole body; ``None`` words ``message`` as the provider would."""


@dataclass(frozen=True, slots=True)
class Broken:
    """An answer whose stream does not run through."""

    reply: Reply
    after: int
    """Frames of the stream that are sent before."""
    how: "asyncio.Event | str"
    """An event: wait for it, then go on. ``"cut"``: drop the connection. ``"end"``: end the response as if complete.
    Any other text is sent as it is, in place of the rest."""


@dataclass(frozen=True, slots=True)
class Paced:
    """An answer with a pause after each frame."""

    reply: Reply
    pause: timedelta


Scripted = Reply | Fault | Broken | Paced


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came."""

    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: JsonObject
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the client closes the connection, whether or not it has its answer."""

    @property
    def protocol(self) -> Protocol:
        """The protocol, from the path."""
        if self.path.endswith("/chat/completions"):
            return "chat"
        if self.path.endswith("/responses"):
            return "responses"
        return "anthropic" if self.path.endswith("/v1/messages") else "google"

    @property
    def streams(self) -> bool:
        """Whether the client asks for an event stream."""
        return bool(self.body.get("stream")) or ":streamGenerateContent" in self.path


class FakeProvider:
    """An HTTP server that answers model requests from a script, in the order of the script.

    Use it as an async context manager; it runs on the current event loop. A request past the end of the script gets
    a 400 that says so. Every answer closes its connection.
    """

    def __init__(self, *script: Scripted, patient: bool = False) -> None:
        """Make a provider.

        Args:
            script: What it answers.
            patient: Whether a request that is made again after a whole `Reply` gets the same one. A worker that is
                thought dead, on a machine that is too busy, makes the next repeat its call.
        """
        self.requests: list[Received] = []
        self._patient = patient
        self._latest: tuple[JsonObject, Scripted] | None = None
        self._script = list(script)
        self._arrived = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def add(self, *script: Scripted) -> None:
        """Append to the script."""
        self._script.extend(script)

    @property
    def url(self) -> str:
        """The root, ``http://127.0.0.1:<port>``."""
        if self._server is None:
            raise RuntimeError("the fake provider is not running; enter it with `async with`")
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def ref(
        self,
        provider: Provider,
        *,
        model: str = "fake-model",
        api_key: str | None = None,
        settings: ModelSettings | None = None,
    ) -> ModelRef:
        """A reference that leads to this server, through the given provider's SDK and protocol."""
        base_url = self.url if provider in ("anthropic", "google") else f"{self.url}/v1"
        return ModelRef(provider=provider, model=model, base_url=base_url, api_key=api_key, settings=settings)

    async def received(self, count: int = 1, *, timeout: timedelta = timedelta(seconds=10)) -> Received:
        """Wait until ``count`` requests came in all, and return the last of these.

        Raises:
            TimeoutError: They did not come in time.
        """
        async with asyncio.timeout(timeout.total_seconds()):
            while len(self.requests) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.requests[count - 1]

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # A client that hangs up ends the exchange; that is no error of the server.
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                request = await _read(reader)
                self.requests.append(request)
                self._arrived.set()
                await self._answer(reader, writer, request)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Received) -> None:
        answering = asyncio.create_task(_respond(writer, request, self._next(request)))
        hanging_up = asyncio.create_task(_watch(reader, request))
        try:
            await asyncio.wait({answering, hanging_up}, return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                answering.result()
        finally:
            for task in (answering, hanging_up):
                task.cancel()
            await asyncio.gather(answering, hanging_up, return_exceptions=True)

    def _next(self, request: Received) -> Scripted:
        if self._patient and self._latest is not None:
            body, answer = self._latest
            if body == request.body and isinstance(answer, Reply):
                return answer
        none = Fault(400, "the script of the fake provider has no more answers")
        self._latest = request.body, self._script.pop(0) if self._script else none
        return self._latest[1]


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(path=first.split(" ")[1].partition("?")[0], headers=headers, body=json.loads(body or b"{}"))


async def _watch(reader: asyncio.StreamReader, request: Received) -> None:
    with suppress(ConnectionError):
        await reader.read(1)
    request.hung_up.set()


async def _respond(writer: asyncio.StreamWriter, request: Received, scripted: Scripted) -> None:
    match scripted:
        case Fault():
            body = scripted.body or error_body(request.protocol, scripted.status, scripted.message)
            await _whole(writer, body, status=scripted.status, headers=scripted.headers)
        case Reply() if not request.streams:
            await _whole(writer, document(request.protocol, scripted))
        case Reply():
            await _stream(writer, _each(frames(request.protocol, scripted)))
        case Paced():
            await _stream(writer, _slowly(frames(request.protocol, scripted.reply), scripted.pause))
        case Broken():
            await _break(writer, list(frames(request.protocol, scripted.reply)), scripted)


async def _break(writer: asyncio.StreamWriter, whole: list[bytes], broken: Broken) -> None:
    sent, rest = whole[: broken.after], whole[broken.after :]
    await _send(writer, HTTPStatus.OK, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
    await _chunks(writer, _each(sent))
    match broken.how:
        case asyncio.Event() as released:
            await released.wait()
            await _chunks(writer, _each(rest))
        case "cut":
            writer.transport.abort()
            return
        case "end":
            pass
        case text:
            await _chunks(writer, _each([text.encode()]))
    await _finish(writer)


async def _whole(
    writer: asyncio.StreamWriter, body: JsonObject, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> None:
    data = json.dumps(body).encode()
    content = {"content-type": "application/json", "content-length": str(len(data))}
    await _send(writer, status, {**content, **(headers or {})})
    writer.write(data)
    await writer.drain()


async def _stream(writer: asyncio.StreamWriter, parts: AsyncIterator[bytes]) -> None:
    await _send(writer, HTTPStatus.OK, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
    await _chunks(writer, parts)
    await _finish(writer)


async def _send(writer: asyncio.StreamWriter, status: int, headers: Mapping[str, str]) -> None:
    lines = [f"HTTP/1.1 {status} Scripted", "connection: close", *(f"{name}: {text}" for name, text in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
    await writer.drain()


async def _chunks(writer: asyncio.StreamWriter, parts: AsyncIterator[bytes]) -> None:
    async for part in parts:
        writer.write(b"%x\r\n%b\r\n" % (len(part), part))
        await writer.drain()


async def _finish(writer: asyncio.StreamWriter) -> None:
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _each(parts: Iterable[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def _slowly(parts: Iterable[bytes], pause: timedelta) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
        await asyncio.sleep(pause.total_seconds())
