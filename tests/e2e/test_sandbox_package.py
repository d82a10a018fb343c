"""Packages of an environment in sessions of bubblewrap, from an index of the test that wants a password."""

import os
import shutil
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.sandbox.egress.conftest import Network
from tests.sandbox.package_index import Index

from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import (
    AgentToolset,
    CloudConfig,
    EnvironmentDefinition,
    InvalidRequestError,
    LimitedNetwork,
    Packages,
    PermissionPolicy,
    text_of,
)
from sojourn.types.agent import ToolOptions
from sojourn.types.event import AgentToolResult, SessionErrorEvent
from sojourn.worker import WorkerOptions

if TYPE_CHECKING:
    from tests.conftest import Probe, Stage

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None and not os.environ.get("CI"), reason="no bubblewrap")

TOOLS = AgentToolset(configs=tuple(ToolOptions(name=name, enabled=False) for name in ("web_fetch", "web_search")))
NETWORK = LimitedNetwork(allow_package_managers=True)
HAS_NPM = shutil.which("npm") is not None


@pytest.fixture
async def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Index, None]:
    """What pip and npm of the worker are set up for."""
    network = Network(tmp_path / "network")
    # Not 127.0.0.1, which is the sandbox itself for programs in it.
    host = await network.host(tls="127.0.0.2", address="127.0.0.2")
    host.answer = index = Index(f"https://127.0.0.2:{host.port}")
    # In a tunnel to an address npm takes no certificate, not even one for that address.
    plain = await network.host(address="127.0.0.2")
    plain.answer = Index(f"http://127.0.0.2:{plain.port}")
    for name in [name for name in os.environ if name.upper().startswith(("PIP_", "NPM_CONFIG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"https://user:pass%20word@127.0.0.2:{host.port}/simple/")
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.2:{plain.port}/npm/")
    monkeypatch.setenv("SSL_CERT_FILE", str(network.others.bundle))
    monkeypatch.setenv("SOJOURN_PRIVATE_HOSTS", "127.0.0.2")
    try:
        yield index
    finally:
        await network.close()


async def played(stage: "Stage", folder: Path, packages: Packages, *commands: str) -> "Probe":
    """A session of such an environment, after a turn with these commands."""
    script = [ScriptedTurn(calls=[ScriptedCall("bash", {"command": each})]) for each in commands]
    options = WorkerOptions(sandbox="bubblewrap", workspaces=folder, graceful_shutdown=timedelta(0))
    await stage.work((*script, ScriptedTurn(text="done")), options=options)
    config = CloudConfig(networking=NETWORK, packages=packages)
    environment = await stage.runtime.create_environment(EnvironmentDefinition(name="packed", config=config))
    agent = await stage.agent(TOOLS, policy=PermissionPolicy(default="allow"))
    probe = await stage.open(agent, environment_id=environment.id)
    await probe.session.send("go")
    await probe.idle()
    return probe


def told(probe: "Probe") -> list[str]:
    return [text_of(each.content) for each in probe.of(AgentToolResult)]


async def test_packages_are_there_before_the_first_command(stage: "Stage", index: Index, tmp_path: Path) -> None:
    packages = Packages(pip=("tiny-one==1.0",), npm=("tiny-js",) if HAS_NPM else ())
    from_javascript = "tiny-js; node -e 'require(\"tiny-js\")'"

    probe = await played(
        stage,
        tmp_path / "spaces",
        packages,
        "python3 -c 'import tiny_one; tiny_one.main()'; tiny_one",
        from_javascript if HAS_NPM else "true",
        "env | sort",
    )

    python, javascript, env = told(probe)
    assert python.splitlines() == ["it runs", "it runs"]
    assert javascript.splitlines() == (["js", "js"] if HAS_NPM else [])
    assert "PIP_INDEX_URL=https://user:sojourn-registry-" in env
    assert "pass%20word" not in env
    assert not probe.of(SessionErrorEvent)


async def test_a_package_that_does_not_exist_is_told_by_session_and_tool(
    stage: "Stage", index: Index, tmp_path: Path
) -> None:
    probe = await played(stage, tmp_path / "spaces", Packages(pip=("no-such-thing",)), "echo never > ran")

    (said,) = probe.of(SessionErrorEvent)
    assert said.error.type == "packages_error"
    assert "no-such-thing" in said.error.message
    assert "it may reach 127.0.0.2" in said.error.message
    (result,) = probe.of(AgentToolResult)
    assert result.is_error
    assert "no-such-thing" in text_of(result.content)
    assert not list((tmp_path / "spaces").rglob("workspace/ran"))


async def test_a_session_with_packages_of_apt_is_refused_at_its_start(stage: "Stage", tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="'bubblewrap' cannot install packages with apt, only with npm, pip"):
        await played(stage, tmp_path / "spaces", Packages(apt=("jq",), pip=("tiny-one",)))
