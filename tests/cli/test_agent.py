import asyncio
from pathlib import Path
from typing import Any

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

    versions, table, shown_text, missing = await asyncio.gather(
        sojourn("agents", "versions", agent, "--json"),
        sojourn("agents", "versions", agent),
        sojourn("agents", "show", agent, "--version", "1"),
        sojourn("agents", "show", agent, "--version", "7"),
    )

    assert [each["version"] for each in versions.document["data"]] == [2, 1]
    assert "scripted:echo" in table.out
    assert "permissions" in shown_text.out
    assert missing.code == 3

    assert (await sojourn("agents", "archive", agent, "--json")).document == {"id": agent, "archived": True}
    assert (await sojourn("sessions", "start", agent)).code == 4


async def test_agent_from_options_is_listed(sojourn: Any) -> None:
    options = ("--name", "quick", "--model", "scripted:echo", "--system", "Be brief.", "--tool", "a", "--tool", "b")
    created = (await sojourn("agents", "create", *options, "--json")).document

    assert [tool["name"] for tool in created["definition"]["tools"]] == ["a", "b"]

    listed = await sojourn("agents", "list", "--limit", "1", "--json")
    text = await sojourn("agents", "list")

    assert len(listed.document["data"]) == 1
    assert text.out.splitlines()[0].split("\t") == ["id", "name", "version", "created", "archived"]


async def test_yaml_on_standard_input(sojourn: Any) -> None:
    created = await sojourn("agents", "create", "-", "--json", stdin="name: yam\nmodel: scripted:echo\n")

    assert created.document["definition"]["name"] == "yam"


async def test_wrong_file_is_named_with_the_field(sojourn: Any, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(TOML + "colour = 1\n")

    ended = await sojourn("agents", "create", "a.toml", "--json")

    assert ended.code == 2
    assert ended.error["type"] == "invalid_request_error"
    assert ended.error["message"] == "a.toml: permission_policy.colour: extra inputs are not permitted"


async def test_file_and_options_together_are_refused(sojourn: Any) -> None:
    both, half = await asyncio.gather(
        sojourn("agents", "create", "a.toml", "--name", "x"), sojourn("agents", "create", "--name", "x")
    )

    assert (both.code, half.code) == (2, 2)


async def test_missing_file_is_said_in_one_line(sojourn: Any) -> None:
    ended = await sojourn("agents", "create", "nowhere.toml")

    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.splitlines() == [
        "error: nowhere.toml: cannot be read (No such file or directory); name a TOML, YAML or JSON file"
    ]
