import asyncio
from typing import Any

import anthropic
import pytest

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CUSTOM = {"type": "custom", "name": "weather", "description": "Tells the weather", "input_schema": SCHEMA}


async def test_agent_comes_back_with_every_field(gateway: Any) -> None:
    agent = await gateway.sdk.beta.agents.create(
        name="actor",
        model="claude-opus-5-5",
        description="Acts",
        system="Be short",
        tools=[CUSTOM],
        metadata={"team": "stage"},
    )

    assert agent.id.startswith("agent_")
    assert (agent.type, agent.version, agent.name) == ("agent", 1, "actor")
    assert (agent.description, agent.system, agent.metadata) == ("Acts", "Be short", {"team": "stage"})
    assert (agent.model.id, agent.model.effort, agent.model.speed) == ("claude-opus-5-5", None, "standard")
    assert agent.tools[0].to_dict() == CUSTOM
    assert agent.created_at == agent.updated_at
    assert (agent.archived_at, agent.multiagent) == (None, None)
    assert agent.execution_identity.type == "service_account"
    assert await gateway.sdk.beta.agents.retrieve(agent.id) == agent


async def test_nulls_are_there(gateway: Any) -> None:
    response = await gateway.http.post("/v1/agents", json={"name": "a", "model": "scripted:echo"})

    body = response.json()
    nulls = {"description", "system", "multiagent", "archived_at"}
    assert {name for name, value in body.items() if value is None} == nulls
    assert body["model"] == {"id": "scripted:echo", "effort": None, "speed": "standard", "inference_geo": None}
    assert response.headers["request-id"].startswith("req_")


async def test_tools_come_back_resolved(gateway: Any) -> None:
    agent = await gateway.sdk.beta.agents.create(
        name="actor",
        model="scripted:echo",
        tools=[
            {
                "type": "agent_toolset_20260401",
                "default_config": {"permission_policy": {"type": "always_ask"}},
                "configs": [{"name": "bash", "enabled": False}],
            },
            {"type": "mcp_toolset", "mcp_server_name": "files"},
            {"type": "function", "name": "add", "permission_policy": {"type": "always_ask"}},
        ],
        mcp_servers=[{"type": "url", "name": "files", "url": "https://files.example/mcp"}],
        skills=[{"type": "custom", "skill_id": "skill_1"}],
    )

    asks = {"type": "always_ask"}
    assert [tool.to_dict() for tool in agent.tools] == [
        {
            "type": "agent_toolset_20260401",
            "default_config": {"enabled": True, "permission_policy": asks},
            "configs": [{"name": "bash", "type": "bash", "enabled": False, "permission_policy": asks}],
        },
        {
            "type": "mcp_toolset",
            "mcp_server_name": "files",
            "default_config": {"enabled": True, "permission_policy": asks},
            "configs": [],
        },
        {"type": "function", "name": "add", "permission_policy": asks},
    ]


async def test_what_comes_back_can_be_sent_again_and_changes_nothing(gateway: Any) -> None:
    await gateway.stage.work()
    made = await gateway.http.post(
        "/v1/agents",
        json={
            "name": "actor",
            "model": {"id": "claude-opus-5-5", "effort": "high", "speed": "standard"},
            "tools": [
                {"type": "agent_toolset_20260401", "configs": [{"name": "web_fetch"}]},
                {"type": "function", "name": "add"},
                CUSTOM,
                {"type": "mcp_toolset", "mcp_server_name": "m", "configs": [{"name": "x", "enabled": False}]},
            ],
            "mcp_servers": [{"type": "url", "name": "m", "url": "https://m.example"}],
            "skills": [{"type": "anthropic", "skill_id": "xlsx", "version": "1"}],
        },
    )
    agent = made.json()
    left_out = ("id", "type", "created_at", "updated_at", "archived_at")
    again = {name: value for name, value in agent.items() if name not in left_out}

    updated = await gateway.http.post(f"/v1/agents/{agent['id']}", json=again)

    assert updated.json() == agent


async def test_update_keeps_what_is_left_out_and_clears_what_is_null(gateway: Any) -> None:
    await gateway.stage.work()
    agents = gateway.sdk.beta.agents
    agent = await agents.create(
        name="actor",
        model={"id": "claude-opus-5-5", "effort": "high"},
        system="Be short",
        description="Acts",
        tools=[CUSTOM],
        metadata={"a": "1", "b": "2"},
    )

    second = await agents.update(agent.id, version=1, system=None, metadata={"a": None, "c": "3"}, name="actress")
    third = await agents.update(agent.id, model={"id": "claude-opus-5-5"}, tools=None)
    fourth = await agents.update(agent.id, model="claude-sonnet-5-5")

    assert (second.version, second.name, second.system, second.description) == (2, "actress", None, "Acts")
    assert second.metadata == {"b": "2", "c": "3"}
    assert len(second.tools) == 1
    assert second.created_at == agent.created_at < second.updated_at
    assert third.model.effort.type == "high"
    assert third.tools == []
    assert fourth.model.effort is None
    assert (third.version, fourth.version) == (3, 4)


