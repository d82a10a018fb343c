from typing import Any

import anthropic
import pytest

from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import UserMessage

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"type": "custom", "name": "weather", "description": "Tells the weather", "input_schema": SCHEMA}


async def actor(gateway: Any, **fields: Any) -> Any:
    return await gateway.sdk.beta.agents.create(**{"name": "actor", "model": "scripted:play", **fields})


async def test_session_comes_with_every_field(gateway: Any) -> None:
    agent = await actor(gateway, system="Be short", tools=[WEATHER])

    session = await gateway.sdk.beta.sessions.create(
        agent=agent.id, environment_id=gateway.environment, title="First", metadata={"a": "1"}
    )

    assert session.id.startswith("sesn_")
    assert (session.type, session.status, session.title) == ("session", "idle", "First")
    assert session.metadata == {"a": "1"}
    left_out = {"metadata", "created_at", "updated_at", "archived_at"}
    assert session.agent.to_dict() == {name: value for name, value in agent.to_dict().items() if name not in left_out}
    assert session.environment_id == gateway.environment
    assert (session.resources, session.vault_ids, session.outcome_evaluations) == ([], [], [])
    assert (session.budget, session.deployment_id, session.archived_at) == (None, None, None)
    assert session.usage.input_tokens == 0
    assert session.stats.active_seconds == 0
    again = await gateway.sdk.beta.sessions.retrieve(session.id)
    assert again.to_dict() | {"stats": None} == session.to_dict() | {"stats": None}


async def test_session_with_initial_events_is_created_running(gateway: Any) -> None:
    agent = await actor(gateway)

    session = await gateway.sdk.beta.sessions.create(
        agent=agent.id,
        environment_id=gateway.environment,
        initial_events=[{"type": "user.message", "content": [{"type": "text", "text": "Begin"}]}],
    )

    assert session.status == "running"
    await gateway.stage.work([ScriptedTurn(text="Begun")])
    probe = gateway.stage.watch(gateway.stage.runtime.session(session.id))
    await probe.idle()
    assert [event.content[0].text for event in probe.of(UserMessage)] == ["Begin"]
    assert probe.texts() == ["Begun"]


async def test_agent_can_be_pinned_to_a_version(gateway: Any) -> None:
    await gateway.stage.work()
    agent = await actor(gateway)
    await gateway.sdk.beta.agents.update(agent.id, name="actress")
    sessions, environment = gateway.sdk.beta.sessions, gateway.environment

    first = await sessions.create(agent={"type": "agent", "id": agent.id, "version": 1}, environment_id=environment)
    latest = await sessions.create(agent={"type": "agent", "id": agent.id}, environment_id=environment)

    assert (first.agent.version, first.agent.name) == (1, "actor")
    assert (latest.agent.version, latest.agent.name) == (2, "actress")


async def test_overrides_replace_inherit_and_clear(gateway: Any) -> None:
    agent = await actor(gateway, model={"id": "claude-opus-5-5", "effort": "high"}, system="Be short", tools=[WEATHER])

    session = await gateway.sdk.beta.sessions.create(
        agent={
            "type": "agent_with_overrides",
            "id": agent.id,
            "model": {"id": "scripted:play", "effort": "low"},
            "system": None,
        },
        environment_id=gateway.environment,
    )

    assert session.agent.model.id == "scripted:play"
    assert session.agent.model.effort is None
    assert session.agent.system is None
    assert [tool.name for tool in session.agent.tools] == ["weather"]
    assert (await gateway.sdk.beta.agents.retrieve(agent.id)) == agent


@pytest.mark.parametrize(
    ("override", "path", "code"),
    [
        ({"model": None}, "agent.model", "agent_model_required"),
        ({"tools": []}, "agent.tools", None),
        ({"mcp_servers": []}, "agent.tools.0.mcp_server_name", None),
        ({"tools": [WEATHER, WEATHER], "mcp_servers": []}, "agent.tools.1.name", None),
        ({"system": "x" * 100_001}, "agent.system", None),
        ({"name": "x"}, "agent.name", None),
    ],
)
async def test_override_that_does_not_fit_is_refused(
    gateway: Any, override: dict[str, Any], path: str, code: str | None
) -> None:
    agent = await actor(
        gateway,
        tools=[{"type": "mcp_toolset", "mcp_server_name": "m"}],
        mcp_servers=[{"type": "url", "name": "m", "url": "https://m.example"}],
        skills=[{"type": "custom", "skill_id": "s"}],
    )
    body = {
        "agent": {"type": "agent_with_overrides", "id": agent.id, **override},
        "environment_id": gateway.environment,
    }

    answer = await gateway.http.post("/v1/sessions", json=body)

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["message"].startswith(f"{path}: "), error
    assert error.get("details", {}).get("error_code") == code


