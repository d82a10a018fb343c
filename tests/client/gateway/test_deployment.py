"""`/v1/deployments` and `/v1/deployment_runs`, with the official SDK where it has them."""

from typing import Any

import anthropic
import pytest

from sojourn.testing import ScriptedTurn
from sojourn.types import EnvironmentDefinition

HELLO = {"type": "user.message", "content": [{"type": "text", "text": "hello"}]}
BRIEF = {"type": "system.message", "content": [{"type": "text", "text": "Be brief."}]}
NIGHTLY = {"type": "cron", "expression": "0 3 * * 1-5", "timezone": "America/New_York"}
DONE = ScriptedTurn(text="done")


async def body(gateway: Any, **fields: Any) -> dict[str, Any]:
    """What creates a deployment of an agent and an environment of its own."""
    agent = await gateway.stage.agent()
    environment = await gateway.stage.runtime.create_environment(EnvironmentDefinition(name=f"for {agent.id}"))
    made = {"name": "nightly", "agent": agent.id, "environment_id": environment.id, "initial_events": [HELLO]}
    return made | fields


async def test_deployment_has_every_field_of_the_contract(gateway: Any) -> None:
    wanted = await body(
        gateway,
        initial_events=[BRIEF, HELLO],
        schedule=NIGHTLY,
        description="every night",
        metadata={"team": "a"},
    )

    made = (await gateway.http.post("/v1/deployments", json=wanted)).raise_for_status().json()

    assert made["agent"] == {"type": "agent", "id": wanted["agent"], "version": 1}
    same = ("name", "environment_id", "initial_events", "description", "metadata")
    assert {name: made[name] for name in same} == {name: wanted[name] for name in same}
    assert (made["type"], made["status"], made["paused_reason"], made["archived_at"]) == (
        "deployment",
        "active",
        None,
        None,
    )
    assert (made["resources"], made["vault_ids"], made["budget"]) == ([], [], None)
    schedule = made["schedule"]
    assert {name: schedule[name] for name in NIGHTLY} == NIGHTLY
    assert (len(schedule["upcoming_runs_at"]), schedule["last_run_at"]) == (5, None)
    assert made["id"].startswith("depl_")
    assert (await gateway.http.get(f"/v1/deployments/{made['id']}")).json() == made


async def test_deployment_lives_through_the_sdk(gateway: Any) -> None:
    await gateway.stage.work([DONE])
    deployments = gateway.sdk.beta.deployments
    made = await deployments.create(**await body(gateway, schedule=NIGHTLY))

    renamed = await deployments.update(made.id, name="weekly", metadata={"a": "1"})
    paused = await deployments.pause(made.id)
    run = await deployments.run(made.id)
    active = await deployments.unpause(made.id)
    manual = await deployments.update(made.id, schedule=None)
    archived = await deployments.archive(made.id)

    assert (renamed.name, renamed.metadata, renamed.schedule.expression) == ("weekly", {"a": "1"}, "0 3 * * 1-5")
    assert (paused.status, paused.paused_reason.type) == ("paused", "manual")
    assert (active.status, active.paused_reason, manual.schedule) == ("active", None, None)
    assert archived.archived_at is not None
    assert (run.type, run.deployment_id, run.trigger_context.type, run.error) == (
        "deployment_run",
        made.id,
        "manual",
        None,
    )
    found = await gateway.sdk.beta.deployment_runs.retrieve(run.id)
    assert found.session_id == run.session_id
    probe = gateway.stage.watch(gateway.stage.runtime.session(run.session_id))
    await probe.idle()
    assert probe.texts() == ["done"]


