"""What a worker finds in vaults, and how it renews tokens: against a fake authority on loopback."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from sojourn.activities.vault import SecretVariable, VaultReader
from sojourn.sandbox.address import PRIVATE_HOSTS_VARIABLE
from sojourn.testing.authority import FakeAuthority, fake_authority
from sojourn.types import (
    Credential,
    CredentialChange,
    CredentialDefinition,
    LimitedHosts,
    McpAuthenticationError,
    McpOAuthChange,
    NewConfidentialClient,
    NewEnvironmentVariable,
    NewMcpOAuth,
    NewOAuthRefresh,
    NewPublicClient,
    NewStaticBearer,
    Sealer,
    StaticBearerChange,
    Vault,
    VaultDefinition,
    VaultId,
    VaultUnavailableError,
)
from sojourn.types.agent import AgentDefinition, AgentVersion
from sojourn.types.environment import UnrestrictedNetwork
from sojourn.types.id import AgentId, new_session_id
from sojourn.types.model import ModelRef
from sojourn.types.seal import KEYS_VARIABLE
from sojourn.types.session import SessionInput
from sojourn.worker import WorkerOptions

SEALER = Sealer({"test": b"t" * 32})
CLIENTS: dict[str, Any] = {
    "none": NewPublicClient(type="none"),
    "client_secret_basic": NewConfidentialClient(type="client_secret_basic", client_secret=SecretStr("plain/se:cret")),
    "client_secret_post": NewConfidentialClient(type="client_secret_post", client_secret=SecretStr("plain/se:cret")),
}


class Bench:
    """Vaults, a worker that serves them, a reader, and the authority that grants tokens."""

    def __init__(self, stage: Any, authority: FakeAuthority) -> None:
        self.stage = stage
        self.authority = authority
        self.runtime = stage.another_runtime(sealer=SEALER)
        self.reader = self.another_reader()

    def another_reader(self, fresh: timedelta = timedelta(minutes=5)) -> VaultReader:
        return VaultReader(self.stage.client, sealer=SEALER, fresh=fresh)

    async def vault(self) -> Vault:
        made: Vault = await self.runtime.create_vault(VaultDefinition(display_name="team"))
        return made

    async def add(self, vault: Vault, auth: Any) -> Credential:
        made: Credential = await self.runtime.create_credential(vault, CredentialDefinition(auth=auth))
        return made

    def oauth(self, client: str = "none", *, expires_in: int | None = 5, **refresh: Any) -> NewMcpOAuth:
        """A token that has five seconds left, so that it is renewed before it is used."""
        return NewMcpOAuth(
            mcp_server_url=self.authority.mcp_url,
            access_token=SecretStr(self.authority.access_token),
            expires_at=None if expires_in is None else datetime.now(UTC) + timedelta(seconds=expires_in),
            refresh=NewOAuthRefresh(
                token_endpoint=self.authority.token_endpoint,
                client_id="so:journ",
                refresh_token=SecretStr(self.authority.refresh_token),
                token_endpoint_auth=CLIENTS[client],
                **refresh,
            ),
        )

    def session(self, *vaults: Vault | str) -> SessionInput:
        definition = AgentDefinition(name="actor", model=ModelRef.of("scripted:echo"))
        return SessionInput(
            session_id=new_session_id(),
            owner=self.stage.owner,
            agent=AgentVersion(id=AgentId("agent_x"), version=1, definition=definition),
            vault_ids=tuple(VaultId(each if isinstance(each, str) else each.id) for each in vaults),
        )


@pytest.fixture
async def bench(stage: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Bench, None]:
    monkeypatch.delenv(KEYS_VARIABLE, raising=False)
    async with fake_authority() as authority:
        monkeypatch.setenv(PRIVATE_HOSTS_VARIABLE, authority.address)
        await stage.work(options=WorkerOptions(sealer=SEALER, graceful_shutdown=timedelta(0)))
        yield Bench(stage, authority)


def bearer(url: str, token: str) -> NewStaticBearer:
    return NewStaticBearer(mcp_server_url=url, token=SecretStr(token))


def variable(name: str, value: str) -> NewEnvironmentVariable:
    return NewEnvironmentVariable(
        secret_name=name, secret_value=SecretStr(value), networking=LimitedHosts(allowed_hosts=("a.com",))
    )


async def clear_text(bench: Bench, vault: Vault) -> list[bytes]:
    """What of the vault's history holds a secret as it is."""
    handle = bench.stage.client.get_workflow_handle(f"{bench.stage.owner.workspace}/{vault.id}")
    events = [event.SerializeToString() for event in (await handle.fetch_history()).events]
    assert len(events) > 3
    return [each for each in events if b"plain-" in each or b"plain/se" in each]


