"""What limited networking opens to a sandbox of bubblewrap: registries, MCP servers, and nothing else."""

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.sandbox.egress.conftest import Answer, Host, Network

from sojourn.activities.mcp.option import McpOptions
from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import (
    AgentDefinition,
    AgentToolset,
    CloudConfig,
    EnvironmentDefinition,
    LimitedNetwork,
    McpServer,
    McpToolset,
    ModelRef,
    PermissionPolicy,
    text_of,
)
from sojourn.types.agent import ToolOptions
from sojourn.types.event import AgentToolResult, SessionErrorEvent
from sojourn.worker import WorkerOptions

if TYPE_CHECKING:
    from tests.conftest import Stage

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None and not os.environ.get("CI"), reason="no bubblewrap")

TOOLS = AgentToolset(configs=tuple(ToolOptions(name=name, enabled=False) for name in ("web_fetch", "web_search")))
PYPI, NPM, MORE, SERVER, ELSEWHERE = (f"127.0.0.{number}" for number in range(2, 7))
"""Not 127.0.0.1, which is the sandbox itself for programs in it."""

ASK = """
import socket, sys
for target in sys.argv[1:]:
    with socket.create_connection(("127.0.0.1", 3128)) as proxy:
        proxy.sendall(f"CONNECT {target} HTTP/1.1\\r\\nHost: {target}\\r\\n\\r\\n".encode())
        print(proxy.makefile("rb").readline().decode().strip())
"""
"""What the proxy of the sandbox says to a tunnel to each address."""


@pytest.fixture
async def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[dict[str, Host], None]:
    """Hosts by their addresses. The worker has its registries and the agent its MCP server at some of them."""
    network = Network(tmp_path / "network")
    found = {address: await network.host(address=address) for address in (PYPI, NPM, MORE, SERVER, ELSEWHERE)}
    found[SERVER].answer = lambda seen: Answer(status=404)
    for name in [name for name in os.environ if name.upper().startswith(("PIP_", "NPM_CONFIG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"https://{PYPI}:{found[PYPI].port}/simple/")
    monkeypatch.setenv("npm_config_registry", f"https://{NPM}:{found[NPM].port}/")
    monkeypatch.setenv("SOJOURN_PACKAGE_HOSTS", f"{MORE}:{found[MORE].port}")
    monkeypatch.setenv("SOJOURN_PRIVATE_HOSTS", f"{PYPI},{NPM},{MORE},{SERVER},{ELSEWHERE}")
    try:
        yield found
    finally:
        await network.close()


async def test_limited_networking_opens_what_it_says(stage: "Stage", hosts: dict[str, Host], tmp_path: Path) -> None:
    targets = [f"{address}:{host.port}" for address, host in hosts.items()]
    ask = f"python3 ask.py {' '.join(targets)} {SERVER}:443"
    script = (
        ScriptedTurn(calls=[ScriptedCall("write", {"file_path": "/workspace/ask.py", "content": ASK})]),
        ScriptedTurn(calls=[ScriptedCall("bash", {"command": ask})]),
        ScriptedTurn(text="done"),
    )
    options = WorkerOptions(
        sandbox="bubblewrap", workspaces=tmp_path / "spaces", graceful_shutdown=timedelta(0), mcp=McpOptions.read()
    )
    await stage.work(script, options=options)
    agent = await stage.runtime.create(
        AgentDefinition(
            name="actor",
            model=ModelRef.of("scripted:play"),
            tools=(TOOLS, McpToolset(mcp_server_name="docs")),
            mcp_servers=(McpServer(name="docs", url=f"http://{SERVER}:{hosts[SERVER].port}/mcp"),),
            permission_policy=PermissionPolicy(default="allow"),
        )
    )

    async def asked(name: str, network: LimitedNetwork) -> tuple[list[str], str]:
        """What the proxy says in a session of such an environment, and the session of the server."""
        definition = EnvironmentDefinition(name=name, config=CloudConfig(networking=network))
        environment = await stage.runtime.create_environment(definition)
        probe = await stage.open(agent, environment_id=environment.id)
        await probe.session.send("go")
        await probe.idle()
        return text_of(probe.of(AgentToolResult)[1].content).splitlines(), probe.of(SessionErrorEvent)[0].error.message

    managers, servers, neither = await asyncio.gather(
        asked("managers", LimitedNetwork(allow_package_managers=True)),
        asked("servers", LimitedNetwork(allow_mcp_servers=True)),
        asked("neither", LimitedNetwork()),
    )

    opened = "HTTP/1.1 200 Connection established"
    refused = {
        address: f"HTTP/1.1 403 {address} is not among networking.allowed_hosts of the environment" for address in hosts
    }
    server_port = f"HTTP/1.1 403 port 443 of {SERVER} is closed; limited networking opens {hosts[SERVER].port} of it"
    npm = opened if shutil.which("npm") else refused[NPM]
    closed = [refused[PYPI], refused[NPM], refused[MORE]]
    assert managers[0] == [opened, npm, opened, refused[SERVER], refused[ELSEWHERE], refused[SERVER]]
    assert servers[0] == [*closed, opened, refused[ELSEWHERE], server_port]
    assert neither[0] == [*closed, refused[SERVER], refused[ELSEWHERE], refused[SERVER]]
    assert "set allow_mcp_servers" in managers[1]
    assert "404" in servers[1]
    assert "set allow_mcp_servers" in neither[1]
