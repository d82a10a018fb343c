"""Vaults and credentials from create to delete, on a real server."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr
from temporalio.client import WorkflowHistory
from temporalio.service import RPCError

from sojourn.activities.sealed import Secrets, read_vault
from sojourn.types import (
    Credential,
    CredentialArchivedError,
    CredentialChange,
    CredentialDefinition,
    CredentialExistsError,
    CredentialKeyTakenError,
    CredentialLimitError,
    CredentialNotFoundError,
    EnvironmentVariableChange,
    InjectionLocationChange,
    InvalidRequestError,
    LimitedHosts,
    McpOAuthChange,
    NewConfidentialClient,
    NewEnvironmentVariable,
    NewMcpOAuth,
    NewOAuthRefresh,
    NewStaticBearer,
    OAuthRefreshChange,
    Owner,
    Sealer,
    SecretError,
    StaticBearerChange,
    Vault,
    VaultArchivedError,
    VaultChange,
    VaultDefinition,
    VaultExistsError,
    VaultKeyMissingError,
    VaultNotFoundError,
    WorkerUnavailableError,
)
from sojourn.types.chain import is_missing
from sojourn.types.seal import KEYS_VARIABLE
from sojourn.types.vault import ResealReport
from sojourn.worker import WorkerOptions

if TYPE_CHECKING:
    from tests.conftest import Eventually, Stage

SEALER = Sealer({"test": b"t" * 32})
TEAM = VaultDefinition(display_name="team", metadata={"a": "1"})
URL = "https://mcp.example.com/mcp"


def bearer(url: str = URL, token: str = "plain-bearer-token") -> CredentialDefinition:
    return CredentialDefinition(auth=NewStaticBearer(mcp_server_url=url, token=SecretStr(token)))


def variable(name: str = "GITHUB_TOKEN", value: str = "plain-variable-value") -> CredentialDefinition:
    hosts = LimitedHosts(allowed_hosts=("api.example.com",))
    return CredentialDefinition(
        auth=NewEnvironmentVariable(secret_name=name, secret_value=SecretStr(value), networking=hosts)
    )


def oauth(url: str = URL, **refresh: Any) -> CredentialDefinition:
    client = NewConfidentialClient(type="client_secret_post", client_secret=SecretStr("plain-client-secret"))
    return CredentialDefinition(
        display_name="tracker",
        auth=NewMcpOAuth(
            mcp_server_url=url,
            access_token=SecretStr("plain-access-token"),
            expires_at=datetime.now(UTC) + timedelta(hours=1),
            refresh=NewOAuthRefresh(
                token_endpoint="https://login.example.com/token",
                client_id="sojourn",
                refresh_token=SecretStr("plain-refresh-token"),
                token_endpoint_auth=client,
                **refresh,
            ),
        ),
    )


@pytest.fixture
def sealed(stage: "Stage", monkeypatch: pytest.MonkeyPatch) -> "Stage":
    """The stage with a key, for its runtime alone."""
    monkeypatch.delenv(KEYS_VARIABLE, raising=False)
    stage.runtime = stage.another_runtime(sealer=SEALER)
    return stage


async def opened(stage: "Stage", vault: Vault, sealer: Sealer = SEALER) -> list[dict[str, str]]:
    """What a worker finds in a vault: the secrets of its active credentials."""
    workspace = stage.owner.workspace
    state = await read_vault(stage.client, workspace, vault.id)
    assert state is not None
    secrets = Secrets(sealer)
    return [
        {name: secrets.open(workspace, entry, name).get_secret_value() for name in entry.sealed}
        for entry in state.credentials
    ]


async def histories(stage: "Stage", vault: Vault) -> list[WorkflowHistory]:
    """Every run of a vault that the server still has, the latest first."""
    id = f"{stage.owner.workspace}/{vault.id}"
    found: list[WorkflowHistory] = []
    run_id: str | None = None
    while run_id != "":
        try:
            found.append(await stage.client.get_workflow_handle(id, run_id=run_id).fetch_history())
        except RPCError as error:
            if not is_missing(error):
                raise
            break
        started = found[-1].events[0].workflow_execution_started_event_attributes
        run_id = started.continued_execution_run_id
    return found


# --- vaults --------------------------------------------------------------------------------------------------------


async def test_a_vault_is_stored_and_read_without_a_worker(stage: "Stage", eventually: "Eventually") -> None:
    made = await stage.runtime.create_vault(TEAM)

    assert made.id.startswith("vlt_")
    assert (made.display_name, made.metadata, made.archived_at) == ("team", {"a": "1"}, None)
    assert await stage.runtime.get_vault(made.id) == made
    assert (await stage.runtime.list_credentials(made)).data == []

    async def listed() -> bool:
        return list((await stage.runtime.list_vaults()).data) == [made]

    await eventually(listed, "the vault is listed as it was made")


async def test_a_vault_of_another_workspace_does_not_exist(stage: "Stage") -> None:
    made = await stage.runtime.create_vault(TEAM)

    with pytest.raises(VaultNotFoundError):
        await stage.runtime.get_vault(made, owner=Owner("other", "ada"))


async def test_an_id_is_taken_once(stage: "Stage") -> None:
    await stage.runtime.create_vault(TEAM, vault_id="vlt_mine")

    with pytest.raises(VaultExistsError):
        await stage.runtime.create_vault(TEAM, vault_id="vlt_mine")
    with pytest.raises(InvalidRequestError):
        await stage.runtime.create_vault(TEAM, vault_id="env_mine")


async def test_a_vault_changes_and_is_archived(sealed: "Stage", eventually: "Eventually") -> None:
    await sealed.work()
    runtime = sealed.runtime
    made = await runtime.create_vault(TEAM)
    credential = await runtime.create_credential(made, bearer())

    changed = await runtime.update_vault(made, VaultChange(display_name="crew", metadata={"a": None, "b": "2"}))
    same = await runtime.update_vault(made, VaultChange(display_name="crew"))
    archived = await runtime.archive_vault(made)

    assert (changed.display_name, changed.metadata) == ("crew", {"b": "2"})
    assert same == changed
    assert archived.archived_at is not None
    assert await runtime.archive_vault(made) == archived == await runtime.get_vault(made)
    assert (await runtime.get_credential(made, credential)).archived_at is not None
    assert await opened(sealed, made) == []
    with pytest.raises(VaultArchivedError):
        await runtime.update_vault(made, VaultChange(display_name="x"))
    with pytest.raises(VaultArchivedError):
        await runtime.create_credential(made, bearer("https://other.example.com"))

    async def listed() -> bool:
        shown = (await runtime.list_vaults()).data
        every = (await runtime.list_vaults(include_archived=True)).data
        return list(shown) == [] and list(every) == [archived]

    await eventually(listed, "only the full list shows the archived vault")


async def test_a_deleted_vault_is_gone_with_its_history(sealed: "Stage", eventually: "Eventually") -> None:
    await sealed.work()
    made = await sealed.runtime.create_vault(TEAM)
    await sealed.runtime.create_credential(made, bearer())

    await sealed.runtime.delete_vault(made)

    with pytest.raises(VaultNotFoundError):
        await sealed.runtime.get_vault(made)
    with pytest.raises(VaultNotFoundError):
        await sealed.runtime.delete_vault(made)
    assert await read_vault(sealed.client, sealed.owner.workspace, made.id) is None

    async def forgotten() -> bool:
        return await histories(sealed, made) == []

    await eventually(forgotten, "the server has forgotten the vault")


async def test_without_a_worker_a_change_says_so(stage: "Stage") -> None:
    made = await stage.runtime.create_vault(TEAM)

    with pytest.raises(WorkerUnavailableError):
        await stage.runtime.update_vault(made, VaultChange(display_name="x"))


# --- credentials ---------------------------------------------------------------------------------------------------


async def test_credentials_show_everything_but_their_secrets(sealed: "Stage") -> None:
    await sealed.work()
    runtime = sealed.runtime
    made = await runtime.create_vault(TEAM)

    token = await runtime.create_credential(made, oauth(scope="read", resource="https://mcp.example.com"))
    secret = await runtime.create_credential(made, variable())
    static = await runtime.create_credential(made, bearer("https://two.example.com"))

    assert token.id.startswith("vcrd_")
    assert token.auth.model_dump(exclude={"expires_at"}) == {
        "type": "mcp_oauth",
        "mcp_server_url": URL,
        "refresh": {
            "token_endpoint": "https://login.example.com/token",
            "client_id": "sojourn",
            "scope": "read",
            "resource": "https://mcp.example.com",
            "token_endpoint_auth": {"type": "client_secret_post"},
        },
    }
    assert secret.auth.model_dump() == {
        "type": "environment_variable",
        "secret_name": "GITHUB_TOKEN",
        "networking": {"type": "limited", "allowed_hosts": ("api.example.com",)},
        "injection_location": {"header": True, "body": True},
    }
    listed = await runtime.list_credentials(made, limit=2)
    rest = await runtime.list_credentials(made, limit=2, page=listed.next_page)
    assert [*listed.data, *rest.data] == [static, secret, token]
    assert rest.next_page is None
    first, second, third = await opened(sealed, made)
    assert first == {
        "access_token": "plain-access-token",
        "refresh_token": "plain-refresh-token",
        "client_secret": "plain-client-secret",
    }
    assert (second["secret_value"], third) == ("plain-variable-value", {"token": "plain-bearer-token"})


async def test_a_key_is_taken_once_among_active_credentials(sealed: "Stage") -> None:
    await sealed.work()
    runtime = sealed.runtime
    made = await runtime.create_vault(TEAM)
    first = await runtime.create_credential(made, bearer("https://MCP.example.com:443/mcp/"))
    await runtime.create_credential(made, variable())

    with pytest.raises(CredentialKeyTakenError) as error:
        await runtime.create_credential(made, oauth("https://mcp.EXAMPLE.com/mcp"))
    assert error.value.credential_id == first.id
    with pytest.raises(CredentialKeyTakenError):
        await runtime.create_credential(made, variable())

    await runtime.create_credential(made, bearer("https://mcp.example.com/MCP"))
    await runtime.archive_credential(made, first)
    again = await runtime.create_credential(made, oauth())
    assert again.archived_at is None


async def test_of_many_who_want_a_key_at_once_one_gets_it(sealed: "Stage") -> None:
    await sealed.work()
    made = await sealed.runtime.create_vault(TEAM)

    wanted = [sealed.runtime.create_credential(made, bearer(token=f"plain-{n}")) for n in range(8)]
    found = await asyncio.gather(*wanted, return_exceptions=True)

    assert sum(isinstance(each, Credential) for each in found) == 1
    assert sum(isinstance(each, CredentialKeyTakenError) for each in found) == 7


async def test_a_vault_takes_twenty_active_credentials(sealed: "Stage") -> None:
    await sealed.work()
    runtime = sealed.runtime
    made = await runtime.create_vault(TEAM)
    for number in range(20):
        await runtime.create_credential(made, variable(f"NAME_{number}"), credential_id=f"vcrd_{number}")

    with pytest.raises(CredentialLimitError):
        await runtime.create_credential(made, variable("ONE_MORE"))
    with pytest.raises(CredentialExistsError):
        await runtime.create_credential(made, variable("ONE_MORE"), credential_id="vcrd_3")

    await runtime.archive_credential(made, "vcrd_3")
    assert (await runtime.create_credential(made, variable("ONE_MORE"))).auth.key == "ONE_MORE"
    assert len((await runtime.list_credentials(made, limit=100)).data) == 20
    assert len((await runtime.list_credentials(made, limit=100, include_archived=True)).data) == 21


async def test_secrets_are_replaced_and_what_is_left_out_stays(sealed: "Stage") -> None:
    await sealed.work()
    runtime = sealed.runtime
    made = await runtime.create_vault(TEAM)
    token, secret = await runtime.create_credential(made, oauth()), await runtime.create_credential(made, variable())
    before = (await opened(sealed, made))[1]

    refresh = OAuthRefreshChange(refresh_token=SecretStr("plain-second"), scope="write")
    change = McpOAuthChange(type="mcp_oauth", access_token=SecretStr("plain-third"), expires_at=None, refresh=refresh)
    renamed = await runtime.update_credential(
        made, token, CredentialChange(auth=change, display_name=None, metadata={"k": "v"})
    )
    places = InjectionLocationChange(body=False)
    moved = await runtime.update_credential(
        made,
        secret,
        CredentialChange(
            auth=EnvironmentVariableChange(
                type="environment_variable", secret_value=SecretStr("plain-new"), injection_location=places
            )
        ),
    )

    assert (renamed.display_name, renamed.metadata) == (None, {"k": "v"})
    assert renamed.auth.model_dump()["expires_at"] is None
    assert renamed.auth.model_dump()["refresh"]["scope"] == "write"
    assert moved.auth.model_dump()["injection_location"] == {"header": True, "body": False}
    assert renamed.updated_at > token.updated_at
    assert await opened(sealed, made) == [
        {"access_token": "plain-third", "refresh_token": "plain-second", "client_secret": "plain-client-secret"},
        {"secret_value": "plain-new", "placeholder_key": before["placeholder_key"]},
    ]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (StaticBearerChange(type="static_bearer", token=SecretStr("x")), "auth.type"),
        (
            EnvironmentVariableChange(
                type="environment_variable", injection_location=InjectionLocationChange(header=False, body=False)
            ),
            "auth.injection_location",
        ),
    ],
)
async def test_a_change_that_cannot_be_is_refused(sealed: "Stage", change: Any, path: str) -> None:
    await sealed.work()
    made = await sealed.runtime.create_vault(TEAM)
    secret = await sealed.runtime.create_credential(made, variable())

    with pytest.raises(InvalidRequestError) as error:
        await sealed.runtime.update_credential(made, secret, CredentialChange(auth=change))
    assert error.value.param == path


async def test_a_time_that_is_over_is_refused(sealed: "Stage") -> None:
    made = await sealed.runtime.create_vault(TEAM)
    auth = NewMcpOAuth(mcp_server_url=URL, access_token=SecretStr("x"), expires_at=datetime(2020, 1, 1, tzinfo=UTC))

    with pytest.raises(InvalidRequestError) as error:
        await sealed.runtime.create_credential(made, CredentialDefinition(auth=auth))
    assert error.value.param == "auth.expires_at"


async def test_a_credential_is_archived_and_deleted_with_the_history_of_its_secrets(
    sealed: "Stage", eventually: "Eventually"
) -> None:
    await sealed.work()
    runtime = sealed.runtime
    made = await runtime.create_vault(TEAM)
    first = await runtime.create_credential(made, bearer())
    kept = await runtime.create_credential(made, variable())
    texts = [text for text in (await _sealed(sealed, made)) if text]

    archived = await runtime.archive_credential(made, first)

    assert archived.archived_at is not None
    assert await runtime.archive_credential(made, first) == archived
    with pytest.raises(CredentialArchivedError):
        await runtime.update_credential(made, first, CredentialChange(display_name="x"))

    await runtime.delete_credential(made, kept)
    await runtime.delete_credential(made, first)
    for each in (first, kept):
        with pytest.raises(CredentialNotFoundError):
            await runtime.get_credential(made, each)
    with pytest.raises(CredentialNotFoundError):
        await runtime.delete_credential(made, first)
    assert texts

    async def forgotten() -> bool:
        whole = "".join([each.to_json() for each in await histories(sealed, made)])
        return not any(text in whole for text in texts)

    await eventually(forgotten, "no sealed secret is left on the server")


async def _sealed(stage: "Stage", vault: Vault) -> list[str]:
    state = await read_vault(stage.client, stage.owner.workspace, vault.id)
    assert state is not None
    return [text for entry in state.credentials for text in entry.sealed.values()]


async def test_archived_credentials_are_kept_for_a_while(sealed: "Stage") -> None:
    await sealed.work()
    made = await sealed.runtime.create_vault(TEAM)
    for number in range(22):
        credential = await sealed.runtime.create_credential(made, variable(), credential_id=f"vcrd_{number}")
        await sealed.runtime.archive_credential(made, credential)

    shown = (await sealed.runtime.list_credentials(made, include_archived=True, limit=100)).data
    assert [each.id for each in shown] == [f"vcrd_{number}" for number in reversed(range(2, 22))]


# --- keys ----------------------------------------------------------------------------------------------------------


async def test_without_a_key_nothing_is_stored(stage: "Stage", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEYS_VARIABLE, raising=False)
    await stage.work()
    made = await stage.runtime.create_vault(TEAM)

    with pytest.raises(VaultKeyMissingError) as error:
        await stage.runtime.create_credential(made, bearer())
    assert KEYS_VARIABLE in str(error.value)
    assert (await stage.runtime.list_credentials(made)).data == []


async def test_what_an_old_key_has_sealed_opens_after_a_rotation(sealed: "Stage") -> None:
    await sealed.work()
    made = await sealed.runtime.create_vault(TEAM)
    await sealed.runtime.create_credential(made, bearer())
    both = Sealer({"next": b"n" * 32, "test": b"t" * 32})
    await sealed.another_runtime(sealer=both).create_credential(made, bearer("https://two.example.com"))

    assert [each["token"] for each in await opened(sealed, made, both)] == ["plain-bearer-token"] * 2
    with pytest.raises(SecretError):
        await opened(sealed, made)


async def test_resealed_secrets_need_the_old_key_no_more(
    stage: "Stage", monkeypatch: pytest.MonkeyPatch, eventually: "Eventually"
) -> None:
    monkeypatch.delenv(KEYS_VARIABLE, raising=False)
    both = Sealer({"next": b"n" * 32, "test": b"t" * 32})
    await stage.work(options=WorkerOptions(graceful_shutdown=timedelta(0), sealer=both))
    old, runtime = stage.another_runtime(sealer=SEALER), stage.another_runtime(sealer=both)
    made = await runtime.create_vault(TEAM)
    before = [await old.create_credential(made, each) for each in (oauth(), variable())]
    new = await runtime.create_credential(made, bearer("https://two.example.com"))
    # Which leaves the key of its placeholder as the old key has sealed it.
    change = EnvironmentVariableChange(type="environment_variable", secret_value=SecretStr("plain-new"))
    await runtime.update_credential(made, before[1], CredentialChange(auth=change))
    texts, secrets = await _sealed(stage, made), await opened(stage, made, both)

    report, again = await runtime.reseal_vault(made), await runtime.reseal_vault(made)

    assert report == ResealReport(resealed=tuple(each.id for each in before))
    assert again == ResealReport()
    assert await opened(stage, made, Sealer({"next": b"n" * 32})) == secrets
    assert await runtime.get_credential(made, new) == new
    assert await runtime.get_credential(made, before[0]) == before[0]

    async def forgotten() -> bool:
        whole = "".join([each.to_json() for each in await histories(stage, made)])
        return not any(text in whole for text in texts if text.startswith("s1.test."))

    await eventually(forgotten, "nothing that the old key has sealed is left on the server")


async def test_what_does_not_open_is_told_and_stays(stage: "Stage", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEYS_VARIABLE, raising=False)
    new = Sealer({"next": b"n" * 32})
    await stage.work(options=WorkerOptions(graceful_shutdown=timedelta(0), sealer=new))
    runtime = stage.another_runtime(sealer=SEALER)
    made = await runtime.create_vault(TEAM)
    credential = await runtime.create_credential(made, bearer())

    report = await runtime.reseal_vault(made)

    assert not report.resealed
    assert "vault key 'test', which this process does not have" in report.failures[credential.id]
    assert (await opened(stage, made))[0]["token"] == "plain-bearer-token"


# --- nothing in the clear ------------------------------------------------------------------------------------------


async def test_no_secret_is_in_a_history_or_a_memo_or_shown(sealed: "Stage", caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    await sealed.work()
    runtime = sealed.runtime
    made = await runtime.create_vault(TEAM)
    definitions = [bearer("https://two.example.com"), variable(), oauth()]
    for definition in definitions:
        await runtime.create_credential(made, definition)
    change = StaticBearerChange(type="static_bearer", token=SecretStr("plain-other"))
    static = (await runtime.list_credentials(made)).data[-1]
    await runtime.update_credential(made, static, CredentialChange(auth=change))

    whole = "".join([each.to_json() for each in await histories(sealed, made)])
    events = [event.SerializeToString() for each in await histories(sealed, made) for event in each.events]
    described = (await sealed.client.get_workflow_handle(f"{sealed.owner.workspace}/{made.id}").describe()).raw_info

    assert whole
    for text in (whole, caplog.text, repr(definitions), str(definitions), repr(change), change.model_dump_json()):
        assert "plain-" not in text
    assert not any(b"plain-" in each for each in events)
    assert b"plain-" not in described.SerializeToString()
    assert b"s1.test." not in described.SerializeToString()
