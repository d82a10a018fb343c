import asyncio
import contextlib
import logging
import os
import stat
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from tests.sandbox.egress.conftest import PATIENCE_SECONDS, Answer, Network, only

from sojourn.sandbox.address import PrivateHosts
from sojourn.sandbox.egress import EgressLimits, EgressPolicy, EgressProxy, SecretVariable
from sojourn.types import SandboxError


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write(b"<end>")
    writer.close()


async def ended(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def test_tunnel_carries_bytes_both_ways_and_halves_end_one_by_one(network: Network) -> None:
    port = await network.listen(echo)
    way = await network.open(only("a.example", port=port))
    data = os.urandom(3_000_000)
    reader, writer = await way.tunnel(f"A.example.:{port}")

    async def send() -> None:
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    said, _ = await asyncio.wait_for(asyncio.gather(reader.read(), send()), PATIENCE_SECONDS)
    await ended(writer)

    assert said == data + b"<end>"


@pytest.mark.parametrize("target", ["b.example:443", "sub.a.example:443", "8.8.8.8:443", "[2606:4700::1111]:443"])
async def test_host_that_is_not_allowed_is_refused_with_the_setting(network: Network, target: str) -> None:
    way = await network.open(only("a.example", port=443))

    said = (await way.ask(f"CONNECT {target} HTTP/1.1\r\nHost: x\r\n\r\n")).decode()

    host = target.rpartition(":")[0].strip("[]")
    line = f"{host} is not among networking.allowed_hosts of the environment"
    assert said.startswith(f"HTTP/1.1 403 {line}\r\n")
    assert said.endswith(f"\r\n\r\n{line}\n")
    assert way.proxy.count.refused == 1


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1:80",
        "127.1:80",
        "2130706433:80",
        "[::1]:80",
        "[::ffff:127.0.0.1]:80",
        "localhost:80",
        "169.254.169.254:80",
        "metadata.example:80",
        "unknown.example:80",
    ],
)
async def test_private_address_is_refused_even_where_every_host_is_allowed(network: Network, target: str) -> None:
    way = await network.open(EgressPolicy())

    said = (await way.ask(f"CONNECT {target} HTTP/1.1\r\nHost: x\r\n\r\n")).decode()
    plain = (await way.ask(f"GET http://{target}/ HTTP/1.1\r\nHost: x\r\n\r\n")).decode()

    assert said.split()[1] in ("403", "400")
    assert plain.split()[1] in ("403", "400")
    assert "SOJOURN_PRIVATE_HOSTS" in said
    assert way.proxy.count.allowed == 0


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", "400"),
        ("GET https://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", "400"),
        ("GET ftp://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", "400"),
        ("CONNECT a.example HTTP/1.1\r\nHost: a.example\r\n\r\n", "400"),
        ("CONNECT a.example:x HTTP/1.1\r\nHost: a.example\r\n\r\n", "400"),
        ("CONNECT /a:80 HTTP/1.1\r\nHost: a.example\r\n\r\n", "400"),
        ("nonsense\r\n\r\n", "400"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400"),
        ("GET http://a.example/ HTTP/1.1\r\nHost: x\r\nX: " + "y" * 100_000, "431"),
    ],
    ids=range(9),
)
async def test_what_is_no_request_for_a_proxy_is_refused(network: Network, text: str, status: str) -> None:
    way = await network.open(EgressPolicy())

    assert (await way.ask(text)).split()[1].decode() == status


async def test_host_that_takes_no_connection_is_a_bad_gateway(network: Network) -> None:
    port = await network.listen(echo)
    way = await network.open(EgressPolicy(), private="a.example")
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()

    said = await way.ask(f"CONNECT a.example:{port} HTTP/1.1\r\nHost: x\r\n\r\n")

    assert said.startswith(f"HTTP/1.1 502 a.example:{port} cannot be reached\r\n".encode())


async def test_plain_requests_are_carried_on_one_connection_without_what_was_for_the_proxy(network: Network) -> None:
    host, other = await network.host(), await network.host()
    host.answer = lambda seen: Answer(
        [("Content-Length", "5"), ("Connection", "keep-alive, x-hop"), ("X-Hop", "1"), ("X-Kept", "1")]
    )
    way = await network.open(EgressPolicy())
    async with way.client() as client:
        headers = {"Proxy-Authorization": "Basic eDp5", "Connection": "x-gone", "X-Gone": "1", "X-Stays": "1"}
        first = await client.get(f"http://a.example:{host.port}/x/y?q=1#f", headers=headers)
        second = await client.post(f"http://a.example:{host.port}/z", content=b"body")
        third = await client.put(f"http://b.example:{other.port}/", content=b"".join([b"x"] * 70_000))
        head = await client.head(f"http://a.example:{host.port}/")

    assert (first.text, second.text, third.text, head.text) == ("hello", "hello", "hello", "")
    assert "x-hop" not in first.headers
    assert first.headers["x-kept"] == "1"
    seen = host.seen[0]
    assert (seen.method, seen.target, seen.header("host")) == ("GET", "/x/y?q=1", f"a.example:{host.port}")
    assert seen.header("x-stays") == "1"
    assert {"proxy-authorization", "proxy-connection", "x-gone", "connection"}.isdisjoint(dict(seen.headers))
    assert host.seen[1].body == b"body"
    assert len(other.seen[0].body) == 70_000


