"""What no client should send: a refusal each time, never a failure of the gateway, and nothing half done."""

import asyncio
import json
from typing import Any

import httpx

from sojourn.types import UserMessage

AGENT = {"name": "actor", "model": "scripted:echo"}


async def agents(gateway: Any) -> int:
    return len((await gateway.stage.runtime.list_agents(limit=100)).data)


async def test_body_that_is_no_json_object_is_refused(gateway: Any) -> None:
    nested = b'{"name":"a","model":"scripted:echo","tools":' + b"[" * 1000 + b"]" * 1000 + b"}"
    schema = b'{"type":"object","properties":' + b'{"a":' * 1000 + b"1" + b"}" * 1000 + b"}"
    bodies = [
        b"{",
        b"nonsense",
        b"[]",
        b"null",
        b"5",
        b'"text"',
        b"\xff\xfe",
        b'{"name":"\xff"}',
        b'{"name":"\\ud800","model":"scripted:echo"}',
        b'{"name":NaN,"model":"scripted:echo"}',
        b'{"name":"a","model":"scripted:echo","metadata":{"a":1e999}}',
        b'{"name":"a","model":"scripted:echo","metadata":{"a":' + b"9" * 10_000 + b"}}",
        nested,
        b'{"name":"a","model":"scripted:echo","tools":[{"type":"custom","name":"t","description":"d","input_schema":'
        + schema
        + b"}]}",
        b'{"name":"a","model":"scripted:echo","tools":[{"type":"custom","name":"t","description":"d",'
        b'"input_schema":{"type":"object","maximum":1e999}}]}',
        b'{"name":"a","model":"scripted:echo","tools":[{"type":"custom","name":"t","description":"d",'
        b'"input_schema":{"type":"object","maximum":NaN}}]}',
        b"",
    ]

    headers = {"content-type": "application/json"}
    answers = [await gateway.http.post("/v1/agents", content=body, headers=headers) for body in bodies]

    wrong = [
        (body[:60], answer.status_code)
        for body, answer in zip(bodies, answers, strict=True)
        if answer.status_code != 400
    ]
    assert wrong == []
    assert all(answer.json()["error"]["type"] == "invalid_request_error" for answer in answers)
    assert await agents(gateway) == 0


async def test_the_last_of_two_equal_names_counts_as_everywhere(gateway: Any) -> None:
    body = b'{"name":"a","name":"b","model":"scripted:echo"}'

    answer = await gateway.http.post("/v1/agents", content=body, headers={"content-type": "application/json"})

    assert answer.json()["name"] == "b"


async def test_huge_numbers_are_numbers(gateway: Any) -> None:
    schema = {"type": "object", "properties": {"a": {"maximum": 10**40}}}
    tool = {"type": "custom", "name": "t", "description": "d", "input_schema": schema}

    answer = await gateway.http.post("/v1/agents", json={**AGENT, "tools": [tool]})
    version = await gateway.http.post(f"/v1/agents/{answer.json()['id']}", json={"version": 10**40})

    assert answer.json()["tools"][0]["input_schema"] == schema
    assert version.status_code == 400


async def test_wrong_content_type_is_refused(gateway: Any) -> None:
    for kind in ("text/plain", "multipart/form-data", "application/x-www-form-urlencoded"):
        answer = await gateway.http.post("/v1/agents", content=json.dumps(AGENT), headers={"content-type": kind})
        assert answer.status_code == 400

    for kind in ("application/json; charset=utf-8", "APPLICATION/JSON"):
        answer = await gateway.http.post("/v1/agents", content=json.dumps(AGENT), headers={"content-type": kind})
        assert answer.status_code == 200


async def test_body_over_the_limit_is_refused_however_it_comes(gateway: Any) -> None:
    size = 33 * 1024 * 1024

    async def chunks() -> Any:
        for _ in range(33):
            yield b" " * 1024 * 1024

    for content in (b" " * size, chunks()):
        try:
            answer = await gateway.http.post(
                "/v1/agents", content=content, headers={"content-type": "application/json"}
            )
        except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
            # The server has said enough and hung up while the body was still being written.
            continue
        assert answer.status_code == 413
        assert answer.json()["error"]["type"] == "request_too_large"
    assert await agents(gateway) == 0


