"""The way out of a session's sandbox, and the secrets on it."""

import tempfile
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest
from tests.sandbox.egress.conftest import Network, Way

from sojourn.activities.egress import Egress
from sojourn.sandbox.address import PrivateHosts
from sojourn.sandbox.egress import EgressPolicy, EgressProxy, SecretVariable
from sojourn.sandbox.registry import Registries
from sojourn.types.agent import AgentDefinition, AgentVersion
from sojourn.types.environment import CloudConfig
from sojourn.types.id import AgentId, SessionId, VaultId
from sojourn.types.model import ModelRef
from sojourn.types.session import Owner, SessionInput
from sojourn.types.vault_error import VaultUnavailableError

HOST = "127.0.0.2"
PLACE = "sojourn-secret-0123456789abcdef"


@pytest.fixture
async def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Network, None]:
    network = Network(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(network.others.bundle))
    try:
        yield network
    finally:
        await network.close()


class FakeVaults:
    """What the vaults of the session hold."""

    def __init__(self, *values: str) -> None:
        self.values = values
        self.away = False

    async def __call__(self, start: SessionInput) -> Sequence[SecretVariable]:
        if self.away:
            raise VaultUnavailableError(VaultId("vlt_1"), reason="nobody is there")
        return [SecretVariable("TOKEN", PLACE, value, allowed_hosts=(HOST,)) for value in self.values]


async def test_a_secret_that_changes_or_goes_does_so_for_a_running_sandbox(network: Network) -> None:
    host = await network.host(tls=HOST, address=HOST)
    vaults = FakeVaults("the-first-value")

    async def registries() -> Registries:
        return Registries()

    with tempfile.TemporaryDirectory(prefix="eg") as sockets:
        egress = Egress(
            Path(sockets),
            authority=network.authority,
            private=PrivateHosts.parse(HOST),
            registries=registries,
            variables=vaults,
        )
        agent = AgentVersion(
            id=AgentId("agent_1"), version=1, definition=AgentDefinition(name="a", model=ModelRef.of("scripted:echo"))
        )
        start = SessionInput(
            session_id=SessionId("sesn_1"), owner=Owner("acme", "ada"), agent=agent, sandbox=CloudConfig()
        )
        opened = await egress.open(start, owner=None)
        assert opened is not None
        way = Way(network, EgressProxy(EgressPolicy()), opened.socket)
        try:
            for step in range(4):
                if step == 1:
                    vaults.values = ("the-second-value",)
                vaults.away = step == 2
                if step == 3:
                    vaults.values = ()
                async with way.client() as client:
                    await client.get(f"https://{HOST}:{host.port}/", headers={"Authorization": PLACE})
        finally:
            await opened.close()

    assert [each.header("authorization") for each in host.seen] == [
        "the-first-value",
        "the-second-value",
        "the-second-value",
        PLACE,
    ]
