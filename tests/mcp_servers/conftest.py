"""MCP servers in processes of their own, and agents that use them."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sojourn.activities.mcp.option import McpOptions
from sojourn.sandbox.address import PrivateHosts
from sojourn.testing import Script
from sojourn.types import AgentDefinition, Limits, McpServer, McpToolset, ModelRef, Permission, ToolOptions
from sojourn.worker import WorkerOptions

PROGRAM = Path(__file__).parent / "server.py"
OPTIONS = McpOptions(private_hosts=PrivateHosts.parse("127.0.0.1"))


@dataclass
class Helper:
    """One MCP server, which can be ended and started again at the same port."""

    ledger: Path
    arguments: tuple[str, ...] = ()
    port: int = 0
    process: asyncio.subprocess.Process | None = None
    path: str = "/mcp"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"

    async def start(self, *arguments: str) -> None:
        """Start it, with other arguments than before if some are given."""
        self.arguments = arguments or self.arguments
        words = [str(PROGRAM), "--ledger", str(self.ledger), "--port", str(self.port), *self.arguments]
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, *words, stdout=asyncio.subprocess.PIPE, start_new_session=True
        )
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            self.port = int(await self.process.stdout.readline())

    async def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
        if self.process is not None:
            async with asyncio.timeout(60):
                await self.process.wait()

    async def ended(self) -> None:
        """Wait until it has ended by itself."""
        assert self.process is not None
        async with asyncio.timeout(60):
            await self.process.wait()

    def lines(self) -> list[str]:
        """What it has done."""
        return self.ledger.read_text().splitlines()

    async def did(self, what: str, number: int = 1) -> None:
        """Wait until it has done something so often."""
        async with asyncio.timeout(60):
            while self.lines().count(what) < number:  # noqa: ASYNC110 - a file tells nobody
                await asyncio.sleep(0.05)


StartHelper = Callable[..., Any]


@pytest.fixture
async def helper(tmp_path: Path) -> AsyncGenerator[StartHelper, None]:
    """Starts servers; all are ended after the test."""
    started: list[Helper] = []

    async def start(*arguments: str, path: str = "/mcp") -> Helper:
        ledger = tmp_path / f"ledger-{len(started)}"
        ledger.touch()
        found = Helper(ledger, arguments, path=path)
        started.append(found)
        await found.start()
        return found

    yield start
    for each in started:
        await each.kill()


@dataclass
class Desk:
    """How a test gets a session of an agent with MCP servers."""

    stage: Any
    options: McpOptions = field(default_factory=lambda: OPTIONS)

    def worker_options(self, **changes: Any) -> WorkerOptions:
        return WorkerOptions(graceful_shutdown=timedelta(0), mcp=replace(self.options, **changes))

    async def work(self, script: Script, **changes: Any) -> Any:
        return await self.stage.work(script, options=self.worker_options(**changes))

    async def agent(
        self,
        *servers: McpServer,
        permission: Permission | None = "allow",
        configs: tuple[ToolOptions, ...] = (),
        limits: Limits | None = None,
    ) -> Any:
        default = ToolOptions(permission=permission) if permission else None
        toolsets = [McpToolset(mcp_server_name=each.name, default_config=default, configs=configs) for each in servers]
        return await self.stage.runtime.create(
            AgentDefinition(
                name="actor",
                model=ModelRef.of("scripted:play"),
                tools=toolsets,
                mcp_servers=servers,
                limits=limits or Limits(),
            )
        )

    async def session(self, script: Script, *servers: McpServer, session: Any = None, **agent: Any) -> Any:
        """A worker with the script, an agent with the servers, and a session of it."""
        await self.work(script)
        return await self.stage.open(await self.agent(*servers, **agent), **(session or {}))


@pytest.fixture
def desk(stage: Any) -> Desk:
    return Desk(stage)


def docs(helper: Helper, name: str = "docs") -> McpServer:
    return McpServer(name=name, url=helper.url)