async def test_bodies_in_chunks_and_without_a_length_are_carried(network: Network) -> None:
    host = await network.host()
    host.answer = lambda seen: Answer([("Connection", "close")], [seen.body[:3], seen.body[3:]])
    way = await network.open(EgressPolicy())

    said = await way.ask(
        f"POST http://a.example:{host.port}/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        "Connection: close\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
    )
    old = await way.ask(f"POST http://a.example:{host.port}/ HTTP/1.0\r\nContent-Length: 4\r\n\r\nwxyz")

    assert b"abc" in said
    assert b"defg" in said
    assert host.seen[0].body == b"abcdefg"
    assert old.endswith(b"\r\n\r\nwxyz")


async def test_client_that_waits_to_be_told_to_go_on_is_told(network: Network) -> None:
    host = await network.host()
    way = await network.open(EgressPolicy())
    reader, writer = await way.connect()
    head = "Content-Length: 4\r\nExpect: 100-continue\r\nConnection: close"
    writer.write(f"POST http://a.example:{host.port}/ HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode())
    first = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
    writer.write(b"body")
    rest = await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)
    await ended(writer)

    assert first.startswith(b"HTTP/1.1 100 ")
    assert rest.startswith(b"HTTP/1.1 200 ")
    assert host.seen[0].body == b"body"


async def test_connection_is_switched_to_another_protocol(network: Network) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"upgrade: websocket" in head.lower()
        writer.write(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst")
        await echo(reader, writer)

    port = await network.listen(serve)
    way = await network.open(EgressPolicy())
    reader, writer = await way.connect()
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket"
    writer.write(f"GET http://a.example:{port}/ HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n\r\n".encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
    writer.write(b"second")
    said = await asyncio.wait_for(reader.readexactly(11), PATIENCE_SECONDS)
    await ended(writer)

    assert head.startswith(b"HTTP/1.1 101 ")
    assert said == b"firstsecond"


async def test_client_that_goes_away_ends_the_upstream(network: Network) -> None:
    gone = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while await reader.read(65536):
                pass
            # The client's half is over; that the other half is over too shows only in writing.
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)
        gone.set()
        await ended(writer)

    port = await network.listen(silent)
    way = await network.open(EgressPolicy())
    _, writer = await way.tunnel(f"a.example:{port}")
    writer.write(b"hello")
    await ended(writer)

    await asyncio.wait_for(gone.wait(), PATIENCE_SECONDS)


async def test_client_that_goes_away_before_the_answer_ends_the_request(network: Network) -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        with contextlib.suppress(OSError):
            await reader.read()
        gone.set()
        await ended(writer)

    port = await network.listen(silent)
    way = await network.open(EgressPolicy())
    _, writer = await way.connect()
    writer.write(f"GET http://a.example:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await asyncio.wait_for(asked.wait(), PATIENCE_SECONDS)
    await ended(writer)

    await asyncio.wait_for(gone.wait(), PATIENCE_SECONDS)


async def test_upstream_waits_for_a_client_that_reads_slowly(network: Network) -> None:
    """What lies between them is bounded: the upstream cannot send all of it while nobody reads."""
    total, sent = 50_000_000, 0
    stuck = asyncio.Event()

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        with contextlib.suppress(OSError):
            while sent < total:
                writer.write(bytes(100_000))
                sent += 100_000
                try:
                    await asyncio.wait_for(writer.drain(), 0.5)
                except TimeoutError:
                    stuck.set()
                    await writer.drain()
        await ended(writer)

    port = await network.listen(pour)
    way = await network.open(EgressPolicy())
    reader, writer = await way.tunnel(f"a.example:{port}")
    await asyncio.wait_for(stuck.wait(), PATIENCE_SECONDS)
    before = sent
    size = 0
    while data := await asyncio.wait_for(reader.read(1_000_000), PATIENCE_SECONDS):
        size += len(data)
    await ended(writer)

    assert before < total
    assert size == total


async def test_silent_tunnel_ends(network: Network) -> None:
    port = await network.listen(echo)
    way = await network.open(EgressPolicy(), limits=EgressLimits(idle=timedelta(milliseconds=50)))
    reader, writer = await way.tunnel(f"a.example:{port}")

    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), PATIENCE_SECONDS) == b""
    await ended(writer)