MESSAGE = {"type": "user.message", "content": [{"type": "text", "text": "Hello"}]}


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"agent": None}, "agent"),
        ({"agent": 5}, "agent"),
        ({"agent": {"type": "odd"}}, "agent"),
        ({"agent": "a/b"}, "agent"),
        ({"environment_id": None}, "environment_id"),
        ({"title": "x" * 1001}, "title"),
        ({"metadata": {"": "x"}}, "metadata"),
        ({"budget": {"type": "limit", "max_list_cost": {"amount": "0", "currency": "USD"}}}, "budget.max_list_cost"),
        ({"budget": {"type": "limit", "max_list_cost": {"amount": "05", "currency": "USD"}}}, "budget.max_list_cost"),
        ({"budget": {"type": "limit", "max_list_cost": {"amount": 5, "currency": "USD"}}}, "budget.max_list_cost"),
        ({"budget": {"type": "limit", "max_list_cost": {"amount": "5", "currency": "EUR"}}}, "budget.max_list_cost"),
        (
            {"budget": {"type": "limit", "max_list_cost": {"amount": "1000000001", "currency": "USD"}}},
            "budget.max_list_cost",
        ),
        ({"initial_events": [MESSAGE] * 51}, "initial_events"),
        ({"initial_events": [MESSAGE, {"type": "user.interrupt"}]}, "initial_events.1.type"),
        (
            {
                "initial_events": [
                    {"type": "user.define_outcome", "description": "d", "rubric": {"type": "text", "content": "c"}}
                ]
            },
            "initial_events.0.type",
        ),
        (
            {"initial_events": [{"type": "user.message", "content": [{"type": "text", "text": " "}]}]},
            "initial_events.0.content",
        ),
        ({"resources": [{"type": "file", "file_id": "f"}]}, "resources"),
        ({"vault_ids": ["vlt_1"] * 51}, "vault_ids"),
        ({"surprise": 1}, "surprise"),
    ],
)
async def test_bad_field_is_refused_and_nothing_is_created(gateway: Any, change: dict[str, Any], path: str) -> None:
    agent = await actor(gateway)
    body = {"agent": agent.id, "environment_id": gateway.environment, **change}

    answer = await gateway.http.post("/v1/sessions", json=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(path), answer.json()


async def test_session_of_an_unknown_agent_is_not_found(gateway: Any) -> None:
    body = {"agent": "agent_unknown", "environment_id": gateway.environment}

    assert (await gateway.http.post("/v1/sessions", json=body)).status_code == 404


async def test_session_of_an_archived_agent_is_refused(gateway: Any) -> None:
    await gateway.stage.work()
    agent = await actor(gateway)
    await gateway.sdk.beta.agents.archive(agent.id)

    with pytest.raises(anthropic.BadRequestError):
        await gateway.sdk.beta.sessions.create(agent=agent.id, environment_id=gateway.environment)


async def test_session_of_an_agent_that_needs_a_sandbox_is_refused_without_one(gateway: Any) -> None:
    await gateway.stage.work()
    agent = await actor(gateway, tools=[{"type": "agent_toolset_20260401"}])

    with pytest.raises(anthropic.BadRequestError, match="tools"):
        await gateway.sdk.beta.sessions.create(agent=agent.id, environment_id=gateway.environment)


async def talking(gateway: Any, *turns: ScriptedTurn, **fields: Any) -> Any:
    await gateway.stage.work(list(turns) or [ScriptedTurn(text="Yes")])
    agent = await actor(gateway, **fields)
    session = await gateway.sdk.beta.sessions.create(agent=agent.id, environment_id=gateway.environment)
    return gateway.stage.watch(gateway.stage.runtime.session(session.id))


async def test_title_and_metadata_change_at_any_time(gateway: Any) -> None:
    probe = await talking(gateway)
    sessions = gateway.sdk.beta.sessions

    changed = await sessions.update(probe.session.id, title="New", metadata={"a": "1", "b": "2"})
    patched = await sessions.update(probe.session.id, metadata={"a": None}, title=None)
    same = await sessions.update(probe.session.id)

    assert (changed.title, changed.metadata) == ("New", {"a": "1", "b": "2"})
    assert (patched.title, patched.metadata) == (None, {"b": "2"})
    assert same.metadata == {"b": "2"}


async def test_tools_change_between_turns_only(gateway: Any) -> None:
    probe = await talking(gateway, ScriptedTurn(calls=[ScriptedCall("weather", {})]), tools=[WEATHER])
    sessions = gateway.sdk.beta.sessions
    other = {**WEATHER, "name": "climate"}

    changed = await sessions.update(probe.session.id, agent={"tools": [WEATHER, other]})

    assert [tool.name for tool in changed.agent.tools] == ["weather", "climate"]
    assert [tool.name for tool in (await sessions.retrieve(probe.session.id)).agent.tools] == ["weather", "climate"]
    await probe.session.send("Go")
    await probe.idle(reason="requires_action")
    with pytest.raises(anthropic.BadRequestError):
        await sessions.update(probe.session.id, agent={"tools": []})


async def test_update_of_vaults_is_refused(gateway: Any) -> None:
    probe = await talking(gateway)

    answer = await gateway.http.post(f"/v1/sessions/{probe.session.id}", json={"vault_ids": []})

    assert (answer.status_code, answer.json()["error"]["message"].partition(":")[0]) == (400, "vault_ids")


async def test_archived_session_can_be_read_and_takes_no_more(gateway: Any) -> None:
    probe = await talking(gateway)
    sessions = gateway.sdk.beta.sessions

    archived = await sessions.archive(probe.session.id)

    assert archived.status == "terminated"
    assert archived.archived_at
    again = await sessions.archive(probe.session.id)
    assert again == archived
    with pytest.raises(anthropic.BadRequestError):
        await sessions.events.send(probe.session.id, events=[MESSAGE])
    with pytest.raises(anthropic.BadRequestError):
        await sessions.update(probe.session.id, title="x")


async def test_running_session_is_not_archived_or_deleted(gateway: Any) -> None:
    probe = await talking(gateway, ScriptedTurn(text="slow", stall=True))
    await probe.session.send("Go")
    await probe.written("slow")
    sessions = gateway.sdk.beta.sessions

    with pytest.raises(anthropic.BadRequestError):
        await sessions.archive(probe.session.id)
    with pytest.raises(anthropic.BadRequestError):
        await sessions.delete(probe.session.id)

    assert (await sessions.retrieve(probe.session.id)).status == "running"
    await probe.session.interrupt()
    await probe.idle()


async def test_deleted_session_is_gone(gateway: Any) -> None:
    probe = await talking(gateway)
    probe.forget()
    sessions = gateway.sdk.beta.sessions

    deleted = await sessions.delete(probe.session.id)

    assert (deleted.id, deleted.type) == (probe.session.id, "session_deleted")
    with pytest.raises(anthropic.NotFoundError):
        await sessions.retrieve(probe.session.id)


async def test_paused_session_shows_as_idle_and_says_so(gateway: Any) -> None:
    probe = await talking(gateway)
    path = f"/v1/sessions/{probe.session.id}"
    await probe.session.send("Go")
    await probe.idle()

    paused = await gateway.http.post(f"{path}/pause")
    resumed = await gateway.http.post(f"{path}/resume")
    again = await gateway.http.post(f"{path}/resume")

    assert (paused.json()["status"], paused.json()["sojourn_status"]) == ("idle", "paused")
    assert resumed.json()["sojourn_status"] == "idle"
    assert again.status_code == 400


@pytest.mark.parametrize("key", ["eve", "bob"])
async def test_sessions_of_others_do_not_exist(gateway: Any, key: str) -> None:
    probe = await talking(gateway)
    path = f"/v1/sessions/{probe.session.id}"

    async with gateway.client(key) as other:
        answers = [
            await other.get(path),
            await other.post(path, json={"title": "x"}),
            await other.delete(path),
            await other.post(f"{path}/archive"),
            await other.post(f"{path}/pause"),
            await other.post(f"{path}/events", json={"events": [MESSAGE]}),
        ]
        listed = (await other.get("/v1/sessions")).json()

    assert [answer.status_code for answer in answers] == [404] * 6
    assert listed["data"] == []


async def test_key_that_may_only_read_changes_nothing(gateway: Any) -> None:
    probe = await talking(gateway)
    path = f"/v1/sessions/{probe.session.id}"

    async with gateway.client("reader") as reader:
        assert (await reader.get(path)).status_code == 200
        assert (await reader.post(path, json={"title": "x"})).status_code == 403
        assert (await reader.delete(path)).status_code == 403


async def test_control_without_a_worker_is_unavailable(gateway: Any) -> None:
    agent = await actor(gateway)
    session = await gateway.sdk.beta.sessions.create(agent=agent.id, environment_id=gateway.environment)

    with pytest.raises(anthropic.InternalServerError) as error:
        await gateway.sdk.beta.sessions.update(session.id, title="x")

    assert (error.value.status_code, error.value.type) == (503, "api_error")
