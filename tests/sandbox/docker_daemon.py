"""A Docker daemon as a worker sees it: HTTP on a Unix socket. Its containers are processes of this machine."""

import asyncio
import io
import json
import os
import secrets
import sys
import tarfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

IMAGE = "sandbox:1"


@dataclass
class Container:
    """What was asked for, and its process once it runs."""

    id: str
    config: dict[str, Any]
    folder: Path
    attached: asyncio.StreamReader | None = None
    client: asyncio.StreamWriter | None = None
    process: asyncio.subprocess.Process | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class DockerDaemon:
    """Keeps containers, and what a test wants to go wrong."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "docker.sock"
        self.containers: dict[str, Container] = {}
        self.requests: list[tuple[str, str]] = []
        self.out_of_memory = False
        self.broken_start = False
        self.switches = True
        self.command = [sys.executable, "-I", "-B"]
        self._connections: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator["DockerDaemon"]:
        server = await asyncio.start_unix_server(self._connected, str(self.socket), limit=1 << 20)
        try:
            yield self
        finally:
            server.close()
            await self.stop()

    async def stop(self) -> None:
        """Die with everything."""
        for container in list(self.containers.values()):
            await self._remove(container)
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._connections.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, target, headers = await _request(reader)
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        url = urlsplit(target)
        path = url.path.removeprefix("/v1.41")
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.requests.append((method, path))
        if path.endswith("/attach"):
            await self._attach(self._container(path), headers, reader, writer)
            return
        try:
            status, answer = await self._answer(method, path, query, body)
        except Refused as error:
            status, answer = error.status, {"message": str(error)}
        content = json.dumps(answer).encode() if answer is not None else b""
        # In two pieces, as the real one does for what it has not measured.
        head = f"HTTP/1.1 {status} whatever\r\nContent-Type: application/json\r\n"
        if content:
            half = len(content) // 2
            pieces = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in (content[:half], content[half:]) if each)
            writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + pieces + b"0\r\n\r\n")
        else:
            writer.write(f"{head}Content-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async def _answer(self, method: str, path: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        match method, path.strip("/").split("/"):
            case "GET", ["_ping"]:
                return 200, "OK"
            case "GET", ["images", name, "json"]:
                if name.replace("%3A", ":") != IMAGE:
                    raise Refused(404, f"No such image: {name}")
                return 200, {}
            case "GET", ["containers", "json"]:
                return 200, [{"Id": each.id, "Labels": each.config["Labels"]} for each in self.containers.values()]
            case "POST", ["containers", "create"]:
                return 201, {"Id": self._create(json.loads(body)), "Warnings": []}
            case "PUT", ["containers", _, "archive"]:
                self._unpack(self._container(path), query["path"], body)
                return 200, None
            case "POST", ["containers", _, "start"]:
                await self._start(self._container(path))
                return 204, None
            case "POST", ["containers", _, "wait"]:
                process = self._container(path).process
                assert process is not None
                status = await process.wait()
                return 200, {"StatusCode": status if status >= 0 else 128 - status}
            case "POST", ["containers", _, "kill"]:
                _kill(self._container(path))
                return 204, None
            case "GET", ["containers", _, "json"]:
                self._container(path)
                return 200, {"State": {"OOMKilled": self.out_of_memory}}
            case "DELETE", ["containers", _]:
                await self._remove(self._container(path))
                return 204, None
        raise Refused(400, f"unknown: {method} {path}")

    def _container(self, path: str) -> Container:
        try:
            return self.containers[path.split("/")[2]]
        except KeyError:
            raise Refused(404, "No such container") from None

    def _create(self, config: dict[str, Any]) -> str:
        id = secrets.token_hex(8)
        folder = self.folder / id
        folder.mkdir()
        self.containers[id] = Container(id, config, folder)
        return id

    def _unpack(self, container: Container, path: str, body: bytes) -> None:
        volumes = [each["Target"] for each in container.config["HostConfig"]["Mounts"] if each["Type"] == "volume"]
        if container.config["HostConfig"]["ReadonlyRootfs"] and path not in volumes:
            raise Refused(403, "container rootfs is marked read-only")
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            # By hand, because Python 3.11.3 and older have no filters.
            for member in archive.getmembers():
                place = container.folder / path.lstrip("/") / member.name
                if member.isdir():
                    place.mkdir(parents=True, exist_ok=True)
                elif (content := archive.extractfile(member)) is not None:
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_bytes(content.read())

    async def _attach(
        self, container: Container, headers: dict[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        assert headers["upgrade"] == "tcp"
        status = "101 UPGRADED" if self.switches else "200 OK"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n".encode())
        container.attached, container.client = reader, writer
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    async def _start(self, container: Container) -> None:
        if self.broken_start:
            raise Refused(500, "no such runtime")
        main = container.folder / container.config["Entrypoint"][-1].lstrip("/")
        pipe = asyncio.subprocess.PIPE
        container.process = process = await asyncio.create_subprocess_exec(
            *self.command,
            str(main),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env=dict(each.split("=", 1) for each in container.config["Env"]) | {"PATH": os.environ["PATH"]},
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        outputs = [
            self._frames(container, number, from_) for number, from_ in ((1, process.stdout), (2, process.stderr))
        ]
        container.tasks = [
            asyncio.create_task(each) for each in (self._input(container), self._output(container, outputs))
        ]

    async def _input(self, container: Container) -> None:
        assert container.attached is not None
        assert container.process is not None
        assert container.process.stdin is not None
        with suppress(ConnectionError):
            while data := await container.attached.read(65536):
                container.process.stdin.write(data)
                await container.process.stdin.drain()
        container.process.stdin.close()

    async def _output(self, container: Container, outputs: list[Any]) -> None:
        assert container.client is not None
        await asyncio.gather(*outputs)
        container.client.close()

    async def _frames(self, container: Container, number: int, from_: asyncio.StreamReader) -> None:
        assert container.client is not None
        with suppress(ConnectionError):
            while data := await from_.read(50_000):
                container.client.write(bytes((number, 0, 0, 0)) + len(data).to_bytes(4, "big") + data)
                await container.client.drain()

    async def _remove(self, container: Container) -> None:
        self.containers.pop(container.id, None)
        with suppress(Refused):
            _kill(container)
        if container.process is not None:
            await container.process.wait()
        for task in container.tasks:
            task.cancel()
        await asyncio.gather(*container.tasks, return_exceptions=True)
        if container.client is not None:
            container.client.transport.abort()


async def _request(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str]]:
    method, target, _ = (await reader.readuntil(b"\r\n")).decode().split(" ", 2)
    headers = {}
    while line := (await reader.readuntil(b"\r\n")).decode().strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return method, target, headers


def _kill(container: Container) -> None:
    if container.process is None or container.process.returncode is not None:
        raise Refused(409, "is not running")
    container.process.kill()
