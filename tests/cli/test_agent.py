import json
from pathlib import Path
from typing import Any

import pytest

TOML = """
name = "clerk"
model = "scripted:echo"
tools = ["get_weather"]

[permission_policy]
default = "ask"
"""


async def test_agent_lives_from_create_to_archive(sojourn: Any, tmp_path: Path) -> None:
    (tmp_path / "clerk.toml").write_text(TOML)
    (tmp_path / "clerk.json").write_text('{"name": "clerk", "model": "scripted:echo", "description": "new"}')

    created = await sojourn("agents", "create", "clerk.toml")
    agent = created.out.strip()

    assert created.code == 0, created.err
    assert agent.startswith("agent_")
    assert agent in created.err

    shown = (await sojourn("agents", "show", agent, "--json")).document

    assert shown["definition"]["tools"] == [{"type": "function", "name": "get_weather"}]
    assert shown["definition"]["permission_policy"]["default"] == "ask"

    updated = await sojourn("agents", "update", agent, "clerk.json", "--version", "1", "--json")
    stale = await sojourn("agents", "update", agent, "clerk.toml", "--version", "1", "--json")

    assert updated.document["version"] == 2
    assert stale.code == 4
    assert stale.error["type"] == "conflict_error"

    versions = (await sojourn("agents", "versions", agent, "--json")).document

    assert [each["version"] for each in versions["data"]] == [2, 1]
    assert "scripted:echo" in (await sojourn("agents", "versions", agent)).out
    assert "permissions" in (await sojourn("agents", "show", agent, "--version", "1")).out
    assert (await sojourn("agents", "show", agent, "--version", "7")).code == 3

    assert (await sojourn("agents", "archive", agent, "--json")).document == {"id": agent, "archived": True}
    assert (await sojourn("sessions", "start", agent)).code == 4


async def test_agent_from_options_is_listed(sojourn: Any) -> None:
    options = ("--name", "quick", "--model", "scripted:echo", "--system", "Be brief.", "--tools", "a", "--tools", "b")
    created = (await sojourn("agents", "create", *options, "--json")).document

    assert [tool["name"] for tool in created["definition"]["tools"]] == ["a", "b"]

    listed = await sojourn("agents", "list", "--limit", "1", "--json")
    text = await sojourn("agents", "list")

    assert len(listed.document["data"]) == 1
    assert text.out.splitlines()[0].split("\t") == ["id", "name", "version", "created", "archived"]


async def test_yaml_on_standard_input(sojourn: Any) -> None:
    created = await sojourn("agents", "create", "-", "--json", stdin="name: yam\nmodel: scripted:echo\n")

    assert created.document["definition"]["name"] == "yam"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", 'name = "x"\nmodel = "scripted:echo"\ncolour = 1\n', "a.toml: colour: extra inputs"),
        ("a.yaml", "name: x\nmodel: scripted:echo\nlimits: {max_steps: 0}\n", "a.yaml: limits.max_steps: "),
        ("a.json", json.dumps({"name": "x", "model": "nobody"}), "a.json: model: no provider known"),
        ("a.json", "{", "a.json: no valid JSON"),
        ("a.toml", "=", "a.toml: no valid TOML"),
        ("a.yaml", "[", "a.yaml: no valid YAML"),
        ("a.txt", "", "a.txt: a file with '.txt' is not understood"),
    ],
)
async def test_wrong_file_is_named_with_the_field(
    sojourn: Any, tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)

    ended = await sojourn("agents", "create", name, "--json")

    assert ended.code == 2
    assert ended.error["type"] == "invalid_request_error"
    assert ended.error["message"].startswith(message)


async def test_file_and_options_together_are_refused(sojourn: Any) -> None:
    assert (await sojourn("agents", "create", "a.toml", "--name", "x")).code == 2
    assert (await sojourn("agents", "create", "--name", "x")).code == 2


async def test_missing_file_is_said_in_one_line(sojourn: Any) -> None:
    ended = await sojourn("agents", "create", "nowhere.toml")

    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.splitlines() == [
        "error: nowhere.toml: cannot be read (No such file or directory); name a TOML, YAML or JSON file"
    ]
