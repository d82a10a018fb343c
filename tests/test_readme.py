"""What the README says is true: its code runs, its commands and names exist."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

from sojourn.activities import Tool, Toolbox
from sojourn.cli.app import app
from sojourn.client import AgentHandle, AgentRuntime, SessionHandle
from sojourn.types import AgentDefinition, SojournError, parse
from sojourn.types.error import _classes

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def commands() -> list[list[str]]:
    lines = [line.partition("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("sojourn ")]


def test_first_example_is_the_one_that_is_run() -> None:
    assert blocks("python")[0] == (ROOT / "examples/quickstart.py").read_text()


def test_example_of_the_gateway_is_the_one_that_is_run() -> None:
    shown = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/gateway.md").read_text(), re.DOTALL | re.MULTILINE)

    assert shown == [(ROOT / "examples/managed_agents.py").read_text()]


def test_first_example_prints_the_answer() -> None:
    ran = subprocess.run(
        [sys.executable, ROOT / "examples/quickstart.py"], capture_output=True, text=True, timeout=60, check=False
    )

    assert (ran.returncode, ran.stdout.strip()) == (0, "Sunny, at 24 °C.")


def test_tool_example_makes_the_tools_it_shows() -> None:
    names: dict[str, object] = {"__name__": "readme"}
    exec(blocks("python")[1], names)

    tools = Toolbox(each for each in names.values() if isinstance(each, Tool))
    find_order, refund = tools.get("find_order"), tools.get("refund")
    assert find_order is not None
    assert find_order.input_schema["properties"] == {
        "number": {"type": "integer", "description": "As printed on the invoice."}
    }
    assert find_order.idempotent
    assert refund is not None
    assert refund.permission == "ask"


def test_observed_worker_serves_as_shown() -> None:
    """With no variables nothing is set up; without a server it ends with our own error."""
    code = f"{blocks('python')[2]}\nimport asyncio\nasyncio.run(serve())"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TEMPORAL_"))}
    environment["TEMPORAL_ADDRESS"] = "127.0.0.1:9"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, env=environment
    )

    assert "ServerUnavailableError" in ran.stderr.splitlines()[-1]


def test_agent_file_is_a_definition() -> None:
    definition: AgentDefinition = parse(AgentDefinition, tomllib.loads(blocks("toml")[0]))

    assert definition.permission_policy.for_tool("refund") == "ask"
    assert definition.limits.max_steps == 20


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_commands_and_their_options_exist(command: list[str]) -> None:
    found = get_command(app)
    while command and not command[0].startswith("-") and command[0] in getattr(found, "commands", {}):
        found = found.commands[command.pop(0)]  # type: ignore[attr-defined]

    options = {name for parameter in found.params for name in parameter.opts}
    assert not hasattr(found, "commands"), f"{command} names no command"
    assert {word for word in command if word.startswith("--")} <= options


def test_verbs_of_the_table_exist() -> None:
    rows = re.findall(
        r"^\| (?:connect|agents|start|send|read|answer|control|look) \|(.*)\|(.*)\|$", README, re.MULTILINE
    )
    runtime = {name for row in rows for name in re.findall(r"`(?:AgentRuntime\.)?(\w+)", row[0])}
    handles = {name for row in rows for name in re.findall(r"`(?:agent\.|session\.)?(\w+)", row[1])}

    assert len(rows) == 8
    assert {name for name in runtime if not hasattr(AgentRuntime, name)} == set()
    assert {name for name in handles if not (hasattr(SessionHandle, name) or hasattr(AgentHandle, name))} == set()


def test_errors_that_are_named_exist() -> None:
    named = set(re.findall(r"`(\w+Error)`", README))

    assert named
    assert named <= set(_classes(SojournError))


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", README, re.MULTILINE)) <= targets


def test_files_that_are_linked_exist() -> None:
    assert [name for name in re.findall(r"\]\(([\w./-]+\.md)\)", README) if not (ROOT / name).exists()] == []


def test_benchmark_table_is_there() -> None:
    table = README.partition("<!-- benchmarks -->")[2].partition("\n## ")[0]

    assert len(re.findall(r"^\|", table, re.MULTILINE)) > 8
