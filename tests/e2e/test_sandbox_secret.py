"""Secret variables of a vault in a sandbox of bubblewrap: the agent has placeholders, allowed hosts get the values."""

import gzip
import json
import os
import shutil
from collections.abc import AsyncGenerator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr
from tests.sandbox.egress.conftest import Answer, Network, Seen

from sojourn.client import AgentRuntime
from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import (
    AgentToolset,
    CredentialDefinition,
    EnvironmentDefinition,
    InjectionLocation,
    LimitedHosts,
    NewEnvironmentVariable,
    PermissionPolicy,
    Sealer,
    Vault,
    VaultDefinition,
    text_of,
)
from sojourn.types.agent import ToolOptions
from sojourn.types.event import AgentToolResult
from sojourn.types.payload import store_of
from sojourn.types.seal import KEYS_VARIABLE
from sojourn.worker import WorkerOptions

if TYPE_CHECKING:
    from tests.conftest import Eventually, Probe, Stage

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None and not os.environ.get("CI"), reason="no bubblewrap")

SEALER = Sealer({"test": b"t" * 32})
IN_HEADER, IN_BODY = "plain-header-secret", "plain-body-secret"
TOOLS = AgentToolset(configs=tuple(ToolOptions(name=name, enabled=False) for name in ("web_fetch", "web_search")))

SEND = """
import json, os, sys, urllib.error, urllib.request

header, body = os.environ["HEADER_TOKEN"], os.environ["BODY_TOKEN"]
for url in sys.argv[1:]:
    data = json.dumps({"header": header, "body": body}).encode()
    headers = {"Authorization": f"Bearer {header}", "X-Body": body, "Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as answer:
            print(answer.read().decode())
    except urllib.error.HTTPError as error:
        print("status", error.code)
"""
"""Sends both secrets in both places, and shows what comes back."""


@pytest.fixture
async def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Network, None]:
    """Hosts that have certificates which the worker trusts, at addresses that the operator allows."""
    network = Network(tmp_path / "network")
    monkeypatch.delenv(KEYS_VARIABLE, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(network.others.bundle))
    # Not 127.0.0.1, which is the sandbox itself for programs in it.
    monkeypatch.setenv("SOJOURN_PRIVATE_HOSTS", "127.0.0.2,127.0.0.3")
    try:
        yield network
    finally:
        await network.close()


def echo(seen: Seen) -> Answer:
    """Says what it was sent, secrets too."""
    return Answer([], [json.dumps(seen.headers).encode(), seen.body])


def bash(command: str) -> ScriptedCall:
    return ScriptedCall("bash", {"command": command})


def variable(name: str, value: str, *, header: bool = False, body: bool = False) -> CredentialDefinition:
    return CredentialDefinition(
        auth=NewEnvironmentVariable(
            secret_name=name,
            secret_value=SecretStr(value),
            networking=LimitedHosts(allowed_hosts=("127.0.0.2",)),
            injection_location=InjectionLocation(header=header, body=body),
        )
    )


async def _vault(runtime: AgentRuntime) -> Vault:
    vault = await runtime.create_vault(VaultDefinition(display_name="team"))
    await runtime.create_credential(vault, variable("HEADER_TOKEN", IN_HEADER, header=True))
    await runtime.create_credential(vault, variable("BODY_TOKEN", IN_BODY, body=True))
    return vault


async def test_a_secret_reaches_its_host_and_nothing_else(
    stage: "Stage",
    network: Network,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    eventually: "Eventually",
) -> None:
    caplog.set_level("DEBUG")
    allowed = await network.host(tls="127.0.0.2", address="127.0.0.2")
    other = await network.host(tls="127.0.0.3", address="127.0.0.3")
    plain = await network.host(address="127.0.0.2")
    allowed.answer = other.answer = plain.answer = echo
    urls = f"https://127.0.0.2:{allowed.port} https://127.0.0.3:{other.port} http://127.0.0.2:{plain.port}"
    script = (
        ScriptedTurn(calls=[ScriptedCall("write", {"file_path": "/workspace/send.py", "content": SEND})]),
        ScriptedTurn(calls=[bash('env > env.txt; printf "%s\\n" "$HEADER_TOKEN" "$BODY_TOKEN"')]),
        ScriptedTurn(calls=[bash(f"python3 send.py {urls} | tee answers.txt")]),
        ScriptedTurn(text="done"),
    )
    options = WorkerOptions(
        sandbox="bubblewrap", workspaces=tmp_path / "spaces", graceful_shutdown=timedelta(0), sealer=SEALER
    )
    await stage.work(script, options=options)
    stage.runtime = stage.another_runtime(sealer=SEALER)
    vault = await _vault(stage.runtime)
    environment = await stage.runtime.create_environment(EnvironmentDefinition(name="cloud"))
    agent = await stage.agent(TOOLS, policy=PermissionPolicy(default="allow"))
    probe = await stage.open(agent, environment_id=environment.id, vault_ids=[vault.id])

    await probe.session.send("go")
    await probe.idle()

    header, body = (each.strip() for each in told(probe)[1].split())
    assert header.startswith("sojourn-secret-")
    assert body.startswith("sojourn-secret-")
    assert sent(allowed.seen) == [(f"Bearer {IN_HEADER}", body, {"header": header, "body": IN_BODY})]
    unchanged = [(f"Bearer {header}", body, {"header": header, "body": body})]
    assert sent(other.seen) == sent(plain.seen) == unchanged
    assert told(probe)[2].count(header) == told(probe)[2].count(body) == 6

    store = store_of(stage.client)
    assert store is not None

    async def stored() -> bool:
        return bool([path async for path in store.paths(f"sessions/{probe.workflow_id}/workspaces")])

    await eventually(stored, "a checkpoint of the workspace")
    workspace, objects = list(files(tmp_path / "spaces")), list(files(Path(store.url.removeprefix("file://"))))
    # What is looked through is what holds the session's files.
    assert all(any(header.encode() in each for each in place) for place in (workspace, objects))
    kept = workspace + objects
    kept += [await history(stage, id) for id in (probe.workflow_id, f"{stage.owner.workspace}/{vault.id}")]
    kept += [caplog.text.encode(), *(each.model_dump_json().encode() for each in probe.log)]
    assert not [each for each in kept if IN_HEADER.encode() in each or IN_BODY.encode() in each]


def told(probe: "Probe") -> list[str]:
    return [text_of(each.content) for each in probe.of(AgentToolResult)]


def sent(requests: list[Seen]) -> list[tuple[str | None, str | None, object]]:
    return [(each.header("authorization"), each.header("x-body"), json.loads(each.body)) for each in requests]


def files(folder: Path) -> Iterator[bytes]:
    """Every file below a folder, checkpoints unpacked."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            yield gzip.decompress(data) if path.suffix == ".gz" else data


async def history(stage: "Stage", workflow_id: str) -> bytes:
    found = await stage.client.get_workflow_handle(workflow_id).fetch_history()
    return b"".join(event.SerializeToString() for event in found.events)