async def test_update_that_changes_nothing_keeps_the_version(gateway: Any) -> None:
    await gateway.stage.work()
    agents = gateway.sdk.beta.agents
    agent = await agents.create(name="actor", model="claude-opus-5-5", metadata={"a": "1"})

    same = await agents.update(agent.id, name="actor", metadata={"a": "1"}, model="claude-opus-5-5")

    assert same == agent


async def test_update_of_an_old_version_is_a_conflict_that_is_not_repeated(gateway: Any) -> None:
    await gateway.stage.work()
    agents = gateway.sdk.beta.agents
    agent = await agents.create(name="actor", model="scripted:echo")
    await agents.update(agent.id, version=1, name="actress")

    with pytest.raises(anthropic.ConflictError) as error:
        await agents.update(agent.id, version=1, name="actress")

    assert error.value.type == "conflict_error"
    assert error.value.response.headers["x-should-retry"] == "false"


async def test_retried_update_finds_what_it_has_done(gateway: Any) -> None:
    await gateway.stage.work()
    agent = await gateway.sdk.beta.agents.create(name="actor", model="scripted:echo")
    body = {"version": 1, "name": "actress"}
    done = await gateway.http.post(f"/v1/agents/{agent.id}", json=body)

    again = await gateway.http.post(f"/v1/agents/{agent.id}", json=body, headers={"x-stainless-retry-count": "1"})

    assert (again.status_code, again.json()) == (200, done.json())


async def test_updates_at_once_lose_nothing(gateway: Any) -> None:
    await gateway.stage.work()
    agents = gateway.sdk.beta.agents
    agent = await agents.create(name="actor", model="scripted:echo")

    await asyncio.gather(*(agents.update(agent.id, metadata={f"k{place}": "v"}) for place in range(5)))

    now = await agents.retrieve(agent.id)
    assert now.version == 6
    assert now.metadata == {f"k{place}": "v" for place in range(5)}


async def test_versions_are_listed_newest_first_in_pages(gateway: Any) -> None:
    await gateway.stage.work()
    agents = gateway.sdk.beta.agents
    agent = await agents.create(name="v1", model="scripted:echo")
    for number in range(2, 6):
        await agents.update(agent.id, name=f"v{number}")

    pages = [each async for each in (await agents.versions.list(agent.id, limit=2)).iter_pages()]

    assert [[each.name for each in page.data] for page in pages] == [["v5", "v4"], ["v3", "v2"], ["v1"]]
    assert (await agents.retrieve(agent.id, version=2)).name == "v2"
    with pytest.raises(anthropic.NotFoundError):
        await agents.retrieve(agent.id, version=6)


async def test_archived_agent_can_be_read_and_not_changed(gateway: Any, eventually: Any) -> None:
    await gateway.stage.work()
    agents = gateway.sdk.beta.agents
    agent = await agents.create(name="actor", model="scripted:echo")

    archived = await agents.archive(agent.id)

    assert archived.archived_at
    assert await agents.archive(agent.id) == archived
    assert await agents.retrieve(agent.id) == archived
    with pytest.raises(anthropic.BadRequestError):
        await agents.update(agent.id, name="x")

    async def gone() -> bool:
        return not (await agents.list()).data

    await eventually(gone, "the agent is out of the list")
    assert [each.id for each in (await agents.list(include_archived=True)).data] == [agent.id]


async def test_agents_are_listed_newest_first_in_pages(gateway: Any, eventually: Any) -> None:
    agents = gateway.sdk.beta.agents
    made = [await agents.create(name=f"a{number}", model="scripted:echo") for number in range(3)]

    async def listed() -> bool:
        return len((await agents.list()).data) == 3

    await eventually(listed, "all agents are listed")
    pages = [each async for each in (await agents.list(limit=2)).iter_pages()]
    assert [[each.id for each in page.data] for page in pages] == [[made[2].id, made[1].id], [made[0].id]]
    assert pages[0].data[0] == made[2]
    newer = await agents.list(created_at_gte=made[1].created_at)
    assert {each.id for each in newer.data} >= {made[2].id}
    assert made[0].id not in {each.id for each in newer.data}
    assert (await agents.list(created_at_lte="2001-01-01T00:00:00Z")).data == []


