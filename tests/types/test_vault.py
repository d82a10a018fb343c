"""The rules of vaults, without a server."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from sojourn.types import (
    CredentialChange,
    CredentialDefinition,
    CredentialId,
    InvalidRequestError,
    McpOAuthChange,
    NewStaticBearer,
    Vault,
    VaultId,
    parse,
)
from sojourn.types.converter import data_converter
from sojourn.types.credential import (
    CredentialEntry,
    McpOAuth,
    OAuthRefresh,
    StaticBearer,
    TokenEndpointAuth,
    normalized_url,
)
from sojourn.types.vault import AddCredentialInput, ChangeCredentialInput, ResealedCredential, VaultState

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EMPTY = VaultState(vault=Vault(id=VaultId("vlt_1"), display_name="team", created_at=NOW, updated_at=NOW))
REFRESH = OAuthRefresh(
    token_endpoint="https://login.example.com/token",
    client_id="c",
    scope="read",
    token_endpoint_auth=TokenEndpointAuth(type="none"),
)


def added(state: VaultState, number: int, auth: Any = None) -> VaultState:
    auth = auth or StaticBearer(mcp_server_url=f"https://a{number}.com")
    wanted = AddCredentialInput(id=CredentialId(f"vcrd_{number}"), auth=auth, sealed={"token": f"s1.{number}"})
    return state.added(wanted, NOW)


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("HTTPS://Example.COM/Mcp", "https://example.com/Mcp"),
        ("https://example.com:443/", "https://example.com"),
        ("http://example.com:80/a/", "http://example.com/a"),
        ("http://example.com:443/a", "http://example.com:443/a"),
        ("https://example.com/?a=B", "https://example.com?a=B"),
        ("https://127.0.0.1:8000/mcp", "https://127.0.0.1:8000/mcp"),
    ],
)
def test_addresses_are_compared_in_one_form(url: str, same: str) -> None:
    assert normalized_url(url) == same
    assert normalized_url(same) == same


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "ftp://example.com",
        "https://",
        "https://a b.com",
        "https://user@example.com",
        "https://user:pass@example.com",
        "https://example.com#x",
        "https://example.com\\@evil.com",
        "https://example.com:99999",
        "https://example.com:x",
        "https://exämple.com",
        "https://example.com/\n",
        "https://example.com/a b",
    ],
)
def test_what_is_no_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        parse(StaticBearer, {"mcp_server_url": url})
    assert error.value.param == "mcp_server_url"
    assert "example" not in str(error.value)


@given(st.from_regex(r"https?://[a-z]{1,9}\.com(:[1-9][0-9]{0,3})?(/[a-z]{0,5}){0,3}", fullmatch=True))
def test_one_form_is_its_own_form(url: str) -> None:
    assert normalized_url(normalized_url(url)) == normalized_url(url) == normalized_url(url.replace("http", "HTTP"))


def test_secrets_do_not_show_and_do_not_travel() -> None:
    definition = CredentialDefinition(
        auth=NewStaticBearer(mcp_server_url="https://a.com", token=SecretStr("plain-token"))
    )
    change = CredentialChange.model_validate(
        {
            "auth": {
                "type": "mcp_oauth",
                "access_token": "plain-a",
                "refresh": {
                    "refresh_token": "plain-b",
                    "token_endpoint_auth": {"type": "client_secret_post", "client_secret": "plain-c"},
                },
            }
        }
    )

    for text in (repr(definition), str(definition), definition.model_dump_json(), repr(change)):
        assert "plain-" not in text
    assert {name: secret.get_secret_value() for name, secret in change.secrets().items()} == {
        "access_token": "plain-a",
        "refresh_token": "plain-b",
        "client_secret": "plain-c",
    }
    wanted = ChangeCredentialInput(credential_id=CredentialId("vcrd_1"), change=change)
    payload = data_converter.payload_converter.to_payload(wanted)
    assert b"plain-" not in payload.data
    assert b"*" not in payload.data
    read = data_converter.payload_converter.from_payload(payload, ChangeCredentialInput)
    assert read.change.auth is not None
    assert read.change.secrets() == {}


@pytest.mark.parametrize("token", ["plain token", "plain-\n", "plain-ä", "", "plain-" + "x" * 20_000])
def test_a_wrong_secret_is_not_repeated(token: str) -> None:
    with pytest.raises(ValidationError) as error:
        NewStaticBearer(mcp_server_url="https://a.com", token=SecretStr(token))
    assert "plain" not in str(error.value)


def test_a_renewed_token_counts_up_and_leaves_the_rest() -> None:
    state = added(EMPTY, 1, McpOAuth(mcp_server_url="https://a.com", refresh=REFRESH))
    end = NOW + timedelta(hours=1)

    after = state.with_token(CredentialId("vcrd_1"), {"access_token": "s1.new"}, expires_at=end, now=NOW)

    (entry,) = after.credentials
    assert (entry.generation, entry.sealed) == (1, {"token": "s1.1", "access_token": "s1.new"})
    assert entry.credential.auth == McpOAuth(mcp_server_url="https://a.com", expires_at=end, refresh=REFRESH)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"refresh": {"token_endpoint_auth": {"type": "client_secret_post"}}}, "auth.refresh.token_endpoint_auth"),
        ({"refresh": {"scope": "x"}, "expires_at": None}, None),
    ],
)
def test_a_refresh_changes_only_where_it_can(change: dict[str, Any], path: str | None) -> None:
    wanted = CredentialChange(auth=McpOAuthChange.model_validate({"type": "mcp_oauth", **change}))
    auth = McpOAuth(mcp_server_url="https://a.com", expires_at=NOW, refresh=REFRESH)

    if path is None:
        assert wanted.applied_auth(auth) == auth.model_copy(
            update={"expires_at": None, "refresh": REFRESH.model_copy(update={"scope": "x"})}
        )
    else:
        with pytest.raises(InvalidRequestError) as error:
            wanted.applied_auth(auth)
        assert error.value.param == path
    with pytest.raises(InvalidRequestError) as error:
        wanted.applied_auth(auth.model_copy(update={"refresh": None}))
    assert error.value.param == "auth.refresh"


def test_an_empty_scope_removes_it_and_null_keeps_what_there_is() -> None:
    auth = McpOAuth(mcp_server_url="https://a.com", expires_at=NOW, refresh=REFRESH)

    def after(**refresh: object) -> McpOAuth:
        change = McpOAuthChange.model_validate({"type": "mcp_oauth", "access_token": None, "refresh": refresh})
        return change.applied(auth)

    assert after(scope="").refresh == REFRESH.model_copy(update={"scope": None})
    assert after(scope=None, refresh_token=None) == auth


def test_what_is_archived_has_no_secrets_and_the_last_twenty_are_kept() -> None:
    state = EMPTY
    for number in range(25):
        state = added(state, number).with_archived(CredentialId(f"vcrd_{number}"), NOW)

    assert [each.credential.id for each in state.credentials] == [f"vcrd_{number}" for number in range(5, 25)]
    assert all(each.sealed == {} for each in state.credentials)
    assert state.active == ()


def test_an_archived_vault_keeps_nothing_sealed() -> None:
    state = added(added(EMPTY, 1), 2).archived(NOW)

    assert all(each == CredentialEntry(credential=each.credential) for each in state.credentials)
    assert state.archived(NOW + timedelta(hours=1)) is state


def test_only_secrets_that_are_still_the_same_are_sealed_anew() -> None:
    state = added(added(EMPTY, 1), 2)
    wanted = ResealedCredential(credential_id=CredentialId("vcrd_1"), generation=0, sealed={"token": "s1.new"})

    after = state.with_resealed(wanted)

    assert [each.sealed["token"] for each in after.credentials] == ["s1.new", "s1.2"]
    assert [each.generation for each in after.credentials] == [0, 0]
    assert [each.credential for each in after.credentials] == [each.credential for each in state.credentials]
    change = ChangeCredentialInput(
        credential_id=CredentialId("vcrd_1"), change=CredentialChange(), sealed={"token": "s1.other"}
    )
    changed = state.with_change(change, NOW)
    assert changed.with_resealed(wanted) is changed
    archived = state.with_archived(CredentialId("vcrd_1"), NOW)
    assert archived.with_resealed(wanted) is archived
    assert EMPTY.with_resealed(wanted) is EMPTY
    assert state.with_resealed(wanted.model_copy(update={"sealed": {}})) is state
