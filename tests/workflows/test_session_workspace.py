"""Built-in tools in a session's workspace, on workers with a real sandbox (`local`, which every machine has)."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import AgentToolset, Limits, PermissionPolicy, text_of
from sojourn.types.agent import ToolOptions
from sojourn.worker import SojournWorker, WorkerOptions

DONE = ScriptedTurn(text="done")
FREE = PermissionPolicy(default="allow")
TOOLS = AgentToolset(configs=tuple(ToolOptions(name=name, enabled=False) for name in ("web_fetch", "web_search")))
SOON = Limits(workspace_timeout=timedelta(seconds=2))


def bash(*commands: str) -> ScriptedTurn:
    return ScriptedTurn(calls=[ScriptedCall("bash", {"command": command}) for command in commands])


@dataclass
class Yard:
    """Workers with sandboxes, and an agent that may use the built-in tools."""

    stage: Any
    root: Path
    options: dict[str, Any] = field(default_factory=dict)

    async def worker(self, *turns: ScriptedTurn, place: str = "a", **options: Any) -> SojournWorker:
        chosen = WorkerOptions(
            sandbox="local",
            workspaces=self.root / place,
            graceful_shutdown=timedelta(0),
            cleaning_interval=timedelta(milliseconds=200),
            **self.options,
            **options,
        )
        worker: SojournWorker = await self.stage.work(turns or None, options=chosen)
        return worker

    async def session(self, *, limits: Limits | None = None, **options: Any) -> Any:
        agent = await self.stage.agent(TOOLS, policy=FREE, limits=limits)
        return await self.stage.open(agent, **options)


@pytest.fixture
def yard(stage: Any, tmp_path: Path) -> Yard:
    return Yard(stage, tmp_path / "workspaces")


def told(probe: Any) -> list[str]:
    """The results of all calls, in the order they came."""
    from sojourn.types import AgentToolResult

    return [text_of(each.content) for each in probe.of(AgentToolResult)]


async def test_a_command_runs_in_the_workspace(yard: Yard) -> None:
    await yard.worker(bash("pwd; echo hello > note"), bash("cat note"), DONE)
    probe = await yard.session()

    await probe.session.send("go")
    await probe.idle()

    assert told(probe)[1] == "hello"
