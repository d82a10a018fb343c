import asyncio
import contextlib
import gzip
import json
import logging
import ssl
import subprocess
import sys

import pytest
from tests.sandbox.egress.conftest import PATIENCE_SECONDS, Answer, Network

from sojourn.sandbox.egress import EgressPolicy, SecretVariable

PLACE = "sojourn_0123456789abcdef"
VALUE = "the-real-value"


def secret(*hosts: str, **changes: bool) -> SecretVariable:
    return SecretVariable("TOKEN", PLACE, VALUE, allowed_hosts=hosts or ("a.example",), **changes)


async def test_allowed_host_gets_the_value_and_the_sandbox_its_placeholder_back(network: Network) -> None:
    host = await network.host(tls="a.example")
    host.answer = lambda seen: Answer(
        [("Content-Type", "application/json"), ("X-Echo", seen.header("authorization") or "")],
        [seen.body[:20], seen.body[20:]],
    )
    way = await network.open(secrets=[secret()])
    async with way.client() as client:
        headers = {"Authorization": f"Bearer {PLACE}", "Accept-Encoding": "gzip"}
        sent = json.dumps({"token": PLACE, "rest": "x" * 50})
        answer = await client.post(f"https://a.example:{host.port}/x?q=1", headers=headers, content=sent)
        again = await client.get(f"https://a.example:{host.port}/", auth=("user", PLACE))

    seen = host.seen[0]
    assert seen.header("authorization") == f"Bearer {VALUE}"
    assert json.loads(seen.body) == {"token": VALUE, "rest": "x" * 50}
    assert seen.header("content-length") == str(len(seen.body))
    assert seen.header("accept-encoding") == "identity"
    assert (answer.headers["x-echo"], answer.text) == (f"Bearer {PLACE}", sent)
    assert host.seen[1].header("authorization") == "Basic dXNlcjp0aGUtcmVhbC12YWx1ZQ=="
    assert again.headers["x-echo"] != host.seen[1].header("authorization")
    assert host.connections == 1


async def test_other_host_gets_the_placeholder_and_its_own_tls(network: Network) -> None:
    host = await network.host(tls="b.example")
    way = await network.open(secrets=[secret()])
    async with way.client() as client:
        answer = await client.get(f"https://b.example:{host.port}/", headers={"Authorization": PLACE})
        shown = answer.extensions["network_stream"].get_extra_info("ssl_object").getpeercert(binary_form=True)

    assert host.seen[0].header("authorization") == PLACE
    assert shown == await _certificate(host.port)


async def _certificate(port: int) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    assert isinstance(found, bytes)
    return found


async def test_plain_http_never_carries_a_value(network: Network) -> None:
    host = await network.host()
    way = await network.open(secrets=[secret()])
    async with way.client() as client:
        await client.post(f"http://a.example:{host.port}/", headers={"Authorization": PLACE}, content=PLACE)

    assert host.seen[0].header("authorization") == PLACE
    assert host.seen[0].body == PLACE.encode()


async def test_request_for_another_host_inside_the_tunnel_is_refused(network: Network) -> None:
    """Hosts behind one front share an address: the name inside must not lead to another one."""
    host = await network.host(tls="a.example")
    way = await network.open(secrets=[secret()])
    async with way.client() as client:
        headers = {"Host": "evil.example", "Authorization": PLACE}
        answer = await client.get(f"https://a.example:{host.port}/", headers=headers)

    assert answer.status_code == 403
    assert answer.text == "a request for another host than a.example in its tunnel\n"
    assert host.seen == []


async def test_upstream_with_a_certificate_for_another_host_gets_nothing(network: Network) -> None:
    host = await network.host(tls="b.example")
    way = await network.open(secrets=[secret()])
    async with way.client() as client:
        answer = await client.get(f"https://a.example:{host.port}/", headers={"Authorization": PLACE})

    assert answer.status_code == 502
    assert answer.text.startswith("the certificate of a.example is not valid: ")
    assert host.seen == []


async def test_long_body_is_carried_in_chunks_with_its_values(network: Network) -> None:
    host = await network.host(tls="a.example")
    way = await network.open(secrets=[secret()])
    body = (b"x" * 99_990 + PLACE.encode()) * 50

    async def pieces() -> "asyncio.AsyncGenerator[bytes, None]":  # type: ignore[name-defined]
        for start in range(0, len(body), 65_521):
            yield body[start : start + 65_521]

    async with way.client() as client:
        await client.post(f"https://a.example:{host.port}/", content=body)
        await client.post(f"https://a.example:{host.port}/", content=pieces())

    expected = body.replace(PLACE.encode(), VALUE.encode())
    assert [seen.body == expected for seen in host.seen] == [True, True]
    assert host.seen[0].header("transfer-encoding") == "chunked"
    assert host.seen[0].header("content-length") is None


async def test_body_stays_where_only_headers_get_the_value(network: Network) -> None:
    host = await network.host(tls="a.example")
    way = await network.open(secrets=[secret(body=False)])
    async with way.client() as client:
        await client.post(f"https://a.example:{host.port}/", headers={"X": PLACE}, content=PLACE)

    assert (host.seen[0].header("x"), host.seen[0].body) == (VALUE, PLACE.encode())


