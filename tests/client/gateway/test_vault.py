"""Vaults and credentials through the official SDK."""

import logging
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any

import anthropic
import pytest

from sojourn.sandbox.address import PRIVATE_HOSTS_VARIABLE
from sojourn.testing.authority import FakeAuthority, fake_authority
from sojourn.types.seal import KEYS_VARIABLE, new_keys_line

URL = "https://mcp.example.com/mcp"
OPEN = {"type": "unrestricted"}


@pytest.fixture
async def desk(stage: Any, monkeypatch: pytest.MonkeyPatch, serve: Any) -> AsyncGenerator[Any, None]:
    """A gateway and a worker with a vault key."""
    monkeypatch.setenv(KEYS_VARIABLE, new_keys_line())
    await stage.work()
    async with serve() as gateway:
        yield gateway


@pytest.fixture
async def authority(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[FakeAuthority, None]:
    async with fake_authority() as authority:
        monkeypatch.setenv(PRIVATE_HOSTS_VARIABLE, authority.address)
        yield authority


def oauth(authority: FakeAuthority, **more: Any) -> dict[str, Any]:
    return {
        "type": "mcp_oauth",
        "mcp_server_url": authority.mcp_url,
        "access_token": authority.access_token,
        "refresh": {
            "token_endpoint": authority.token_endpoint,
            "client_id": "sojourn",
            "refresh_token": authority.refresh_token,
            "token_endpoint_auth": {"type": "none"},
        },
        **more,
    }


async def test_vault_lives_from_create_to_delete(desk: Any, eventually: Any) -> None:
    vaults = desk.sdk.beta.vaults

    made = await vaults.create(display_name="team", metadata={"a": "1"})
    changed = await vaults.update(made.id, display_name="crew", metadata={"a": None, "b": "2"})
    archived = await vaults.archive(made.id)
    again = await vaults.archive(made.id)
    deleted = await vaults.delete(made.id)

    assert made.to_dict() == {
        "id": made.id,
        "type": "vault",
        "display_name": "team",
        "metadata": {"a": "1"},
        "created_at": made.to_dict()["created_at"],
        "updated_at": made.to_dict()["created_at"],
        "archived_at": None,
    }
    assert made.id.startswith("vlt_")
    assert (changed.display_name, changed.metadata) == ("crew", {"b": "2"})
    assert archived.archived_at is not None
    assert again == archived
    assert (deleted.id, deleted.type) == (made.id, "vault_deleted")
    with pytest.raises(anthropic.NotFoundError):
        await vaults.retrieve(made.id)


async def test_vaults_are_listed_in_pages(desk: Any, eventually: Any) -> None:
    vaults = desk.sdk.beta.vaults
    made = {(await vaults.create(display_name=f"v{number}")).id for number in range(3)}
    shut = await vaults.create(display_name="shut")
    await vaults.archive(shut.id)

    async def listed() -> bool:
        found = {each.id async for each in vaults.list(limit=2)}
        every = {each.id async for each in vaults.list(limit=2, include_archived=True)}
        return found == made and every == {*made, shut.id}

    await eventually(listed, "all vaults are listed")


async def test_credential_of_each_type_lives_from_create_to_delete(desk: Any) -> None:
    vault = await desk.sdk.beta.vaults.create(display_name="team")
    credentials = desk.sdk.beta.vaults.credentials
    expires_at = datetime.now(UTC) + timedelta(hours=1)

    token = await credentials.create(
        vault.id,
        display_name="tracker",
        metadata={"k": "v"},
        auth={
            "type": "mcp_oauth",
            "mcp_server_url": URL,
            "access_token": "plain-1",
            "expires_at": expires_at,
            "refresh": {
                "token_endpoint": "https://login.example.com/token",
                "client_id": "c",
                "refresh_token": "plain-2",
                "scope": "s",
                "token_endpoint_auth": {"type": "client_secret_basic", "client_secret": "plain-3"},
            },
        },
    )
    static = await credentials.create(
        vault.id, auth={"type": "static_bearer", "mcp_server_url": "https://two.example.com", "token": "plain-4"}
    )
    limited = {"type": "limited", "allowed_hosts": ["*.example.com", "192.0.2.1"]}
    variable = await credentials.create(
        vault.id,
        auth={
            "type": "environment_variable",
            "secret_name": "KEY",
            "secret_value": "plain-5",
            "networking": limited,
            "injection_location": {"body": True},
        },
    )

    assert token.id.startswith("vcrd_")
    assert (token.type, token.vault_id, token.display_name, token.metadata) == (
        "vault_credential",
        vault.id,
        "tracker",
        {"k": "v"},
    )
    assert token.auth.to_dict() == {
        "type": "mcp_oauth",
        "mcp_server_url": URL,
        "expires_at": token.auth.to_dict()["expires_at"],
        "refresh": {
            "token_endpoint": "https://login.example.com/token",
            "client_id": "c",
            "scope": "s",
            "resource": None,
            "token_endpoint_auth": {"type": "client_secret_basic"},
        },
    }
    assert token.auth.expires_at == expires_at
    assert static.auth.to_dict() == {"type": "static_bearer", "mcp_server_url": "https://two.example.com"}
    assert variable.auth.to_dict() == {
        "type": "environment_variable",
        "secret_name": "KEY",
        "networking": limited,
        "injection_location": {"header": False, "body": True},
    }
    assert [each.id async for each in credentials.list(vault.id, limit=2)] == [variable.id, static.id, token.id]

    changed = await credentials.update(
        variable.id,
        vault_id=vault.id,
        display_name="key",
        auth={
            "type": "environment_variable",
            "secret_value": "plain-6",
            "networking": OPEN,
            "injection_location": {"header": True},
        },
    )
    archived = await credentials.archive(static.id, vault_id=vault.id)
    deleted = await credentials.delete(token.id, vault_id=vault.id)

    assert (changed.display_name, changed.auth.networking.type) == ("key", "unrestricted")
    assert changed.auth.injection_location.to_dict() == {"header": True, "body": True}
    assert archived.archived_at is not None
    assert (deleted.id, deleted.type) == (token.id, "vault_credential_deleted")
    assert [each.id async for each in credentials.list(vault.id)] == [variable.id]
    assert [each.id async for each in credentials.list(vault.id, include_archived=True)] == [variable.id, static.id]
    with pytest.raises(anthropic.NotFoundError):
        await credentials.retrieve(token.id, vault_id=vault.id)
    with pytest.raises(anthropic.BadRequestError):
        await credentials.update(static.id, vault_id=vault.id, display_name="x")


BEARER = {"type": "static_bearer", "mcp_server_url": URL, "token": "plain-token"}
VARIABLE = {"type": "environment_variable", "secret_name": "KEY", "secret_value": "plain-value", "networking": OPEN}


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "auth"),
        ({"auth": {"type": "password"}}, "auth.type"),
        ({"auth": {**BEARER, "token": ""}}, "auth.token"),
        ({"auth": {**BEARER, "token": "plain token"}}, "auth.token"),
        ({"auth": {**BEARER, "token": "plain-" + "x" * 17_000}}, "auth.token"),
        ({"auth": {**BEARER, "token": 5}}, "auth.token"),
        ({"auth": {**BEARER, "mcp_server_url": "ftp://a.com"}}, "auth.mcp_server_url"),
        ({"auth": {**BEARER, "mcp_server_url": "https://u:plain-p@a.com"}}, "auth.mcp_server_url"),
        ({"auth": {**BEARER, "mcp_server_url": "https://[plain"}}, "auth.mcp_server_url"),
        ({"auth": {**BEARER, "plain": "plain-x"}}, "auth.plain"),
        ({"auth": {**VARIABLE, "secret_name": "A-B"}}, "auth.secret_name"),
        ({"auth": {**VARIABLE, "networking": None}}, "auth.networking"),
        ({"auth": {**VARIABLE, "networking": {"type": "limited", "allowed_hosts": ["http://a"]}}}, "auth.networking"),
        ({"auth": {**VARIABLE, "networking": {"type": "limited", "allowed_hosts": ["a.com"] * 17}}}, "auth.networking"),
        ({"auth": {**VARIABLE, "injection_location": None}}, "auth.injection_location"),
        ({"auth": {**VARIABLE, "injection_location": {"header": False}}}, "auth.injection_location"),
        ({"auth": {**VARIABLE, "injection_location": {}}}, "auth.injection_location"),
        ({"auth": BEARER, "display_name": ""}, "display_name"),
        ({"auth": BEARER, "metadata": {"a": None}}, "metadata.a"),
    ],
)
async def test_bad_credential_is_refused_by_its_path_without_its_secret(
    desk: Any, body: dict[str, Any], path: str
) -> None:
    vault = await desk.sdk.beta.vaults.create(display_name="team")

    answer = await desk.http.post(f"/v1/vaults/{vault.id}/credentials", json=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(path), answer.text
    assert "plain-" not in answer.text


async def test_key_that_is_taken_is_a_conflict_and_a_full_vault_is_not(desk: Any) -> None:
    vault = await desk.sdk.beta.vaults.create(display_name="team")
    path = f"/v1/vaults/{vault.id}/credentials"
    for number in range(19):
        answer = await desk.http.post(path, json={"auth": {**VARIABLE, "secret_name": f"KEY_{number}"}})
        assert answer.status_code == 200, answer.text
    await desk.http.post(path, json={"auth": BEARER})

    taken = await desk.http.post(path, json={"auth": {**BEARER, "mcp_server_url": "HTTPS://MCP.Example.COM:443/mcp/"}})
    full = await desk.http.post(path, json={"auth": VARIABLE})

    assert (taken.status_code, taken.headers["x-should-retry"]) == (409, "false")
    assert full.status_code == 400


async def test_retried_credential_is_made_once(desk: Any) -> None:
    vault = await desk.sdk.beta.vaults.create(display_name="team")
    path = f"/v1/vaults/{vault.id}/credentials"

    made = await desk.http.post(path, json={"auth": BEARER})
    retried = await desk.http.post(path, json={"auth": BEARER}, headers={"x-stainless-retry-count": "1"})
    keyed = [
        await desk.http.post(path, json={"auth": VARIABLE}, headers={"idempotency-key": "variable"}) for _ in range(2)
    ]

    assert made.json()["id"] == retried.json()["id"]
    assert [each.json()["id"] for each in keyed] == [keyed[0].json()["id"]] * 2


async def test_without_a_key_vaults_are_made_and_credentials_are_not(
    gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEYS_VARIABLE, raising=False)
    vault = await gateway.sdk.beta.vaults.create(display_name="team")

    refused = await gateway.http.post(f"/v1/vaults/{vault.id}/credentials", json={"auth": BEARER})
    monkeypatch.setenv(KEYS_VARIABLE, "nonsense")
    broken = await gateway.http.post(f"/v1/vaults/{vault.id}/credentials", json={"auth": BEARER})

    assert (refused.status_code, KEYS_VARIABLE in refused.text) == (400, True)
    assert (broken.status_code, broken.headers["x-should-retry"], "nonsense" in broken.text) == (503, "false", False)


async def test_scopes_and_workspaces_hold(desk: Any) -> None:
    vault = await desk.sdk.beta.vaults.create(display_name="team")
    path = f"/v1/vaults/{vault.id}"
    async with desk.client("reader") as reader, desk.client("eve") as eve, desk.client("bob") as bob:
        read = await reader.get(f"{path}/credentials")
        written = await reader.post(f"{path}/credentials", json={"auth": BEARER})
        validated = await reader.post(f"{path}/credentials/vcrd_x/mcp_oauth_validate")
        elsewhere = await eve.post(f"{path}/credentials", json={"auth": BEARER})
        deleted = await eve.delete(path)
        shared = await bob.get(path)

    assert (read.status_code, written.status_code, validated.status_code) == (200, 403, 403)
    assert (elsewhere.status_code, deleted.status_code, shared.status_code) == (404, 404, 200)


async def test_no_secret_is_logged(desk: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    vault = await desk.sdk.beta.vaults.create(display_name="team")

    made = await desk.http.post(f"/v1/vaults/{vault.id}/credentials", json={"auth": BEARER})

    assert f"object_id={made.json()['id']}" in caplog.text
    assert "plain-token" not in caplog.text + made.text


# --- validation ----------------------------------------------------------------------------------------------------


async def test_valid_credential_is_valid(desk: Any, authority: FakeAuthority) -> None:
    vault = await desk.sdk.beta.vaults.create(display_name="team")
    credentials = desk.sdk.beta.vaults.credentials
    made = await credentials.create(vault.id, auth=oauth(authority))

    found = await credentials.mcp_oauth_validate(made.id, vault_id=vault.id)

    assert (found.type, found.status, found.has_refresh_token) == ("vault_credential_validation", "valid", True)
    assert (found.credential_id, found.vault_id, found.mcp_probe, found.refresh) == (made.id, vault.id, None, None)
    assert [(each.method, each.path) for each in authority.requests] == [("POST", "/mcp"), ("DELETE", "/mcp")]


async def test_refused_token_is_renewed_and_tried_again(desk: Any, authority: FakeAuthority) -> None:
    vault = await desk.sdk.beta.vaults.create(display_name="team")
    credentials = desk.sdk.beta.vaults.credentials
    made = await credentials.create(vault.id, auth=oauth(authority, access_token="plain-stale"))

    found = await credentials.mcp_oauth_validate(made.id, vault_id=vault.id)

    assert (found.status, found.refresh.status, found.mcp_probe) == ("valid", "succeeded", None)
    assert authority.requests[-2].headers["authorization"] == "Bearer plain-access-1"
    assert (await credentials.retrieve(made.id, vault_id=vault.id)).auth.expires_at > datetime.now(UTC)


async def test_credential_that_cannot_be_renewed_is_invalid(desk: Any, authority: FakeAuthority) -> None:
    vault = await desk.sdk.beta.vaults.create(display_name="team")
    credentials = desk.sdk.beta.vaults.credentials
    made = await credentials.create(vault.id, auth=oauth(authority, access_token="plain-stale"))
    authority.refresh_token = "plain-other"

    found = await credentials.mcp_oauth_validate(made.id, vault_id=vault.id)

    assert (found.status, found.refresh.status) == ("invalid", "failed")
    assert (found.refresh.http_response.status_code, found.mcp_probe.http_response.status_code) == (400, 401)
    assert (found.mcp_probe.method, found.refresh.http_response.body_truncated) == ("initialize", False)
    assert "invalid_grant" in found.refresh.http_response.body
    assert "plain-" not in found.to_json()


async def test_credential_without_a_refresh_token_says_so(desk: Any, authority: FakeAuthority) -> None:
    vault = await desk.sdk.beta.vaults.create(display_name="team")
    credentials = desk.sdk.beta.vaults.credentials
    made = await credentials.create(vault.id, auth=oauth(authority, access_token="plain-stale", refresh=None))

    found = await credentials.mcp_oauth_validate(made.id, vault_id=vault.id)

    assert (found.status, found.has_refresh_token, found.refresh.status) == ("invalid", False, "no_refresh_token")


async def test_server_that_is_broken_or_away_leaves_it_unknown(desk: Any, authority: FakeAuthority) -> None:
    vault = await desk.sdk.beta.vaults.create(display_name="team")
    credentials = desk.sdk.beta.vaults.credentials
    made = await credentials.create(vault.id, auth=oauth(authority))
    away = await credentials.create(vault.id, auth=oauth(authority, mcp_server_url="http://127.0.0.1:9/mcp"))
    static = await credentials.create(vault.id, auth=BEARER)
    authority.server_status = 500

    broken = await credentials.mcp_oauth_validate(made.id, vault_id=vault.id)
    refused = await credentials.mcp_oauth_validate(away.id, vault_id=vault.id)

    assert (broken.status, broken.mcp_probe.http_response.body) == ("unknown", "no: Bearer [secret]")
    assert (refused.status, refused.mcp_probe.http_response, refused.refresh) == ("unknown", None, None)
    with pytest.raises(anthropic.BadRequestError):
        await credentials.mcp_oauth_validate(static.id, vault_id=vault.id)


# --- sessions ------------------------------------------------------------------------------------------------------


async def test_session_and_deployment_name_their_vaults(desk: Any) -> None:
    sdk = desk.sdk.beta
    one, two = [(await sdk.vaults.create(display_name=name)).id for name in ("one", "two")]
    agent = await sdk.agents.create(name="actor", model="scripted:echo")
    common = {"agent": agent.id, "environment_id": desk.environment}
    hello = [{"type": "user.message", "content": [{"type": "text", "text": "hello"}]}]

    session = await sdk.sessions.create(**common, vault_ids=[two, one])
    deployment = await sdk.deployments.create(**common, name="d", vault_ids=[one], initial_events=hello)
    run = await sdk.deployments.run(deployment.id)
    changed = await sdk.deployments.update(deployment.id, vault_ids=[two])
    cleared = await sdk.deployments.update(deployment.id, vault_ids=None)

    assert session.vault_ids == [two, one]
    assert (await sdk.sessions.retrieve(session.id)).vault_ids == [two, one]
    assert (deployment.vault_ids, changed.vault_ids, cleared.vault_ids) == ([one], [two], [])
    assert (await sdk.sessions.retrieve(run.session_id)).vault_ids == [one]
    refused = await desk.http.post(f"/v1/sessions/{session.id}", json={"vault_ids": [one]})
    assert refused.status_code == 400


async def test_session_needs_vaults_that_are_there(desk: Any) -> None:
    sdk = desk.sdk.beta
    shut = await sdk.vaults.create(display_name="shut")
    await sdk.vaults.archive(shut.id)
    agent = await sdk.agents.create(name="actor", model="scripted:echo")

    async def start(*ids: str) -> tuple[int, str]:
        body = {"agent": agent.id, "environment_id": desk.environment, "vault_ids": list(ids)}
        answer = await desk.http.post("/v1/sessions", json=body)
        return answer.status_code, answer.text

    assert (await start("vlt_unknown"))[0] == 404
    assert (await start(desk.environment))[0] == 404
    assert (await start(shut.id))[0] == 400
    assert (await start(*(f"vlt_{number}" for number in range(51))))[0] == 400
    assert (await start(shut.id, shut.id))[0] == 400


async def test_run_of_a_deployment_whose_vault_is_gone_fails_and_pauses_it(desk: Any) -> None:
    sdk = desk.sdk.beta
    agent = await sdk.agents.create(name="actor", model="scripted:echo")
    hello = [{"type": "user.message", "content": [{"type": "text", "text": "hello"}]}]
    gone, shut = [await sdk.vaults.create(display_name=name) for name in ("gone", "shut")]
    deployments = [
        await sdk.deployments.create(
            agent=agent.id, environment_id=desk.environment, name="d", vault_ids=[each.id], initial_events=hello
        )
        for each in (gone, shut)
    ]
    await sdk.vaults.delete(gone.id)
    await sdk.vaults.archive(shut.id)

    errors = [(await sdk.deployments.run(each.id)).error.type for each in deployments]
    paused = [(await sdk.deployments.retrieve(each.id)).paused_reason.error.type for each in deployments]

    assert errors == paused == ["vault_not_found_error", "vault_archived_error"]
