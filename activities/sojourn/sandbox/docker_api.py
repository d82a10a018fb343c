"""The part of Docker's HTTP interface that a sandbox needs, on a Unix socket or over TCP."""

import asyncio
import json
import os
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

from pydantic import JsonValue

from sojourn.types import SandboxError

VERSION = "v1.41"
"""Of the interface: Docker 20.10 and newer speak it, and Podman does."""
DEFAULT_HOST = "unix:///var/run/docker.sock"

_PATIENCE = timedelta(seconds=60)
_LINE_BYTES = 64 * 1024
_BODY_BYTES = 16 * 1024**2

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class Response:
    """An answer without its body."""

    status: int
    headers: Mapping[str, str]


class DockerApi:
    """Talks to one daemon; each request has a connection of its own.

    Args:
        host: As in ``DOCKER_HOST``: ``unix:///path``, or ``tcp://host:port`` with ``DOCKER_TLS_VERIFY`` and
            ``DOCKER_CERT_PATH`` as usual.
    """

    def __init__(self, host: str | None = None) -> None:
        self.host = host or os.environ.get("DOCKER_HOST") or DEFAULT_HOST
        self._url = urlsplit(self.host)
        if self._url.scheme not in ("unix", "tcp", "http", "https"):
            raise SandboxError(f"no Docker at {self.host!r}; set DOCKER_HOST to unix:///path or tcp://host:port")

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        json_body: JsonValue = None,
        body: bytes | None = None,
        timeout: timedelta | None = _PATIENCE,
    ) -> JsonValue:
        """Ask and return the JSON of the answer; ``None`` if it is none.

        Args:
            timeout: Longest wait for all of it; ``None`` waits for as long as it takes.

        Raises:
            SandboxError: The daemon refuses, with the status as data, or cannot be reached.
        """
        content = body if json_body is None else json.dumps(json_body).encode()
        kind = "application/x-tar" if json_body is None else "application/json"
        try:
            async with asyncio.timeout(None if timeout is None else timeout.total_seconds()):
                async with self._connected() as (reader, writer):
                    _send(writer, method, _target(path, query), {"Connection": "close", "Content-Type": kind}, content)
                    response = await _head(reader)
                    answer = _parsed(await _body(reader, response))
        except TimeoutError as error:
            raise SandboxError(f"Docker at {self.host} does not answer; see whether the daemon is well") from error
        if response.status >= 400:
            raise _refusal(response, answer)
        return answer

    async def attach(self, container: str) -> Stream:
        """The streams of a container: raw bytes to its standard input, framed bytes from its two outputs."""
        query = {"stream": "1", "stdin": "1", "stdout": "1", "stderr": "1"}
        reader, writer = await self._connect()
        try:
            headers = {"Connection": "Upgrade", "Upgrade": "tcp", "Content-Type": "text/plain"}
            _send(writer, "POST", _target(f"/containers/{quote(container)}/attach", query), headers, b"")
            async with asyncio.timeout(_PATIENCE.total_seconds()):
                response = await _head(reader)
                # A daemon may leave out the switch of protocols and simply go on.
                if response.status not in (101, 200):
                    raise _refusal(response, _parsed(await _body(reader, response)))
        except BaseException:
            writer.transport.abort()
            raise
        return reader, writer

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[Stream]:
        reader, writer = await self._connect()
        try:
            yield reader, writer
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            raise SandboxError(f"Docker at {self.host} broke off: {error}") from error
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _connect(self) -> Stream:
        try:
            if self._url.scheme == "unix":
                return await asyncio.open_unix_connection(self._url.path, limit=_LINE_BYTES)
            context = _tls() if self._url.scheme == "https" or os.environ.get("DOCKER_TLS_VERIFY") else None
            port = self._url.port or (2375 if context is None else 2376)
            return await asyncio.open_connection(self._url.hostname, port, ssl=context, limit=_LINE_BYTES)
        except OSError as error:
            way = "start Docker, or set DOCKER_HOST"
            raise SandboxError(f"no Docker daemon at {self.host} ({error.strerror or error}); {way}") from error


def _tls() -> ssl.SSLContext:
    folder = Path(os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def _target(path: str, query: Mapping[str, str] | None) -> str:
    return f"/{VERSION}{path}" + (f"?{urlencode(query)}" if query else "")


def _send(
    writer: asyncio.StreamWriter, method: str, target: str, headers: Mapping[str, str], content: bytes | None
) -> None:
    lines = [f"{method} {target} HTTP/1.1", "Host: docker", f"Content-Length: {len(content or b'')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode() + (content or b""))


async def _head(reader: asyncio.StreamReader) -> Response:
    status = int((await _line(reader)).split()[1])
    headers = {}
    while line := await _line(reader):
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return Response(status, headers)


async def _line(reader: asyncio.StreamReader) -> str:
    return (await reader.readuntil(b"\r\n"))[:-2].decode("latin-1")


async def _body(reader: asyncio.StreamReader, response: Response) -> bytes:
    if response.status == 204:
        return b""
    if response.headers.get("transfer-encoding") == "chunked":
        return await _chunks(reader)
    length = response.headers.get("content-length")
    return await (reader.read() if length is None else reader.readexactly(min(int(length), _BODY_BYTES)))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    content = b""
    while size := int((await _line(reader)).partition(";")[0], 16):
        content += await reader.readexactly(size)
        await _line(reader)
        if len(content) > _BODY_BYTES:
            raise ValueError("the answer is too long")
    return content


def _parsed(content: bytes) -> JsonValue:
    try:
        parsed: JsonValue = json.loads(content)
    except ValueError:
        return None
    return parsed


def _refusal(response: Response, answer: JsonValue) -> SandboxError:
    message = answer.get("message") if isinstance(answer, dict) else None
    return SandboxError(f"Docker refuses: {message or 'status ' + str(response.status)}", status=response.status)
