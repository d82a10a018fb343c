"""A sandbox's view of the network: hosts that are servers of the test, and a forwarder as the guest has one."""

import asyncio
import contextlib
import ssl
import tempfile
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import h11
import httpx2
import pytest

from sojourn.sandbox.address import PrivateHosts
from sojourn.sandbox.egress import Authority, EgressLimits, EgressPolicy, EgressProxy, SecretVariable
from sojourn.sandbox.egress.policy import AllowedHost

PATIENCE_SECONDS = 45

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], "asyncio.Future[None]"]


@dataclass
class Seen:
    """A request as a host got it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


@dataclass
class Answer:
    headers: list[tuple[str, str]] = field(default_factory=list)
    pieces: Sequence[bytes] = (b"hello",)
    status: int = 200


class Host:
    """An HTTP server that keeps what it is asked, and answers as it is told."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.connections = 0
        self.answer: Callable[[Seen], Answer] = lambda seen: Answer()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        http = h11.Connection(h11.SERVER)
        with contextlib.suppress(OSError, h11.ProtocolError):
            while await self._one(http, reader, writer):
                http.start_next_cycle()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def _one(self, http: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request: Seen | None = None
        while not isinstance(event := http.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Request):
                headers = [(name.decode(), value.decode()) for name, value in event.headers]
                request = Seen(event.method.decode(), event.target.decode(), headers)
            elif isinstance(event, h11.Data):
                assert request is not None
                request.body += event.data
            else:
                return False
        assert request is not None
        self.seen.append(request)
        answer = self.answer(request)
        response = h11.Response(status_code=answer.status, headers=answer.headers)
        writer.write(http.send(response) or b"")
        for piece in answer.pieces:
            writer.write(http.send(h11.Data(data=piece)) or b"")
            await writer.drain()
        writer.write(http.send(h11.EndOfMessage()) or b"")
        await writer.drain()
        return http.our_state is h11.DONE and http.their_state is h11.DONE


class Network:
    """Hosts on this machine's loopback, and proxies that take them for the hosts of their names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.others = Authority(folder / "others")
        """Whose certificates the hosts have."""
        self.authority = Authority(folder / "ours")
        self.trust = ssl.create_default_context(cafile=str(self.others.bundle))
        self._stack = contextlib.AsyncExitStack()
        self._sockets = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="eg")))

    async def listen(self, handler: object, *, tls: str | None = None, address: str = "127.0.0.1") -> int:
        """Serve on a port of its own; with a certificate for a host if it is named."""
        context = self.others.context(tls) if tls else None
        server = await asyncio.start_server(handler, address, 0, ssl=context)  # type: ignore[arg-type]
        self._stack.callback(server.close)
        return int(server.sockets[0].getsockname()[1])

    async def host(self, *, tls: str | None = None, address: str = "127.0.0.1") -> Host:
        host = Host()
        host.port = await self.listen(host.serve, tls=tls, address=address)
        return host

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        return ["169.254.169.254"] if host.startswith("metadata.") else ["127.0.0.1"]

    async def open(
        self,
        policy: EgressPolicy | None = None,
        *,
        secrets: Sequence[SecretVariable] = (),
        limits: EgressLimits | None = None,
        private: str = "a.example,b.example,deep.a.example",
    ) -> "Way":
        path = self._sockets / f"{len(list(self._sockets.iterdir()))}.sock"
        proxy = await self._stack.enter_async_context(
            EgressProxy.open(
                path,
                policy or EgressPolicy(),
                secrets=secrets,
                private=PrivateHosts.parse(private),
                authority=self.authority,
                resolver=self.resolve,
                limits=limits or EgressLimits(),
                trust=self.trust,
            )
        )
        return Way(self, proxy, path)

    async def close(self) -> None:
        await self._stack.aclose()


class Way:
    """The way out of one sandbox."""

    def __init__(self, network: Network, proxy: EgressProxy, path: Path) -> None:
        self.network = network
        self.proxy = proxy
        self.path = path

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(str(self.path))

    async def tunnel(self, authority: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self.connect()
        writer.write(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
        assert head.startswith(b"HTTP/1.1 200 "), head
        return reader, writer

    async def ask(self, text: str) -> bytes:
        """Everything that comes back for what is sent."""
        reader, writer = await self.connect()
        writer.write(text.encode())
        said = await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return said

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[httpx2.AsyncClient, None]:
        """A client in the sandbox: it trusts what sandboxes trust, and goes through a forwarder as the guest has."""
        server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        bundle = ssl.create_default_context(cafile=str(self.network.authority.bundle))
        bundle.load_verify_locations(cafile=str(self.network.others.bundle))
        try:
            async with httpx2.AsyncClient(
                proxy=f"http://127.0.0.1:{port}", verify=bundle, trust_env=False, timeout=PATIENCE_SECONDS
            ) as client:
                yield client
        finally:
            server.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await self.connect()

        async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    target.write(data)
                    await target.drain()
                target.write_eof()

        await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))
        for each in (writer, far_writer):
            each.close()
            with contextlib.suppress(OSError):
                await each.wait_closed()


@pytest.fixture
async def network(tmp_path: Path) -> AsyncGenerator[Network, None]:
    network = Network(tmp_path)
    try:
        yield network
    finally:
        await network.close()


def only(*patterns: str, port: int) -> EgressPolicy:
    return EgressPolicy(tuple(AllowedHost(each, frozenset({port})) for each in patterns))