# --- tokens --------------------------------------------------------------------------------------------------------


async def test_the_first_vault_that_has_a_token_counts(bench: Bench) -> None:
    one, two = await bench.vault(), await bench.vault()
    await bench.add(one, bearer("https://a.com/mcp", "one-a"))
    await bench.add(two, bearer("https://a.com/mcp", "two-a"))
    await bench.add(two, bearer("https://b.com/", "two-b"))
    session = bench.session(one, "vlt_gone", two)

    assert await bench.reader.bearer(session, "HTTPS://A.com:443/mcp/") == "one-a"
    assert await bench.reader.bearer(bench.session(two, one), "https://a.com/mcp") == "two-a"
    assert await bench.reader.bearer(session, "https://b.com") == "two-b"
    for other in ("https://a.com/MCP", "https://a.com", "http://a.com/mcp", "https://a.com:444/mcp", "nonsense"):
        assert await bench.reader.bearer(session, other) is None
    assert await bench.reader.bearer(bench.session(), "https://a.com/mcp") is None


async def test_what_was_read_counts_for_a_while(bench: Bench) -> None:
    vault = await bench.vault()
    made = await bench.add(vault, bearer("https://a.com", "old"))
    session = bench.session(vault)
    eager = bench.another_reader(fresh=timedelta(0))
    assert await bench.reader.bearer(session, "https://a.com") == "old"

    change = StaticBearerChange(type="static_bearer", token=SecretStr("new"))
    await bench.runtime.update_credential(vault, made, CredentialChange(auth=change))

    assert await bench.reader.bearer(session, "https://a.com") == "old"
    assert await eager.bearer(session, "https://a.com") == "new"
    assert await bench.reader.refreshed(session, "https://a.com", rejected="old") == "new"
    with pytest.raises(McpAuthenticationError):
        await bench.reader.refreshed(session, "https://a.com", rejected="new")


async def test_a_vault_that_is_archived_opens_nothing(bench: Bench) -> None:
    vault = await bench.vault()
    await bench.add(vault, bearer("https://a.com", "token"))
    await bench.runtime.archive_vault(vault)

    assert await bench.reader.bearer(bench.session(vault), "https://a.com") is None


@pytest.mark.parametrize("client", CLIENTS)
async def test_an_expired_token_is_renewed(bench: Bench, client: str) -> None:
    bench.authority.client_secret = None if client == "none" else "plain/se:cret"
    vault = await bench.vault()
    made = await bench.add(vault, bench.oauth(client, scope="read write", resource="https://r.com"))

    assert await bench.reader.bearer(bench.session(vault), bench.authority.mcp_url) == "plain-access-1"

    (request,) = bench.authority.grants
    form = request.form
    assert (form.pop("grant_type"), form.pop("refresh_token")) == ("refresh_token", "plain-refresh-0")
    assert (form.pop("scope"), form.pop("resource")) == ("read write", "https://r.com")
    if client == "client_secret_basic":
        assert (request.basic, form) == (("so:journ", "plain/se:cret"), {})
    elif client == "client_secret_post":
        assert (request.basic, form) == (None, {"client_id": "so:journ", "client_secret": "plain/se:cret"})
    else:
        assert (request.basic, form) == (None, {"client_id": "so:journ"})
    now = (await bench.runtime.get_credential(vault, made)).auth.model_dump()
    assert now["expires_at"] > datetime.now(UTC) + timedelta(minutes=50)
    assert not await clear_text(bench, vault)


