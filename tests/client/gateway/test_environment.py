from typing import Any

import anthropic
import pytest


async def test_environment_lives_from_create_to_delete(gateway: Any, eventually: Any) -> None:
    await gateway.stage.work()
    environments = gateway.sdk.beta.environments

    made = await environments.create(
        name="lab",
        description="For tests",
        config={"type": "cloud", "networking": {"type": "limited", "allowed_hosts": ["example.com"]}},
        metadata={"a": "1"},
    )
    changed = await environments.update(made.id, name="labs", metadata={"a": None, "b": "2"})
    archived = await environments.archive(made.id)
    deleted = await environments.delete(made.id)

    assert made.to_dict() == {
        "id": made.id,
        "type": "environment",
        "name": "lab",
        "description": "For tests",
        "config": {
            "type": "cloud",
            "networking": {
                "type": "limited",
                "allowed_hosts": ["example.com"],
                "allow_mcp_servers": False,
                "allow_package_managers": False,
            },
            "packages": {"type": "packages", "apt": [], "cargo": [], "gem": [], "go": [], "npm": [], "pip": []},
        },
        "metadata": {"a": "1"},
        "scope": "organization",
        "state": "active",
        "created_at": made.created_at,
        "updated_at": made.updated_at,
        "archived_at": None,
    }
    assert (changed.name, changed.metadata, changed.description) == ("labs", {"b": "2"}, "For tests")
    assert archived.archived_at
    assert (deleted.id, deleted.type) == (made.id, "environment_deleted")
    with pytest.raises(anthropic.NotFoundError):
        await environments.retrieve(made.id)


async def test_environments_are_listed_in_pages(gateway: Any, eventually: Any) -> None:
    environments = gateway.sdk.beta.environments
    made = {(await environments.create(name=f"e{number}")).id for number in range(3)} | {gateway.environment}

    async def listed() -> bool:
        return {each.id async for each in environments.list(limit=2)} == made

    await eventually(listed, "all environments are listed")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x", "config": {"type": "odd"}}, "config.type"),
        (
            {
                "name": "x",
                "config": {"type": "cloud", "networking": {"type": "limited", "allowed_hosts": ["http://a"]}},
            },
            "config.networking.allowed_hosts.0",
        ),
        ({"name": "x", "scope": "account"}, "scope"),
        ({"name": "x", "metadata": {"a": 1}}, "metadata.a"),
    ],
)
async def test_bad_environment_is_refused_by_its_path(gateway: Any, body: dict[str, Any], path: str) -> None:
    answer = await gateway.http.post("/v1/environments", json=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(f"{path}: "), answer.text


async def test_name_that_is_taken_is_a_conflict(gateway: Any) -> None:
    await gateway.http.post("/v1/environments", json={"name": "taken"})

    answer = await gateway.http.post("/v1/environments", json={"name": "taken"})

    assert (answer.status_code, answer.headers["x-should-retry"]) == (409, "false")


async def test_session_needs_an_environment_that_is_there(gateway: Any) -> None:
    await gateway.stage.work()
    agent = await gateway.sdk.beta.agents.create(name="actor", model="scripted:echo")
    other = await gateway.sdk.beta.environments.create(name="other")
    await gateway.sdk.beta.environments.archive(other.id)

    unknown = await gateway.http.post("/v1/sessions", json={"agent": agent.id, "environment_id": "env_unknown"})
    archived = await gateway.http.post("/v1/sessions", json={"agent": agent.id, "environment_id": other.id})

    assert (unknown.status_code, unknown.json()["error"]["details"]["error_code"]) == (404, "environment_not_found")
    assert (archived.status_code, archived.json()["error"]["details"]["error_code"]) == (400, "environment_archived")
