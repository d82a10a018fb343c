"""What a session shows of itself in one description: usage, cost, working time, and where it belongs."""

import asyncio
from typing import Any

import pytest

from sojourn.client import CreatedRange, SessionFilter
from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import (
    AgentVersion,
    Budget,
    CustomTool,
    EnvironmentDefinition,
    RollOver,
    SessionNotFoundError,
    SessionStateError,
    SessionStatus,
    SessionUsage,
    UpdateSessionInput,
    Usage,
    UserCustomToolResult,
)
from sojourn.types.id import DeploymentId

LOOK = CustomTool(name="look", description="Look.", input_schema={"type": "object"})


@pytest.fixture
async def stage(stage: Any) -> Any:
    """The stage with an environment."""
    await stage.runtime.create_environment(EnvironmentDefinition(name="one"), environment_id="env_1")
    return stage


@pytest.fixture
async def probe(stage: Any) -> Any:
    return await stage.session(
        ScriptedTurn(text="done", usage=Usage(input_tokens=7, output_tokens=3)), environment_id="env_1"
    )


async def test_a_session_shows_where_it_belongs_before_it_has_done_anything(stage: Any) -> None:
    agent = await stage.agent()

    session = await stage.runtime.start_session(
        agent, environment_id="env_1", deployment_id="depl_1", budget=Budget(max_list_cost_cents=5)
    )
    info = await session.info()

    assert (info.agent_version, info.environment_id, info.deployment_id) == (1, "env_1", "depl_1")
    assert info.account.budget == Budget(max_list_cost_cents=5)
    assert info.account.turns == 0
    assert info.updated_at == info.created_at


async def test_the_account_is_stored_with_each_idle(stage: Any, probe: Any) -> None:
    for number in (1, 2):
        await probe.session.send("hello")
        await probe.idle(number)
    info = await probe.session.info()

    assert info.account.usage == Usage(input_tokens=14, output_tokens=6)
    assert info.account.turns == 2
    assert info.account.active_seconds > 0
    assert info.updated_at is not None
    assert info.updated_at > info.created_at
    (*_, told) = probe.of(SessionUsage)
    assert told.usage == info.account.usage
    assert told.active_seconds == info.account.active_seconds


async def test_the_account_costs_no_event_of_history(stage: Any, probe: Any) -> None:
    await probe.session.send("hello")
    await probe.idle()
    history = await stage.client.get_workflow_handle(probe.workflow_id).fetch_history()
    memos = [
        set(event.workflow_properties_modified_event_attributes.upserted_memo.fields)
        for event in history.events
        if event.HasField("workflow_properties_modified_event_attributes")
    ]

    assert memos == [{"log", "account"}]


async def test_waiting_for_the_client_is_not_working(stage: Any) -> None:
    probe = await stage.session(ScriptedTurn(calls=[ScriptedCall("look")]), ScriptedTurn(text="done"), custom=[LOOK])
    await probe.session.send("look")
    (call,) = await probe.parked()
    parked = (await probe.session.info()).account
    await probe.session.answer(call, "seen")
    await probe.idle(2)
    (first, second) = probe.of(SessionUsage)
    (answered,) = probe.of(UserCustomToolResult)

    assert parked.turns == 1
    assert first.active_seconds == parked.active_seconds
    worked = second.active_seconds - first.active_seconds
    assert 0 < worked <= (second.processed_at - answered.processed_at).total_seconds() + 0.001


async def test_an_update_is_an_update(probe: Any) -> None:
    await probe.session.send("hello")
    await probe.idle()
    before = await probe.session.info()
    await probe.session.update(UpdateSessionInput(title="new"))
    after = await probe.session.info()

    assert after.updated_at > before.updated_at
    assert after.account.usage == before.account.usage


async def test_the_account_is_carried_into_the_next_run(stage: Any) -> None:
    probe = await stage.session(
        ScriptedTurn(text="done", usage=Usage(input_tokens=7, output_tokens=3)),
        roll_over=RollOver(max_events=20),
        environment_id="env_1",
        deployment_id="depl_1",
    )
    for number in range(1, 9):
        await probe.session.send("hello")
        await probe.idle(number)
    info = await probe.session.info()

    assert await probe.runs() > 1
    assert info.account.usage == Usage(input_tokens=56, output_tokens=24)
    assert info.account.turns == 8
    assert (info.agent_version, info.environment_id, info.deployment_id) == (1, "env_1", "depl_1")


async def test_the_account_of_an_ended_session_stays(stage: Any, probe: Any) -> None:
    await probe.session.send("hello")
    await probe.idle()
    await probe.session.archive()
    info = await probe.session.info()

    assert info.account.usage.total_tokens == 10
    assert info.updated_at == info.closed_at


