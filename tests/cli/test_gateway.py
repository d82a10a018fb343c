import asyncio
import json
import re
import signal
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx

PATIENCE = 60
"""Longest wait for a process that stops, in seconds."""
BODY = json.dumps({"name": "late", "model": "scripted:echo"}).encode()


async def test_taken_gateway_port_is_said_before_anything_starts(sojourn: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        up = await sojourn("up", "--port", "0", "--ui-port", "0", "--gateway-port", port)
        alone = await sojourn("gateway", "--port", port)

    assert (up.code, alone.code) == (4, 4)
    assert "--gateway-port" in up.err
    assert "--port" in alone.err


async def test_foreign_address_is_refused(sojourn: Any) -> None:
    for host in ("192.0.2.1", "no such host"):
        ended = await sojourn("gateway", "--host", host, "--port", "0")

        assert ended.code == 2
        assert host in ended.err


async def test_gateway_without_a_server_is_unavailable(sojourn: Any) -> None:
    ended = await sojourn("gateway", "--port", "0", "--address", "127.0.0.1:9", "--json")

    assert ended.code == 5
    assert "127.0.0.1:9" in ended.error["message"]


async def test_gateway_serves_until_it_is_told_to_stop(start: Any) -> None:
    async with start("gateway", "--port", "0", "--access-log", "--log-format", "json", "--json") as process:
        url = json.loads(await process.stdout.readline())["gateway_url"]
        async with httpx.AsyncClient(base_url=url) as client:
            alive, ready = await client.get("/healthz"), await client.get("/readyz")
            refused = await client.get("/v1/models")
            process.send_signal(signal.SIGTERM)
            _, err = await asyncio.wait_for(process.communicate(), PATIENCE)

    assert (alive.status_code, ready.status_code, refused.status_code) == (200, 200, 401)
    assert process.returncode == 0
    logged = {line["path"]: line for line in map(json.loads, err.splitlines()) if "path" in line}
    assert logged["/v1/models"]["request_id"] == refused.headers["request-id"]
    assert logged["/v1/models"]["status"] == 401


@asynccontextmanager
async def unfinished(url: str, key: str) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter], None]:
    """A request that is being served, and whose body is still to come."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        head = f"POST /v1/agents HTTP/1.1\r\nhost: {address.netloc}\r\nx-api-key: {key}\r\n"
        length = f"content-type: application/json\r\ncontent-length: {len(BODY)}\r\n"
        writer.write(f"{head}{length}expect: 100-continue\r\n\r\n".encode())
        async with asyncio.timeout(PATIENCE):
            assert b"100" in await reader.readuntil(b"\r\n\r\n")
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def _key(sojourn: Any) -> str:
    return str((await sojourn("keys", "create", "--name", "test", "--json")).document["token"])


async def _served(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        line = await process.stdout.readline()
    (url,) = re.findall(r"http://[\d.:]+", line.decode())
    return str(url)


async def test_running_request_finishes_when_the_gateway_stops(start: Any, sojourn: Any) -> None:
    key = await _key(sojourn)
    async with (
        start("gateway", "--port", "0", "--drain", "60") as process,
        unfinished(await _served(process), key) as (reader, writer),
    ):
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.stderr.readuntil(b"stopping"), PATIENCE)
        writer.write(BODY)
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
        await asyncio.wait_for(process.communicate(), PATIENCE)

    assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert process.returncode == 0


async def test_request_that_does_not_finish_is_given_up(start: Any, sojourn: Any) -> None:
    key = await _key(sojourn)
    async with (
        start("gateway", "--port", "0", "--drain", "0.2") as process,
        unfinished(await _served(process), key),
    ):
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.communicate(), PATIENCE)

    assert process.returncode == 0


async def test_second_signal_ends_the_gateway_at_once(start: Any, sojourn: Any) -> None:
    key = await _key(sojourn)
    async with (
        start("gateway", "--port", "0", "--drain", "600") as process,
        unfinished(await _served(process), key),
    ):
        process.send_signal(signal.SIGTERM)
        # Two signals in one moment are one.
        await asyncio.wait_for(process.stderr.readuntil(b"a second signal ends it at once"), PATIENCE)
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.communicate(), PATIENCE)

    assert process.returncode == 130


async def test_up_prints_where_the_gateway_is_and_its_key(start: Any) -> None:
    async with start("up", "--port", "0", "--ui-port", "0", "--gateway-port", "0", "--json") as process:
        served = json.loads(await process.stdout.readline())
        async with httpx.AsyncClient(base_url=served["gateway_url"]) as client:
            answers = [
                await client.get("/v1/models", headers=headers)
                for headers in (
                    {"x-api-key": served["api_key"]},
                    {"authorization": f"Bearer {served['api_key']}"},
                    {"x-api-key": "another"},
                )
            ]
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.communicate(), PATIENCE)

    assert [each.status_code for each in answers] == [200, 200, 401]
    assert process.returncode == 0


async def test_up_seals_secrets_with_a_key_of_its_folder(start: Any, tmp_path: Any) -> None:
    async with start("up", "--port", "0", "--ui-port", "0", "--gateway-port", "0", "--json") as process:
        served = json.loads(await process.stdout.readline())
        headers = {"x-api-key": served["api_key"]}
        async with httpx.AsyncClient(base_url=served["gateway_url"], headers=headers, timeout=PATIENCE) as client:
            vault = (await client.post("/v1/vaults", json={"display_name": "team"})).json()["id"]
            auth = {"type": "static_bearer", "mcp_server_url": "https://a.com", "token": "plain-token"}
            made = await client.post(f"/v1/vaults/{vault}/credentials", json={"auth": auth})
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.communicate(), PATIENCE)

    key = tmp_path / ".sojourn" / "vault-keys"
    assert made.status_code == 200, made.text
    assert (key.stat().st_mode & 0o777, key.read_text().startswith("development:")) == (0o600, True)
    database = b"".join(path.read_bytes() for path in key.parent.rglob("*") if path.is_file())
    assert b"s1.development." in database
    assert b"plain-token" not in database


async def test_up_without_a_gateway(start: Any) -> None:
    async with start("up", "--port", "0", "--ui-port", "0", "--no-gateway", "--json") as process:
        served = json.loads(await process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.communicate(), PATIENCE)

    assert "gateway_url" not in served
    assert "api_key" not in served


async def test_scripts_of_a_module_are_models(start: Any, sojourn: Any, tmp_path: Any) -> None:
    (tmp_path / "scripts_of_test.py").write_text(
        "from sojourn.testing import ScriptedTurn\nSCRIPTS = {'parrot': [ScriptedTurn(text='Hello.')]}\n"
    )
    arguments = ("up", "--port", "0", "--ui-port", "0", "--no-gateway", "--scripts", "scripts_of_test", "--json")
    async with start(*arguments) as process:
        address = json.loads(await process.stdout.readline())["address"]
        variables = {"TEMPORAL_ADDRESS": address, "SOJOURN_TASK_QUEUE": "sojourn"}
        said = await sojourn("chat", "--model", "scripted:parrot", stdin="hi\n", **variables)
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.communicate(), PATIENCE)

    assert "Hello." in said.out


async def test_module_without_scripts_is_refused(sojourn: Any) -> None:
    for module in ("json", "no_such_scripts"):
        ended = await sojourn("worker", "--scripts", module, "--json")

        assert ended.code == 2
        assert module in ended.error["message"]


async def test_operators_models_are_listed(start: Any, sojourn: Any) -> None:
    key = await _key(sojourn)
    local = "local=openai-compatible:qwen@http://127.0.0.1:9/v1"
    async with start("gateway", "--port", "0", "--model", local, "--model", "fast=openai:gpt-5-mini") as process:
        async with httpx.AsyncClient(base_url=await _served(process), headers={"x-api-key": key}) as client:
            listed = (await client.get("/v1/models")).json()["data"]
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.communicate(), PATIENCE)

    assert [model["id"] for model in listed[:2]] == ["local", "fast"]


async def test_model_that_names_nothing_is_refused(sojourn: Any) -> None:
    for model in ("local", "=openai:gpt-5", "x=nobody:y@http://127.0.0.1:9/v1", "x=openai-compatible:y"):
        ended = await sojourn("gateway", "--port", "0", "--model", model, "--json")

        assert ended.code == 2, ended.err
