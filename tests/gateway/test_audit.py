"""What the gateway asks before it serves, and writes down after: through the whole application."""

import json
import logging
from collections.abc import AsyncGenerator, Mapping
from typing import Any, cast

import httpx2
import pytest
from pydantic import BaseModel

from sojourn.client import AgentRuntime
from sojourn.gateway.app import create_app
from sojourn.gateway.auth import AuthenticationError, token_of
from sojourn.gateway.endpoint import Call, Endpoint, Gateway
from sojourn.gateway.limit import RateLimiter, RateLimits
from sojourn.gateway.principal import Principal
from sojourn.types import ConflictError

SECRET = "sk-sojourn-secret"


class Thing(BaseModel):
    id: str = "thing_1"
    secret: str = "of the body"


class Keys:
    """Keys by token: what they allow."""

    async def authenticate(self, headers: Mapping[str, str]) -> Principal:
        token = token_of(headers)
        if token == "wrong":
            raise AuthenticationError("invalid API key", reason="expired", key_id="key_old")
        return Principal(f"key_{token}", "acme", "ada", frozenset(token.split("-")))


async def _thing(call: Call[Any, Any]) -> Thing:
    return Thing()


async def _conflict(call: Call[Any, Any]) -> Thing:
    raise ConflictError("not now")


async def _broken(call: Call[Any, Any]) -> Thing:
    raise RuntimeError("a bug")


ENDPOINTS = (
    Endpoint("GET", "/v1/things/{thing_id}", "things.get", _thing, "read", "Read."),
    Endpoint("POST", "/v1/things", "things.create", _thing, "write", "Make.", body=Thing),
    Endpoint("POST", "/v1/things/{thing_id}/archive", "things.archive", _conflict, "control", "Archive."),
    Endpoint("DELETE", "/v1/things/{thing_id}", "things.delete", _broken, "control", "Delete."),
)


@pytest.fixture
async def http() -> AsyncGenerator[httpx2.AsyncClient, None]:
    # No endpoint here asks the runtime.
    runtime = cast(AgentRuntime, None)
    limiter = RateLimiter(RateLimits(write_per_minute=2, read_per_minute=3))
    app = create_app(Gateway(runtime, Keys(), limiter=limiter), endpoints=ENDPOINTS)
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


@pytest.fixture
def entries(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """What the audit log holds, as far as it has come."""
    caplog.set_level(logging.INFO, "sojourn.gateway")
    audit: list[dict[str, Any]] = []

    class Audit(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            audit.append(record.__dict__["audit"] | {"text": record.getMessage()})

    logger, handler = logging.getLogger("sojourn.gateway.audit"), Audit()
    logger.addHandler(handler)
    yield audit  # type: ignore[misc]
    logger.removeHandler(handler)


async def test_what_changes_something_is_written_down(http: httpx2.AsyncClient, entries: list[dict[str, Any]]) -> None:
    answer = await http.post("/v1/things", headers={"x-api-key": "read-write"}, json={"secret": SECRET})

    assert answer.status_code == 200
    (entry,) = entries
    assert entry == {
        "operation": "things.create",
        "method": "POST",
        "route": "/v1/things",
        "status": 200,
        "request_id": answer.headers["request-id"],
        "object_id": "thing_1",
        "key_id": "key_read-write",
        "workspace": "acme",
        "user": "ada",
        "text": entry["text"],
    }
    assert "POST /v1/things status=200" in entry["text"]
    assert SECRET not in json.dumps(entry)


async def test_reading_is_not_written_down(http: httpx2.AsyncClient, entries: list[dict[str, Any]]) -> None:
    assert (await http.get("/v1/things/thing_2", headers={"x-api-key": "read"})).status_code == 200
    assert entries == []


async def test_what_was_refused_or_failed_is_written_down(
    http: httpx2.AsyncClient, entries: list[dict[str, Any]]
) -> None:
    headers = {"authorization": "Bearer control"}
    await http.post("/v1/things/thing_2/archive", headers=headers)
    await http.delete("/v1/things/thing_3", headers=headers)

    assert [(entry["status"], entry["object_id"]) for entry in entries] == [(409, "thing_2"), (500, "thing_3")]


async def test_who_is_refused_is_written_down_with_the_reason(
    http: httpx2.AsyncClient, entries: list[dict[str, Any]]
) -> None:
    missing = await http.get("/v1/things/x")
    wrong = await http.get("/v1/things/x", headers={"x-api-key": "wrong"})
    scope = await http.post("/v1/things", headers={"x-api-key": "read"}, json={})
    foreign = await http.get("/v1/things/x", headers={"x-api-key": "read", "anthropic-workspace-id": "other"})

    answers = [missing, wrong, scope, foreign]
    assert [answer.status_code for answer in answers] == [401, 401, 403, 403]
    assert [answer.json()["error"]["type"] for answer in answers] == [
        *["authentication_error"] * 2,
        *["permission_error"] * 2,
    ]
    assert [(entry.get("reason"), entry.get("key_id")) for entry in entries] == [
        ("missing", None),
        ("expired", "key_old"),
        (None, "key_read"),
        (None, "key_read"),
    ]
    assert "expired" not in wrong.text


async def test_an_id_in_a_path_cannot_forge_a_line(http: httpx2.AsyncClient, entries: list[dict[str, Any]]) -> None:
    await http.post("/v1/things/a%0Ab%20status=200/archive", headers={"x-api-key": "control"})

    (entry,) = entries
    assert entry["object_id"] == "a\nb status=200"
    assert "object_id=a?b?status=200 " in entry["text"]


async def test_too_many_requests_of_a_key_are_told_when_to_come_again(http: httpx2.AsyncClient) -> None:
    headers = {"x-api-key": "read-write"}
    made = [await http.post("/v1/things", headers=headers, json={}) for _ in range(3)]
    read = [await http.get("/v1/things/x", headers=headers) for _ in range(4)]
    other = await http.get("/v1/things/x", headers={"x-api-key": "read"})

    assert [answer.status_code for answer in made] == [200, 200, 429]
    assert [answer.status_code for answer in read] == [200, 200, 200, 429]
    assert other.status_code == 200
    assert made[-1].json()["error"]["type"] == "rate_limit_error"
    assert 1 <= int(made[-1].headers["retry-after"]) <= 31
    assert int(made[-1].headers["retry-after-ms"]) > 0