async def test_odd_ids_are_not_found(gateway: Any) -> None:
    ids = [
        "%2F",
        "a%2Fb",
        "%00",
        "%ff",
        "%C3%BC",
        "..",
        "%2e%2e%2fetc",
        "x" * 10_000,
        "a%20b",
        "agent_1%27%20OR%201",
        "*",
    ]

    for id in ids:
        for path in (f"/v1/agents/{id}", f"/v1/sessions/{id}", f"/v1/environments/{id}", f"/v1/agents/{id}/versions"):
            answer = await gateway.http.get(path)
            assert answer.status_code in (404, 405), (path[:80], answer.status_code)
            assert answer.json()["type"] == "error"
        sent = await gateway.http.post(
            f"/v1/sessions/{id}/events",
            json={"events": [{"type": "user.message", "content": [{"type": "text", "text": "x"}]}]},
        )
        assert sent.status_code in (404, 405)


async def test_thing_of_another_kind_is_not_found(gateway: Any) -> None:
    agent = (await gateway.http.post("/v1/agents", json=AGENT)).json()["id"]

    for path in (f"/v1/sessions/{agent}", f"/v1/environments/{agent}", f"/v1/agents/{gateway.environment}"):
        assert (await gateway.http.get(path)).status_code == 404


async def test_bad_cursors_and_limits_are_refused(gateway: Any) -> None:
    agent = (await gateway.http.post("/v1/agents", json=AGENT)).json()["id"]
    lists = ["/v1/agents", "/v1/sessions", "/v1/environments", f"/v1/agents/{agent}/versions"]
    pages = ["x", "AAAA", "e30", "W10", "WyJhZ2VudHMiLHt9XQ", "%00", "x" * 5000, "WyJhZ2VudHMiLHsiYXQiOiJ6eiJ9XQ"]

    for path in lists:
        for query in (*(f"page={page}" for page in pages), "limit=0", "limit=101", "limit=x", "limit=-1", "limit=1e9"):
            answer = await gateway.http.get(f"{path}?{query}")
            assert answer.status_code == 400, (path, query[:60], answer.text)
            name = query.partition("=")[0]
            assert answer.json()["error"]["message"].startswith(name), answer.text
        assert (await gateway.http.get(f"{path}?beta=true&unknown=1&page=")).status_code == 200


async def test_bad_filters_are_refused(gateway: Any) -> None:
    queries = [
        "statuses[]=odd",
        "created_at[gt]=yesterday",
        "order=up",
        "agent_version=1",
        "agent_id=a&agent_version=x",
        "include_archived=maybe",
        "agent_id=a%27b",
    ]

    for query in queries:
        answer = await gateway.http.get(f"/v1/sessions?{query}")
        assert answer.status_code == 400, query


async def test_client_that_leaves_in_the_middle_of_a_body_makes_nothing(gateway: Any, eventually: Any) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    head = "POST /v1/agents HTTP/1.1\r\nhost: x\r\nx-api-key: ada\r\ncontent-type: application/json\r\n"

    for length in ("content-length: 1000", "transfer-encoding: chunked"):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"{head}{length}\r\n\r\n".encode() + (b"" if "chunked" in length else b'{"name": "a", '))
        await writer.drain()
        writer.close()

    assert (await gateway.http.get("/healthz")).status_code == 200
    assert await agents(gateway) == 0


async def test_client_that_does_not_wait_is_served_all_the_same(gateway: Any, eventually: Any) -> None:
    agent = (await gateway.http.post("/v1/agents", json=AGENT)).json()["id"]
    body = {
        "agent": agent,
        "environment_id": gateway.environment,
        "initial_events": [{"type": "user.message", "content": [{"type": "text", "text": "Hello"}]}],
    }
    text = json.dumps(body).encode()
    head = (
        "POST /v1/sessions HTTP/1.1\r\nhost: x\r\nx-api-key: ada\r\ncontent-type: application/json\r\n"
        f"content-length: {len(text)}\r\n\r\n"
    )
    host, port = gateway.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(head.encode() + text)
    await writer.drain()
    writer.close()

    async def made() -> bool:
        return len((await gateway.stage.runtime.list_sessions(limit=10)).data) == 1

    await eventually(made, "the session of the client that left")
    (info,) = (await gateway.stage.runtime.list_sessions(limit=10)).data
    log = await gateway.stage.runtime.list_events(info.id)
    assert len([event for event in log if isinstance(event, UserMessage)]) == 1
    again = await gateway.http.post("/v1/sessions", json=body, headers={"x-stainless-retry-count": "1"})
    assert again.status_code == 200


async def test_what_is_not_served_is_told_in_the_contracts_words(gateway: Any) -> None:
    for method, path, status in (
        ("GET", "/v1/nothing", 404),
        ("PUT", "/v1/agents", 405),
        ("DELETE", "/v1/models", 405),
    ):
        answer = await gateway.http.request(method, path)
        assert answer.status_code == status
        assert answer.json()["type"] == "error"
        assert answer.headers["request-id"] == answer.json()["request_id"]