async def test_lists_page_through_the_sdk(gateway: Any, eventually: Any) -> None:
    await gateway.stage.work([DONE])
    made = [await gateway.sdk.beta.deployments.create(**await body(gateway)) for _ in range(3)]
    runs = [await gateway.sdk.beta.deployments.run(made[0].id) for _ in range(3)]

    async def listed() -> bool:
        deployments = [each.id async for each in gateway.sdk.beta.deployments.list(limit=2)]
        found = [each.id async for each in gateway.sdk.beta.deployment_runs.list(limit=2, deployment_id=made[0].id)]
        return deployments == [each.id for each in made[::-1]] and found == [each.id for each in runs[::-1]]

    await eventually(listed, "three deployments and three runs in the lists")
    only = gateway.sdk.beta.deployments.list(agent_id=made[1].agent.id, status="active")
    assert [each.id async for each in only] == [made[1].id]
    assert [each.id async for each in gateway.sdk.beta.deployment_runs.list(has_error=True)] == []
    late = gateway.sdk.beta.deployment_runs.list(created_at_gt=runs[1].created_at, trigger_type="manual")
    assert [each.id async for each in late] == [runs[2].id]
    for run in runs:
        await gateway.stage.watch(gateway.stage.runtime.session(run.session_id)).idle()


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 257}, "name"),
        ({"agent": 3}, "agent"),
        ({"agent": {"type": "agent_with_overrides", "id": "agent_1"}}, "agent.type"),
        ({"environment_id": None}, "environment_id"),
        ({"initial_events": []}, "initial_events"),
        ({"initial_events": [HELLO] * 51}, "initial_events"),
        ({"initial_events": [{"type": "user.interrupt"}]}, "initial_events.0"),
        ({"initial_events": [HELLO, {"type": "user.message", "content": []}]}, "initial_events.1.content"),
        ({"schedule": {"type": "cron", "expression": "0 3 * *", "timezone": "UTC"}}, "schedule.expression"),
        ({"schedule": {"type": "cron", "expression": "@daily", "timezone": "UTC"}}, "schedule.expression"),
        ({"schedule": {"type": "cron", "expression": "0 0 30 2 *", "timezone": "UTC"}}, "schedule.expression"),
        ({"schedule": {"type": "cron", "expression": "0 3 * * *", "timezone": "Mars"}}, "schedule.timezone"),
        ({"schedule": {"type": "cron", "expression": "0 3 * * *"}}, "schedule.timezone"),
        ({"resources": [{"type": "file", "file_id": "file_1"}]}, "resources"),
        ({"vault_ids": ["vlt_1", "vlt_1"]}, "vault_ids"),
        ({"budget": {"type": "limit", "max_list_cost": {"amount": "0", "currency": "USD"}}}, "budget"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"description": "x" * 2049}, "description"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_wrong_field_is_refused_with_its_path(gateway: Any, fields: dict[str, Any], path: str) -> None:
    wanted = await body(gateway, **fields)

    refused = await gateway.http.post("/v1/deployments", json=wanted)

    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["type"] == "invalid_request_error"
    assert refused.json()["error"]["message"].startswith(path), refused.text


async def test_wrong_queries_are_refused(gateway: Any) -> None:
    for url in (
        "/v1/deployments?limit=101",
        "/v1/deployments?page=zz",
        "/v1/deployments?status=gone",
        "/v1/deployments?status=active&include_archived=true",
        "/v1/deployment_runs?limit=1001",
        "/v1/deployment_runs?page=zz",
        "/v1/deployment_runs?trigger_type=moon",
        "/v1/deployment_runs?created_at[gt]=yesterday",
    ):
        assert (await gateway.http.get(url)).status_code == 400, url


async def test_archived_and_unknown_and_foreign_things(gateway: Any) -> None:
    wanted = await body(gateway)
    made = (await gateway.http.post("/v1/deployments", json=wanted)).json()
    one = f"/v1/deployments/{made['id']}"
    async with gateway.client("eve") as eve, gateway.client("reader") as reader:
        assert (await eve.get(one)).status_code == 404
        assert (await eve.post(f"{one}/run")).status_code == 404
        assert (await eve.get("/v1/deployments")).json()["data"] == []
        assert (await reader.get(one)).status_code == 200
        assert (await reader.post(f"{one}/pause")).status_code == 403
    assert (await gateway.http.get("/v1/deployments/depl_nobody")).status_code == 404
    assert (await gateway.http.get("/v1/deployment_runs/drun_nobody")).status_code == 404
    assert (await gateway.http.post("/v1/deployments", json=wanted | {"agent": "agent_nobody"})).status_code == 404

    await gateway.http.post(f"{one}/archive")
    for path, change in ((one, {"name": "x"}), (f"{one}/pause", None), (f"{one}/run", None)):
        refused = await gateway.http.post(path, json=change)
        assert refused.status_code == 400
        assert "archived" in refused.json()["error"]["message"]


async def test_repeated_requests_make_one_thing(gateway: Any) -> None:
    await gateway.stage.work([DONE])
    wanted, retry = await body(gateway), {"x-stainless-retry-count": "1"}

    made = (await gateway.http.post("/v1/deployments", json=wanted)).json()
    again = (await gateway.http.post("/v1/deployments", json=wanted, headers=retry)).json()
    other = (await gateway.http.post("/v1/deployments", json=wanted)).json()
    run = (await gateway.http.post(f"/v1/deployments/{made['id']}/run", headers={"idempotency-key": "a"})).json()
    same = (await gateway.http.post(f"/v1/deployments/{made['id']}/run", headers={"idempotency-key": "a"})).json()

    assert again == made
    assert other["id"] != made["id"]
    assert same == run
    await gateway.stage.watch(gateway.stage.runtime.session(run["session_id"])).idle()


async def test_archived_environment_refuses_and_pauses(gateway: Any) -> None:
    await gateway.stage.work([DONE])
    wanted = await body(gateway)
    made = await gateway.sdk.beta.deployments.create(**wanted)
    await gateway.stage.runtime.archive_environment(wanted["environment_id"])

    run = await gateway.sdk.beta.deployments.run(made.id)
    found = await gateway.sdk.beta.deployments.retrieve(made.id)

    assert (run.session_id, run.error.type) == (None, "environment_archived_error")
    assert (found.status, found.paused_reason.error.type) == ("paused", "environment_archived_error")
    with pytest.raises(anthropic.BadRequestError):
        await gateway.sdk.beta.deployments.create(**wanted)