async def test_a_token_that_the_server_refuses_is_renewed_with_the_token_that_came_with_the_last(bench: Bench) -> None:
    vault = await bench.vault()
    await bench.add(vault, bench.oauth(expires_in=None))
    session, url = bench.session(vault), bench.authority.mcp_url

    assert await bench.reader.bearer(session, url) == "plain-access-0"
    assert await bench.reader.refreshed(session, url) == "plain-access-1"
    assert await bench.reader.refreshed(session, url, rejected="plain-access-1") == "plain-access-2"
    # Somebody who has not heard of it.
    assert await bench.another_reader().refreshed(session, url, rejected="plain-access-0") == "plain-access-2"
    assert await bench.reader.bearer(session, url) == "plain-access-2"
    assert [each.form["refresh_token"] for each in bench.authority.grants] == ["plain-refresh-0", "plain-refresh-1"]


async def test_however_many_want_a_token_it_is_renewed_once(bench: Bench, eventually: Any) -> None:
    vault = await bench.vault()
    await bench.add(vault, bench.oauth())
    readers = [bench.another_reader() for _ in range(6)]
    session = bench.session(vault)
    bench.authority.held.clear()

    asked = [
        asyncio.create_task(reader.bearer(session, bench.authority.mcp_url)) for reader in readers for _ in range(3)
    ]

    async def came() -> bool:
        return bool(bench.authority.grants)

    await eventually(came, "the authority is asked")
    bench.authority.held.set()

    assert set(await asyncio.gather(*asked)) == {"plain-access-1"}
    assert len(bench.authority.grants) == 1


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (400, '{"error":"invalid_grant","refresh_token":"plain-refresh-0"}', "400 (invalid_grant)"),
        (500, "plain-refresh-0 <html>", "500"),
        (302, "", "302"),
        (200, "{}", "no access token"),
        (200, "no JSON plain-new", "no access token"),
        (200, '{"access_token":"plain bad"}', "no access token"),
    ],
)
async def test_a_failure_is_told_without_secrets_and_not_repeated_at_once(
    bench: Bench, status: int, body: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    vault = await bench.vault()
    made = await bench.add(vault, bench.oauth(expires_in=None))
    session, url = bench.session(vault), bench.authority.mcp_url
    bench.authority.answers = [(status, body)] * 3

    for _ in range(2):
        with pytest.raises(McpAuthenticationError) as error:
            await bench.reader.refreshed(session, url, rejected="plain-access-0")

    assert told in str(error.value)
    assert "plain-" not in str(error.value) + caplog.text
    assert "plain bad" not in str(error.value) + caplog.text
    assert not await clear_text(bench, vault)
    assert (error.value.credential_id, error.value.url) == (made.id, url)
    assert len(bench.authority.grants) == 1
    assert await bench.reader.bearer(session, url) == "plain-access-0"


async def test_a_token_whose_end_is_near_is_used_while_it_cannot_be_renewed(bench: Bench) -> None:
    vault = await bench.vault()
    await bench.add(vault, bench.oauth(expires_in=50))
    bench.authority.answers = [(500, "")]

    assert await bench.reader.bearer(bench.session(vault), bench.authority.mcp_url) == "plain-access-0"
    assert len(bench.authority.grants) == 1


async def test_after_a_new_refresh_token_it_is_tried_at_once(bench: Bench) -> None:
    vault = await bench.vault()
    made = await bench.add(vault, bench.oauth(expires_in=None))
    session, url = bench.session(vault), bench.authority.mcp_url
    bench.authority.refresh_token = "plain-by-hand"
    with pytest.raises(McpAuthenticationError):
        await bench.reader.refreshed(session, url, rejected="plain-access-0")

    change = McpOAuthChange.model_validate({"type": "mcp_oauth", "refresh": {"refresh_token": "plain-by-hand"}})
    await bench.runtime.update_credential(vault, made, CredentialChange(auth=change))

    assert await bench.reader.refreshed(session, url, rejected="plain-access-0") == "plain-access-2"


async def test_a_private_address_is_not_asked(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PRIVATE_HOSTS_VARIABLE)
    vault = await bench.vault()
    await bench.add(vault, bench.oauth(expires_in=None))

    with pytest.raises(McpAuthenticationError, match="not public"):
        await bench.reader.refreshed(bench.session(vault), bench.authority.mcp_url, rejected="plain-access-0")
    assert bench.authority.requests == []


async def test_without_the_key_the_failure_says_so(bench: Bench) -> None:
    vault = await bench.vault()
    await bench.add(vault, bearer("https://a.com", "token"))
    await bench.add(vault, variable("NAME", "value"))
    session = bench.session(vault)

    with pytest.raises(McpAuthenticationError, match="no vault key"):
        await VaultReader(bench.stage.client).bearer(session, "https://a.com")
    other = VaultReader(bench.stage.client, sealer=Sealer({"other": b"o" * 32}))
    with pytest.raises(McpAuthenticationError, match="vault key 'test'"):
        await other.bearer(session, "https://a.com")
    assert await other.variables(session) == []


async def test_a_vault_that_is_replayed_at_every_task_does_the_same(bench: Bench) -> None:
    for worker in list(bench.stage.workers):
        await bench.stage.stop(worker)
    await bench.stage.work(options=WorkerOptions(sealer=SEALER, max_cached_sessions=0, graceful_shutdown=timedelta(0)))
    vault = await bench.vault()
    made = await bench.add(vault, bench.oauth(expires_in=None))
    session, url = bench.session(vault), bench.authority.mcp_url

    assert await bench.reader.refreshed(session, url, rejected="plain-access-0") == "plain-access-1"
    assert (await bench.runtime.validate_credential(vault, made)).status == "valid"
    await bench.runtime.archive_credential(vault, made)
    assert await bench.reader.refreshed(session, url) is None


async def test_a_vault_that_cannot_be_read_is_told_and_read_again(bench: Bench) -> None:
    vault = await bench.vault()
    await bench.add(vault, bearer("https://a.com", "token"))
    await bench.add(vault, variable("A", "a"))
    for worker in list(bench.stage.workers):
        await bench.stage.stop(worker)
    hasty = VaultReader(bench.stage.client, sealer=SEALER, patience=timedelta(seconds=1))

    with pytest.raises(McpAuthenticationError, match="cannot be read"):
        await hasty.bearer(bench.session(vault), "https://a.com")
    with pytest.raises(VaultUnavailableError):
        await hasty.variables(bench.session(vault))

    await bench.stage.work(options=WorkerOptions(sealer=SEALER, graceful_shutdown=timedelta(0)))
    assert await bench.reader.bearer(bench.session(vault), "https://a.com") == "token"


# --- variables -----------------------------------------------------------------------------------------------------


async def test_variables_of_all_vaults_the_first_of_a_name(bench: Bench) -> None:
    one, two = await bench.vault(), await bench.vault()
    await bench.add(one, variable("A", "one-a"))
    await bench.add(two, variable("A", "two-a"))
    open_to_all = variable("B", "two\nb").model_copy(update={"networking": UnrestrictedNetwork()})
    await bench.add(two, open_to_all)

    found = {each.name: each for each in await bench.reader.variables(bench.session(one, two))}

    assert {name: each.value.get_secret_value() for name, each in found.items()} == {"A": "one-a", "B": "two\nb"}
    assert found["A"].networking == LimitedHosts(allowed_hosts=("a.com",))
    assert found["B"].networking == UnrestrictedNetwork()
    assert found["B"].injection_location.header
    assert "one-a" not in repr(found)


async def test_a_placeholder_is_the_same_all_through_a_session_and_nowhere_else(bench: Bench) -> None:
    vault = await bench.vault()
    await bench.add(vault, variable("A", "a"))
    await bench.add(vault, variable("B", "a"))
    session = bench.session(vault)

    async def shown(start: SessionInput, reader: VaultReader = bench.reader) -> list[str]:
        return [each.placeholder for each in await reader.variables(start)]

    first = await shown(session)
    newer = Sealer({"newer": b"n" * 32, "test": b"t" * 32})
    rotated = await shown(session, VaultReader(bench.stage.client, sealer=newer))
    others = await shown(bench.session(vault))

    assert first == rotated
    assert len({*first, *others}) == 4
    assert all(each.startswith("sojourn-secret-") and len(each) == 63 for each in first)
    assert isinstance((await bench.reader.variables(session))[0], SecretVariable)