async def test_client_that_never_says_what_it_wants_is_let_go(network: Network) -> None:
    way = await network.open(EgressPolicy(), limits=EgressLimits(head=timedelta(milliseconds=50)))
    reader, writer = await way.connect()
    writer.write(b"GET http://a.exam")

    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), PATIENCE_SECONDS) == b""
    await ended(writer)


async def test_many_connections_at_a_time_and_one_too_many(network: Network) -> None:
    port = await network.listen(echo)
    way = await network.open(EgressPolicy(), limits=EgressLimits(connections=50))
    tunnels = [await way.tunnel(f"a.example:{port}") for _ in range(50)]
    reader, writer = await way.connect()
    writer.write(b"CONNECT a.example:1 HTTP/1.1\r\n\r\n")
    with contextlib.suppress(OSError):
        assert await asyncio.wait_for(reader.read(), PATIENCE_SECONDS) == b""
    await ended(writer)
    for number, (_, writer) in enumerate(tunnels):
        writer.write(f"{number:03}".encode())
    said = [await asyncio.wait_for(reader.readexactly(3), PATIENCE_SECONDS) for reader, _ in tunnels]
    for _, writer in tunnels:
        await ended(writer)

    assert said == [f"{number:03}".encode() for number in range(50)]


async def test_end_of_the_proxy_ends_its_connections_and_removes_the_socket(network: Network) -> None:
    port = await network.listen(echo)
    with tempfile.TemporaryDirectory(prefix="eg") as folder:
        path = Path(folder) / "s"
        path.write_text("left by an earlier run")
        private = PrivateHosts.parse("a.example")
        async with EgressProxy.open(path, EgressPolicy(), private=private, resolver=network.resolve):
            mode = stat.S_IMODE(path.stat().st_mode)
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(f"CONNECT a.example:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), PATIENCE_SECONDS) == b""
        await ended(writer)

        assert mode == 0o600
        assert not path.exists()


async def test_path_that_is_too_long_for_a_socket_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="shorter folder"):
        async with EgressProxy.open(tmp_path / ("x" * 120), EgressPolicy()):
            pass


async def test_log_names_hosts_and_bytes_and_nothing_else(network: Network, caplog: pytest.LogCaptureFixture) -> None:
    host = await network.host()
    way = await network.open(only("a.example", port=host.port))
    with caplog.at_level(logging.DEBUG, "sojourn.egress"):
        async with way.client() as client:
            await client.get(f"http://user:pass@a.example:{host.port}/path?token=hush")
            await client.get(f"http://b.example:{host.port}/path?token=hush")

    assert f"egress a.example:{host.port} allowed, " in caplog.text
    assert f"egress b.example:{host.port} refused: b.example is not among networking.allowed_hosts" in caplog.text
    assert not {"hush", "pass", "path"} & set(caplog.text.replace("?", " ").replace("=", " ").split())
    assert way.proxy.count.allowed == 1
    assert way.proxy.count.received_bytes > 0


def test_variables_of_the_sandbox_name_proxy_certificates_and_placeholders(network: Network) -> None:
    secret = SecretVariable("TOKEN", "placeholder_0123456789", "real value")
    proxy = EgressProxy(EgressPolicy(), secrets=[secret], authority=network.authority)

    variables = proxy.environment()

    assert variables["HTTPS_PROXY"] == variables["http_proxy"] == "http://127.0.0.1:3128"
    assert variables["SSL_CERT_FILE"] == variables["PIP_CERT"] == "/run/sojourn/ca-bundle.pem"
    assert variables["TOKEN"] == "placeholder_0123456789"
    assert "real value" not in str(variables) + repr(secret)
    assert [(mount.source, str(mount.target)) for mount in proxy.ca_mounts] == [
        (network.authority.bundle, "/run/sojourn/ca-bundle.pem")
    ]
    assert proxy.environment(ca_file=network.authority.bundle)["SSL_CERT_FILE"] == str(network.authority.bundle)
    assert "SSL_CERT_FILE" not in EgressProxy(EgressPolicy()).environment()


def test_secrets_without_an_authority_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="authority"):
        EgressProxy(EgressPolicy(), secrets=[SecretVariable("T", "placeholder_0123456789", "x")])