async def test_the_snapshot_is_the_agent_that_the_session_runs_now(stage: Any, probe: Any) -> None:
    first = await stage.runtime.session_snapshot(probe.session)
    changed = first.agent.definition.model_copy(update={"system": "be brief"})
    change = AgentVersion(id=first.agent.id, version=2, definition=changed)
    await probe.session.update(UpdateSessionInput(agent=change))
    await probe.session.send("hello")
    await probe.idle()
    second = await stage.runtime.session_snapshot(probe.session)

    assert (first.agent.version, second.agent.version) == (1, 2)
    assert second.agent.definition.system == "be brief"
    assert second.info.environment_id == "env_1"
    assert second.info.agent_version == 2


async def test_a_session_may_override_the_stored_definition(stage: Any, eventually: Any) -> None:
    await stage.work([ScriptedTurn(text="done")])
    stored = await (await stage.agent(system="be kind")).get()
    override = stored.model_copy(update={"definition": stored.definition.model_copy(update={"system": "be brief"})})
    probe = stage.watch(await stage.runtime.start_session(override))
    snapshot = await stage.runtime.session_snapshot(probe.session)

    assert snapshot.agent.definition.system == "be brief"
    assert snapshot.info.agent_version == stored.version
    assert (await stage.runtime.get_agent(stored.id)).definition.system == "be kind"


async def test_lists_take_every_filter(stage: Any, eventually: Any) -> None:
    await stage.work([ScriptedTurn(text="done")])
    agent = await stage.agent()
    plain = await stage.runtime.start_session(agent)
    first = await stage.runtime.start_session(agent, environment_id="env_1", deployment_id="depl_1")
    second = await stage.runtime.start_session(agent, environment_id="env_1")
    await second.archive()
    created = (await first.info()).created_at

    async def ids(**wanted: Any) -> set[str]:
        return {each.id for each in (await stage.runtime.list_sessions(**wanted)).data}

    async def listed() -> bool:
        return len(await ids()) == 3 and len(await ids(statuses=[SessionStatus.ARCHIVED])) == 1

    await eventually(listed, "three sessions in the lists")
    assert await ids(environment_id="env_1") == {second.id, first.id}
    assert await ids(environment_id="env_1", include_archived=False) == {first.id}
    assert await ids(deployment_id="depl_1") == {first.id}
    assert await ids(agent=agent, agent_version=1) == {second.id, first.id, plain.id}
    assert await ids(agent=agent, agent_version=2) == set()
    assert first.id in await ids(created=CreatedRange(gte=created))
    assert first.id not in await ids(created=CreatedRange(gt=created))
    assert first.id in await ids(created=CreatedRange(lte=created))
    assert first.id not in await ids(created=CreatedRange(lt=created))
    snapshots = await stage.runtime.list_session_snapshots(
        SessionFilter(workspace=stage.owner.workspace, deployment_id=DeploymentId("depl_1")), limit=5
    )
    assert [(each.info.id, each.agent.id) for each in snapshots.data] == [(first.id, agent.id)]


async def test_a_running_session_is_neither_archived_nor_deleted_where_only_an_idle_one_is(stage: Any) -> None:
    probe = await stage.session(ScriptedTurn(text="half a", stall=True))
    await probe.session.send("talk")
    await probe.written("half a")

    for end in (probe.session.archive, probe.session.delete):
        with pytest.raises(SessionStateError, match="wait until it is idle"):
            await end(only_if_idle=True)
    assert await probe.session.status() is SessionStatus.RUNNING
    await probe.session.interrupt()
    await probe.idle()
    await probe.session.delete(only_if_idle=True)
    probe.forget()
    with pytest.raises(SessionNotFoundError):
        await probe.session.status()


async def test_a_message_that_came_before_counts_as_a_turn(stage: Any) -> None:
    """Nobody can slip between the look at the status and the archive: the session itself decides."""
    agent = await stage.agent()
    session = await stage.runtime.start_session(agent)
    await session.send("hello")
    archiving = asyncio.create_task(session.archive(only_if_idle=True))
    await stage.work([ScriptedTurn(text="half a", stall=True)])

    with pytest.raises(SessionStateError):
        await archiving


async def test_a_parked_session_is_idle(stage: Any) -> None:
    probe = await stage.session(ScriptedTurn(calls=[ScriptedCall("look")]), custom=[LOOK])
    await probe.session.send("look")
    await probe.parked()
    await probe.session.archive(only_if_idle=True)

    assert await probe.session.status() is SessionStatus.ARCHIVED