async def test_agents_of_another_workspace_do_not_exist(gateway: Any) -> None:
    await gateway.stage.work()
    agent = await gateway.sdk.beta.agents.create(name="actor", model="scripted:echo")

    async with gateway.client("eve") as eve:
        answers = [
            await eve.get(f"/v1/agents/{agent.id}"),
            await eve.get(f"/v1/agents/{agent.id}/versions"),
            await eve.post(f"/v1/agents/{agent.id}", json={"name": "x"}),
            await eve.post(f"/v1/agents/{agent.id}/archive"),
        ]

    assert [each.status_code for each in answers] == [404] * 4
    assert {each.json()["error"]["type"] for each in answers} == {"not_found_error"}


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 257}, "name"),
        ({"name": 5}, "name"),
        ({"model": ""}, "model"),
        ({"model": "nobody-knows"}, "model"),
        ({"model": "openai-compatible:x"}, "model"),
        ({"model": {"id": "claude-x", "effort": "much"}}, "model.effort"),
        ({"model": {"id": "claude-x", "speed": "fast"}}, "model.speed"),
        ({"model": {"id": "claude-x", "base_url": "http://evil"}}, "model.base_url"),
        ({"model": {"id": "claude-x", "inference_geo": "us"}}, "model.inference_geo"),
        ({"description": "x" * 2049}, "description"),
        ({"system": "x" * 100_001}, "system"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
        ({"metadata": {"k": "x" * 513}}, "metadata.k"),
        ({"metadata": {"k": None}}, "metadata.k"),
        ({"tools": [{"type": "custom"}]}, "tools.0.name"),
        ({"tools": [{"name": "x"}]}, "tools.0.type"),
        ({"tools": [{"type": "odd"}]}, "tools.0.type"),
        ({"tools": [CUSTOM, CUSTOM]}, "tools.1.name"),
        ({"tools": [{**CUSTOM, "name": "bash"}]}, "tools.0.name"),
        ({"tools": [{**CUSTOM, "name": "mcp__x"}]}, "tools.0.name"),
        ({"tools": [{**CUSTOM, "name": "a b"}]}, "tools.0.name"),
        ({"tools": [{**CUSTOM, "name": "x" * 129}]}, "tools.0.name"),
        ({"tools": [{**CUSTOM, "description": ""}]}, "tools.0.description"),
        ({"tools": [{**CUSTOM, "input_schema": {}}]}, "tools.0.input_schema.type"),
        ({"tools": [{**CUSTOM, "input_schema": {"type": "string"}}]}, "tools.0.input_schema.type"),
        ({"tools": [{**CUSTOM, "input_schema": {**SCHEMA, "anyOf": []}}]}, "tools.0.input_schema.anyOf"),
        (
            {"tools": [{**CUSTOM, "input_schema": {"type": "object", "properties": {"a": {"$ref": "#"}}}}]},
            "tools.0.input_schema.properties.a.$ref",
        ),
        ({"tools": [{"type": "function", "name": "f"}] * 257}, "tools"),
        (
            {"tools": [{"type": "agent_toolset_20260401", "configs": [{"name": "cook"}]}]},
            "tools.0.configs.0.name",
        ),
        (
            {"tools": [{"type": "agent_toolset_20260401", "default_config": {"permission_policy": {"type": "auto"}}}]},
            "tools.0.default_config.permission_policy.type",
        ),
        ({"tools": [{"type": "mcp_toolset", "mcp_server_name": "m"}]}, "tools.0.mcp_server_name"),
        ({"mcp_servers": [{"type": "url", "name": "m", "url": "https://m"}]}, "mcp_servers.0.name"),
        ({"mcp_servers": [{"type": "url", "name": "m", "url": "ftp://m"}]}, "mcp_servers.0.url"),
        ({"skills": [{"type": "custom", "skill_id": "s"}] * 21}, "skills"),
        ({"multiagent": {"type": "coordinator", "agents": []}}, "multiagent"),
        ({"execution_identity": {"type": "aws_role", "role_arn": "x"}}, "execution_identity.type"),
        ({"surprise": 1}, "surprise"),
    ],
)
async def test_field_beyond_its_limits_is_refused_by_its_path(gateway: Any, change: dict[str, Any], path: str) -> None:
    body = {"name": "actor", "model": "scripted:echo", **change}

    answer = await gateway.http.post("/v1/agents", json=body)

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith(f"{path}: "), error["message"]


async def test_fields_that_cannot_be_cleared(gateway: Any) -> None:
    agent = await gateway.sdk.beta.agents.create(name="actor", model="scripted:echo")

    answers = [await gateway.http.post(f"/v1/agents/{agent.id}", json={name: None}) for name in ("name", "model")]

    assert [each.status_code for each in answers] == [400, 400]


async def test_custom_tools_of_the_wire_wait_for_ever(gateway: Any) -> None:
    agent = await gateway.sdk.beta.agents.create(name="actor", model="scripted:echo", tools=[CUSTOM])

    stored = await gateway.stage.runtime.get_agent(agent.id)

    assert stored.definition.limits.custom_tool_timeout is None