async def test_answer_with_a_length_in_a_coding_or_without_a_body_is_carried(network: Network) -> None:
    host = await network.host(tls="a.example")
    packed = gzip.compress(b"packed")
    answers = {
        "/length": Answer([("Content-Length", "14")], [VALUE.encode()]),
        "/gzip": Answer([("Content-Encoding", "gzip"), ("Content-Length", str(len(packed)))], [packed]),
        "/none": Answer([], [], 204),
        "/head": Answer([("Content-Length", "99")], []),
    }
    host.answer = lambda seen: answers[seen.target]
    way = await network.open(secrets=[secret()])
    async with way.client() as client:
        base = f"https://a.example:{host.port}"
        length, gzipped, none = [await client.get(base + path) for path in ("/length", "/gzip", "/none")]
        head = await client.head(f"{base}/head")

    assert (length.text, gzipped.text, none.status_code) == (PLACE, "packed", 204)
    assert head.headers["content-length"] == "99"


async def test_events_of_a_stream_come_as_they_are_sent(network: Network) -> None:
    """Nothing waits for the end of an answer that has none yet."""
    go_on = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: one\n\n")
            await writer.drain()
            await go_on.wait()
            writer.write(b"data: two\n\n")
            await writer.drain()
        writer.close()

    port = await network.listen(serve, tls="a.example")
    way = await network.open(secrets=[secret()])
    async with way.client() as client, client.stream("GET", f"https://a.example:{port}/") as answer:
        pieces = answer.aiter_bytes()
        first = await asyncio.wait_for(anext(pieces), PATIENCE_SECONDS)
        go_on.set()
        rest = b"".join([piece async for piece in pieces])

    assert (first, rest) == (b"data: one\n\n", b"data: two\n\n")


async def test_upstream_that_closes_after_each_answer_is_opened_again(network: Network) -> None:
    host = await network.host(tls="a.example")
    host.answer = lambda seen: Answer([("Connection", "close")])
    way = await network.open(secrets=[secret()])
    async with way.client() as client:
        texts = [(await client.get(f"https://a.example:{host.port}/")).text for _ in range(3)]

    assert texts == ["hello"] * 3
    assert host.connections == 3


async def test_upstream_that_answers_before_it_has_read_all_is_heard(network: Network) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 413 Too large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
            await writer.drain()
            while await reader.read(65536):
                pass
        writer.close()

    port = await network.listen(serve, tls="a.example")
    way = await network.open(secrets=[secret()])
    async with way.client() as client:
        answer = await client.post(f"https://a.example:{port}/", content=b"x" * 10_000_000)

    assert (answer.status_code, answer.text) == (413, "big")


async def test_what_is_no_tls_passes_as_it_is(network: Network) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n" + await reader.readline())
        writer.close()

    port = await network.listen(serve)
    way = await network.open(EgressPolicy(), secrets=[secret()])
    reader, writer = await way.tunnel(f"a.example:{port}")
    writer.write(PLACE.encode() + b"\r\n")
    said = await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)
    writer.close()

    assert said == b"220 ready\r\n" + PLACE.encode() + b"\r\n"


async def test_server_that_speaks_first_is_heard_although_its_client_is_silent(network: Network) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        writer.close()

    port = await network.listen(serve)
    way = await network.open(EgressPolicy(), secrets=[secret()])
    reader, writer = await way.tunnel(f"a.example:{port}")
    said = await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)
    writer.close()

    assert said == b"220 ready\r\n"


async def test_secrets_can_change_while_the_proxy_serves(network: Network) -> None:
    host = await network.host(tls="a.example")
    way = await network.open(secrets=[secret("b.example")])
    async with way.client() as client:
        await client.get(f"https://a.example:{host.port}/", headers={"X": PLACE})
    way.proxy.secrets = (secret("a.example"),)
    async with way.client() as client:
        await client.get(f"https://a.example:{host.port}/", headers={"X": PLACE})

    assert [seen.header("x") for seen in host.seen] == [PLACE, VALUE]


async def test_value_is_never_logged(network: Network, caplog: pytest.LogCaptureFixture) -> None:
    host = await network.host(tls="a.example")
    way = await network.open(secrets=[secret()])
    with caplog.at_level(logging.DEBUG):
        async with way.client() as client:
            await client.get(f"https://a.example:{host.port}/?x={PLACE}", headers={"X": PLACE})
        await network.close()

    assert f"egress a.example:{host.port} intercepted, " in caplog.text
    assert VALUE not in caplog.text


async def test_program_that_knows_only_the_variables_gets_through(network: Network) -> None:
    """Python's own urllib, told by nothing but the environment, as in a sandbox."""
    host = await network.host(tls="a.example")
    way = await network.open(secrets=[secret()])
    server = await asyncio.start_server(way._forward, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    proxy = f"http://127.0.0.1:{port}"
    env = way.proxy.environment(ca_file=network.authority.bundle)
    env = {key: proxy if value == "http://127.0.0.1:3128" else value for key, value in env.items()}
    program = (
        "import os, urllib.request as r\n"
        f"request = r.Request('https://a.example:{host.port}/', headers={{'X': os.environ['TOKEN']}})\n"
        "print(r.urlopen(request, timeout=40).read().decode())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", program, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        server.close()

    assert output.decode().strip() == "hello"
    assert host.seen[0].header("x") == VALUE
