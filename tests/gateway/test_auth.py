from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from starlette.datastructures import Headers

from sojourn.gateway.auth import AuthenticationError, KeyAuthenticator, check_workspace, token_of
from sojourn.gateway.error import GatewayError
from sojourn.types import InternalError, KeyId, KeyRefusedError, Owner
from sojourn.types.key import KeyRecord, KeyToken

TOKEN = KeyToken(KeyId("key_" + "0" * 32), "s" * 43)
KEY = KeyRecord(
    id=TOKEN.key_id,
    name="ci",
    owner=Owner("acme", "ada"),
    scopes=("read", "write"),
    digest=TOKEN.digest(),
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)


class OneKey:
    """Knows one key, or says why not."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure

    async def verify(self, token: str) -> KeyRecord:
        if self.failure is not None:
            raise self.failure
        if token != TOKEN.text:
            raise KeyRefusedError("unknown")
        return KEY


@pytest.mark.parametrize(
    "headers",
    [
        {"x-api-key": TOKEN.text},
        {"X-Api-Key": f" {TOKEN.text} "},
        {"authorization": f"Bearer {TOKEN.text}"},
        {"Authorization": f"bearer  {TOKEN.text}"},
        {"x-api-key": TOKEN.text, "authorization": f"Bearer {TOKEN.text}"},
        {"x-api-key": TOKEN.text, "authorization": "Basic cHJveHk6cHJveHk="},
        Headers({"x-api-key": TOKEN.text}),
    ],
)
async def test_a_key_is_taken_from_either_header(headers: Mapping[str, str]) -> None:
    principal = await KeyAuthenticator(OneKey()).authenticate(headers)

    assert (principal.key_id, principal.owner) == (KEY.id, KEY.owner)
    assert principal.scopes == {"read", "write"}


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "missing"),
        ({"x-api-key": ""}, "missing"),
        ({"authorization": "Bearer"}, "missing"),
        ({"authorization": TOKEN.text}, "missing"),
        ({"authorization": "Basic YTpi"}, "missing"),
        ({"cookie": TOKEN.text}, "missing"),
        ({"x-api-key": TOKEN.text, "authorization": "Bearer other"}, "ambiguous"),
        (Headers(raw=[(b"x-api-key", b"one"), (b"x-api-key", b"two")]), "ambiguous"),
        ({"x-api-key": "sk-sojourn-nothing"}, "unknown"),
    ],
)
async def test_without_one_valid_key_nothing_is_allowed(headers: Mapping[str, str], reason: str) -> None:
    with pytest.raises(AuthenticationError) as error:
        await KeyAuthenticator(OneKey()).authenticate(headers)

    assert (error.value.status, error.value.reason) == (401, reason)
    assert error.value.headers["www-authenticate"] == "Bearer"
    assert "sk-sojourn-nothing" not in error.value.message


async def test_callers_are_told_the_same_whatever_is_wrong_with_their_key() -> None:
    told = set()
    for refusal in (KeyRefusedError("unknown"), KeyRefusedError("expired"), KeyRefusedError("revoked")):
        with pytest.raises(AuthenticationError) as error:
            await KeyAuthenticator(OneKey(refusal)).authenticate({"x-api-key": TOKEN.text})
        told.add((error.value.message, error.value.code))
        assert error.value.key_id == TOKEN.key_id

    assert len(told) == 1


async def test_a_server_that_cannot_be_asked_is_no_refusal() -> None:
    with pytest.raises(GatewayError) as error:
        await KeyAuthenticator(OneKey(InternalError("later"))).authenticate({"x-api-key": TOKEN.text})

    assert error.value.status == 503
    assert error.value.headers["retry-after"] == "1"


async def test_a_workspace_in_the_headers_has_to_be_the_keys() -> None:
    principal = await KeyAuthenticator(OneKey()).authenticate({"x-api-key": TOKEN.text})

    check_workspace({}, principal)
    check_workspace({"anthropic-workspace-id": "acme"}, principal)
    with pytest.raises(GatewayError) as error:
        check_workspace({"Anthropic-Workspace-Id": "other"}, principal)
    assert error.value.status == 403


def test_two_headers_that_agree_are_one_key() -> None:
    assert token_of(Headers(raw=[(b"x-api-key", b"one"), (b"x-api-key", b"one")])) == "one"
