import asyncio
from pathlib import Path
from typing import Any

TOML = """
name = "python for the CLI"
description = "numbers"

[config]
type = "cloud"

[config.networking]
type = "limited"
allowed_hosts = ["example.com"]
allow_package_managers = true

[config.packages]
pip = ["pandas==2.2.0", "numpy"]
"""


async def test_environment_lives_from_create_to_delete(sojourn: Any, tmp_path: Path) -> None:
    (tmp_path / "python.toml").write_text(TOML)

    created = await sojourn("environments", "create", "python.toml")
    id = created.out.strip()

    assert created.code == 0, created.err
    assert id.startswith("env_")

    shown, text, twice = await asyncio.gather(
        sojourn("environments", "show", id, "--json"),
        sojourn("environments", "show", id),
        sojourn("environments", "create", "python.toml", "--json"),
    )

    assert shown.document["config"]["packages"]["pip"] == ["pandas==2.2.0", "numpy"]
    assert "limited to example.com, registries" in text.out
    assert "pip=pandas==2.2.0,numpy" in text.out
    assert (twice.code, twice.error["type"]) == (4, "conflict_error")

    change = '{"description": null, "config": {"type": "cloud", "packages": {}}}'
    updated = await sojourn("environments", "update", id, "-", "--json", stdin=change)
    other_type = await sojourn("environments", "update", id, "-", "--json", stdin='{"config": {"type": "self_hosted"}}')

    assert updated.document["description"] is None
    assert updated.document["config"]["packages"]["pip"] == []
    assert updated.document["config"]["networking"]["allowed_hosts"] == ["example.com"]
    assert (other_type.code, "config.type" in other_type.error["message"]) == (2, True)

    archived = await sojourn("environments", "archive", id, "--json")
    refused = await sojourn("environments", "delete", id)

    assert archived.document["archived_at"] is not None
    assert (refused.code, "--yes" in refused.err) == (2, True)

    assert (await sojourn("environments", "delete", id, "--yes", "--json")).document["action"] == "deleted"
    assert (await sojourn("environments", "show", id)).code == 3


async def test_environment_from_options_is_listed(sojourn: Any) -> None:
    created = await sojourn("environments", "create", "--name", "listed by the CLI", "--description", "d", "--json")
    listed, text = await asyncio.gather(
        sojourn("environments", "list", "--limit", "1", "--archived", "--json"), sojourn("environments", "list")
    )

    assert created.document["config"]["networking"] == {"type": "unrestricted"}
    assert len(listed.document["data"]) == 1
    assert text.out.splitlines()[0].split("\t") == ["id", "name", "type", "created", "archived"]


async def test_environment_without_a_name_or_with_a_wrong_file_is_refused(sojourn: Any, tmp_path: Path) -> None:
    (tmp_path / "wrong.json").write_text('{"name": "n", "colour": 1}')
    nothing, both, wrong = await asyncio.gather(
        sojourn("environments", "create"),
        sojourn("environments", "create", "wrong.json", "--name", "x"),
        sojourn("environments", "create", "wrong.json", "--json"),
    )

    assert (nothing.code, both.code, wrong.code) == (2, 2, 2)
    assert wrong.error["message"] == "wrong.json: colour: extra inputs are not permitted"
