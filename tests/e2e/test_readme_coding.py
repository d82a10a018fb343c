"""What the README says of the coding agent and of tools in a sandbox."""

import os
import re
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from sojourn.client import AgentRuntime, SessionHandle
from sojourn.sandbox import BubblewrapSandbox
from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.testing.coding_site import coding_site
from sojourn.types import RequiresAction, SessionIdle
from sojourn.types.event import AgentToolResult, AgentToolUse

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
EXAMPLE = (ROOT / "examples" / "coding_agent.py").read_text()

Start = Callable[[AgentRuntime, str, str], Awaitable[SessionHandle]]

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None and not os.environ.get("CI"), reason="no bubblewrap")

COMMANDS = (
    "id -u; pwd; ls /home; ls -A /tmp | wc -l",
    "touch /usr/here 2>&1; touch /workspace/here /home/agent/here /tmp/here && echo written",
    "ls /root /proc/1/root/root 2>&1 | grep -c README; ls -d /proc/[0-9]* | wc -l; env | grep -c PYTEST_; true",
    "(exec 3<>/dev/tcp/$OUTSIDE) 2>&1 | tail -1; curl -sS --max-time 20 http://example.com/ 2>&1",
    "cd textkit && echo >> README.md && git add -A && git commit -q -m x",
)


def block() -> str:
    section = README.partition("## A coding agent")[2].partition("\n## ")[0]
    (code,) = re.findall(r"^```python\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    return cast("str", code)


def started() -> Start:
    """The function of the README, with the names that the example gives it."""
    head = EXAMPLE.partition("async def start(")[0]
    names: dict[str, object] = {}
    exec(head + block(), names)
    return cast("Start", names["start"])


def test_code_is_that_of_the_example_and_short() -> None:
    assert block() in EXAMPLE
    assert block().count("\n") <= 20


async def test_sandbox_is_as_the_readme_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = [ScriptedTurn(calls=[ScriptedCall("bash", {"command": each})]) for each in COMMANDS]
    with coding_site(tmp_path) as site:
        for name, value in site.environment.items():
            monkeypatch.setenv(name, value)
        script[3] = ScriptedTurn(
            calls=[ScriptedCall("bash", {"command": COMMANDS[3].replace("$OUTSIDE", f"127.0.0.1/{site.port}")})]
        )
        scripts = {"claims": [*script, ScriptedTurn(text="done")]}
        async with AgentRuntime.embedded(scripts=scripts, sandbox="bubblewrap") as runtime:
            session = await started()(runtime, site.repository_url, "scripted:claims")
            await session.send("go")
            said: list[str] = []
            asked: list[str] = []
            async for event in session.events(from_seq=0):
                match event:
                    case AgentToolResult():
                        said.append(event.text)
                    case AgentToolUse(evaluated_permission="ask"):
                        asked.append(str(event.input["command"]))
                    case SessionIdle(stop_reason=RequiresAction(event_ids=(id,))):
                        await session.confirm(id, allow=False)
                    case SessionIdle():
                        break

    own, folders, others, network, commit = said
    assert own.splitlines() == ["1000", "/workspace", "agent", "0"]
    assert "Read-only file system" in folders
    assert folders.splitlines()[-1] == "written"
    none, processes, variables = map(int, others.split())
    assert (none, variables) == (0, 0)
    assert processes < 20
    assert "refused" in network
    assert "example.com is not among networking.allowed_hosts" in network
    assert asked == [COMMANDS[4]]
    assert "not permitted" in commit


def test_sandbox_of_a_worker_that_is_root_belongs_to_another_user() -> None:
    owner = BubblewrapSandbox().owner

    assert (owner is None) == (os.geteuid() != 0)
    assert owner is None or 0 not in owner
