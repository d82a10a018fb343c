import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.api.schedule.v1 import BackfillRequest, SchedulePatch
from temporalio.api.workflowservice.v1 import PatchScheduleRequest

from sojourn.client.listing import CreatedRange
from sojourn.testing import ScriptedTurn
from sojourn.types import (
    AgentArchivedError,
    AgentNotFoundError,
    AgentRef,
    CronSchedule,
    Deployment,
    DeploymentArchivedError,
    DeploymentChange,
    DeploymentDefinition,
    DeploymentExistsError,
    DeploymentNotFoundError,
    DeploymentRun,
    DeploymentRunNotFoundError,
    ErrorPause,
    InvalidRequestError,
    ManualPause,
    ManualTrigger,
    Owner,
    ScheduleTrigger,
    Skill,
    SystemMessage,
    TextBlock,
    UserMessage,
)

Eventually = Callable[[Callable[[], Awaitable[bool]], str], Awaitable[None]]
HELLO = UserMessage.text("hello")
NIGHTLY = CronSchedule(expression="0 3 * * *", timezone="Europe/Berlin")
DONE = ScriptedTurn(text="done")


def definition(agent: Any, **fields: Any) -> DeploymentDefinition:
    return DeploymentDefinition(**{"name": "nightly", "agent": agent.id, "initial_events": (HELLO,), **fields})


async def deploy(stage: Any, **fields: Any) -> Deployment:
    """A deployment of an agent of its own."""
    agent = fields.pop("of", None) or await stage.agent()
    made: Deployment = await stage.runtime.create_deployment(definition(agent, **fields))
    return made


async def fire(stage: Any, deployment: Deployment, *, at: datetime) -> None:
    """Have a schedule make up for its runs in the hour before a time."""
    request = BackfillRequest()
    request.start_time.FromDatetime(at - timedelta(hours=1))
    request.end_time.FromDatetime(at)
    await stage.client.workflow_service.patch_schedule(
        PatchScheduleRequest(
            namespace=stage.client.namespace,
            schedule_id=f"{stage.owner.workspace}/{deployment.id}",
            patch=SchedulePatch(backfill_request=[request]),
        )
    )


NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOURLY = CronSchedule(expression="30 * * * *", timezone="UTC")


# --- creating and reading --------------------------------------------------------------------------------------------


async def test_deployment_is_pinned_to_the_agents_latest_version(stage: Any) -> None:
    await stage.work([DONE])
    agent = await stage.agent()
    made = await deploy(stage, of=agent, metadata={"team": "a"}, description="every night")
    definition = (await agent.get()).definition.model_copy(update={"system": "new"})
    await agent.update(definition)

    found = await stage.runtime.get_deployment(made.id)

    assert found == made
    assert found.agent == AgentRef(id=agent.id, version=1)
    assert (found.name, found.description, found.metadata) == ("nightly", "every night", {"team": "a"})
    assert (found.status, found.paused_reason, found.schedule) == ("active", None, None)
    assert (found.upcoming_runs_at, found.last_run_at, found.archived_at) == ((), None, None)
    assert found.initial_events == (HELLO,)


async def test_schedule_shows_its_next_five_runs_as_they_are_due(stage: Any) -> None:
    made = await deploy(stage, schedule=NIGHTLY)
    paused = await stage.runtime.pause_deployment(made)

    assert len(made.upcoming_runs_at) == 5
    assert {(at.second, at.microsecond) for at in made.upcoming_runs_at} == {(0, 0)}
    assert {at.hour for at in made.upcoming_runs_at} <= {1, 2}
    assert paused.upcoming_runs_at == made.upcoming_runs_at


async def test_either_field_for_days_is_enough_when_both_are_given(stage: Any) -> None:
    made = await deploy(stage, schedule=CronSchedule(expression="0 12 13 * 5", timezone="UTC"))

    assert {at.day == 13 or at.weekday() == 4 for at in made.upcoming_runs_at} == {True}
    assert any(at.day != 13 for at in made.upcoming_runs_at)


async def test_unknown_time_zone_is_refused_by_its_path(stage: Any) -> None:
    wrong = CronSchedule(expression="0 3 * * *", timezone="Mars/Olympus")
    made = await deploy(stage)

    for attempt in (
        deploy(stage, schedule=wrong),
        stage.runtime.update_deployment(made, DeploymentChange(schedule=wrong)),
    ):
        with pytest.raises(InvalidRequestError, match="Mars/Olympus") as error:
            await attempt
        assert error.value.param == "schedule.timezone"


async def test_agent_that_cannot_run_is_refused(stage: Any) -> None:
    await stage.work([DONE])
    archived = await stage.agent()
    await archived.archive()
    skilled = await stage.runtime.create(
        (await (await stage.agent()).get()).definition.model_copy(update={"skills": (Skill(skill_id="xlsx"),)})
    )

    with pytest.raises(AgentArchivedError):
        await deploy(stage, of=archived)
    with pytest.raises(InvalidRequestError, match="skills"):
        await deploy(stage, of=skilled)
    with pytest.raises(AgentNotFoundError):
        await stage.runtime.create_deployment(
            DeploymentDefinition(name="x", agent="agent_nobody", initial_events=(HELLO,))
        )


async def test_empty_first_message_is_refused_by_its_path(stage: Any) -> None:
    with pytest.raises(InvalidRequestError) as error:
        await deploy(stage, initial_events=(HELLO, UserMessage.text("  ")))

    assert error.value.param == "initial_events.1.content"


async def test_id_of_the_callers_choosing_makes_one_deployment(stage: Any) -> None:
    wanted = definition(await stage.agent())
    made = await stage.runtime.create_deployment(wanted, deployment_id="depl_mine")

    with pytest.raises(DeploymentExistsError):
        await stage.runtime.create_deployment(wanted, deployment_id="depl_mine")
    with pytest.raises(InvalidRequestError):
        await stage.runtime.create_deployment(wanted, deployment_id="mine")

    assert made.id == "depl_mine"


async def test_deployments_of_others_do_not_exist(stage: Any) -> None:
    await stage.work([DONE])
    made = await deploy(stage)
    run = await stage.runtime.run_deployment(made)

    for other in (Owner(stage.owner.workspace, "bob"), Owner("elsewhere")):
        for use in (
            stage.runtime.get_deployment(made.id, owner=other),
            stage.runtime.update_deployment(made.id, DeploymentChange(name="x"), owner=other),
            stage.runtime.pause_deployment(made.id, owner=other),
            stage.runtime.archive_deployment(made.id, owner=other),
            stage.runtime.run_deployment(made.id, owner=other),
        ):
            with pytest.raises(DeploymentNotFoundError):
                await use
        with pytest.raises(DeploymentRunNotFoundError):
            await stage.runtime.get_deployment_run(run.id, owner=other)
        assert (await stage.runtime.list_deployments(owner=other)).data == []


# --- changing --------------------------------------------------------------------------------------------------------


async def test_change_keeps_what_it_leaves_out(stage: Any) -> None:
    made = await deploy(stage, schedule=NIGHTLY, description="old", metadata={"a": "1", "b": "2"})
    change = DeploymentChange(name="new", metadata={"a": None, "c": "3"}, description=None)

    changed = await stage.runtime.update_deployment(made, change)
    manual = await stage.runtime.update_deployment(made, DeploymentChange(schedule=None))

    assert (changed.name, changed.metadata, changed.description) == ("new", {"b": "2", "c": "3"}, None)
    assert (changed.schedule, changed.initial_events) == (NIGHTLY, made.initial_events)
    assert changed.updated_at > made.updated_at
    assert changed.created_at == made.created_at
    assert (manual.schedule, manual.upcoming_runs_at, manual.name) == (None, (), "new")


async def test_change_that_changes_nothing_is_not_written(stage: Any) -> None:
    made = await deploy(stage, schedule=NIGHTLY)

    same = await stage.runtime.update_deployment(made, DeploymentChange(name=made.name, agent=made.agent))

    assert same == made


async def test_naming_the_agent_again_takes_its_latest_version(stage: Any) -> None:
    await stage.work([DONE])
    agent = await stage.agent()
    made = await deploy(stage, of=agent)
    await agent.update((await agent.get()).definition.model_copy(update={"system": "new"}))

    changed = await stage.runtime.update_deployment(made, DeploymentChange(agent=agent.id))
    back = await stage.runtime.update_deployment(made, DeploymentChange(agent=AgentRef(id=agent.id, version=1)))

    assert (changed.agent.version, back.agent.version) == (2, 1)


async def test_changes_at_the_same_time_are_all_kept(stage: Any) -> None:
    made = await deploy(stage)
    runtimes = [stage.runtime, stage.another_runtime(), stage.another_runtime()]
    changes = [DeploymentChange(metadata={f"key{number}": "x"}) for number in range(9)]

    await asyncio.gather(
        *(runtimes[number % 3].update_deployment(made, change) for number, change in enumerate(changes))
    )

    found = await stage.runtime.get_deployment(made.id)
    assert sorted(found.metadata) == [f"key{number}" for number in range(9)]


async def test_too_much_metadata_after_a_change_is_refused(stage: Any) -> None:
    made = await deploy(stage, metadata={str(number): "x" for number in range(16)})

    with pytest.raises(InvalidRequestError) as error:
        await stage.runtime.update_deployment(made, DeploymentChange(metadata={"one": "more"}))

    assert error.value.param == "metadata"


async def test_pause_and_unpause_can_be_repeated(stage: Any) -> None:
    made = await deploy(stage, schedule=NIGHTLY)

    paused = await stage.runtime.pause_deployment(made)
    again = await stage.runtime.pause_deployment(made)
    active = await stage.runtime.unpause_deployment(made)

    assert (paused.status, paused.paused_reason) == ("paused", ManualPause())
    assert again == paused
    assert (active.status, active.paused_reason) == ("active", None)
    assert (await stage.runtime.unpause_deployment(made)) == active


async def test_pause_in_the_web_ui_counts_as_by_hand(stage: Any) -> None:
    made = await deploy(stage, schedule=NIGHTLY)

    await stage.client.get_schedule_handle(f"{stage.owner.workspace}/{made.id}").pause()

    assert (await stage.runtime.get_deployment(made.id)).paused_reason == ManualPause()


async def test_archived_deployment_is_read_only(stage: Any) -> None:
    made = await deploy(stage, schedule=NIGHTLY)

    archived = await stage.runtime.archive_deployment(made)
    again = await stage.runtime.archive_deployment(made)

    assert archived.archived_at is not None
    assert (archived.status, archived.upcoming_runs_at, archived.schedule) == ("active", (), NIGHTLY)
    assert again == archived
    for use in (
        stage.runtime.update_deployment(made, DeploymentChange(name="x")),
        stage.runtime.pause_deployment(made),
        stage.runtime.unpause_deployment(made),
        stage.runtime.run_deployment(made),
    ):
        with pytest.raises(DeploymentArchivedError):
            await use


# --- lists -----------------------------------------------------------------------------------------------------------


async def test_list_pages_from_the_newest(stage: Any, eventually: Eventually) -> None:
    agent = await stage.agent()
    made = [await deploy(stage, of=agent, name=f"number {number}") for number in range(5)]

    async def listed() -> bool:
        return len((await stage.runtime.list_deployments()).data) == 5

    await eventually(listed, "five deployments in the list")
    first = await stage.runtime.list_deployments(limit=3)
    second = await stage.runtime.list_deployments(limit=3, page=first.next_page)

    assert [*first.data, *second.data] == made[::-1]
    assert (len(first.data), second.next_page) == (3, None)
    with pytest.raises(InvalidRequestError) as error:
        await stage.runtime.list_deployments(page="zz")
    assert error.value.param == "page"


async def test_list_is_filtered(stage: Any, eventually: Eventually) -> None:
    one, two = await deploy(stage, schedule=NIGHTLY), await deploy(stage)
    archived = await stage.runtime.archive_deployment(await deploy(stage))
    paused = await stage.runtime.pause_deployment(one)

    async def ids(**filters: Any) -> list[str]:
        return [each.id for each in (await stage.runtime.list_deployments(**filters)).data]

    async def shown() -> bool:
        everything = await ids(include_archived=True)
        return len(everything) == 3 and await ids(status="paused") == [paused.id] and archived.id not in await ids()

    await eventually(shown, "the changes in the list")

    assert await ids() == [two.id, one.id]
    assert await ids(status="active") == [two.id]
    assert await ids(agent=one.agent.id) == [one.id]
    assert await ids(created=CreatedRange(gte=two.created_at)) == [two.id]
    assert await ids(created=CreatedRange(lte=one.created_at)) == [one.id]


# --- runs ------------------------------------------------------------------------------------------------------------


async def test_run_by_hand_starts_a_session_with_the_first_events(stage: Any) -> None:
    await stage.work([DONE])
    brief = SystemMessage(content=(TextBlock(text="Be brief."),))
    made = await deploy(stage, initial_events=(brief, HELLO))

    run = await stage.runtime.run_deployment(made)

    assert (run.trigger, run.error, run.deployment_id) == (ManualTrigger(), None, made.id)
    assert run.agent == made.agent
    probe = stage.watch(stage.runtime.session(run.session_id))
    await probe.idle()
    assert probe.story()[:2] == ["system.message", "user.message"]
    assert probe.texts() == ["done"]
    info = await stage.runtime.get_session(run.session_id)
    assert (info.title, info.agent_id, info.owner) == ("nightly", made.agent.id, stage.owner)
    assert await stage.runtime.get_deployment_run(run.id) == run


async def test_run_works_while_paused(stage: Any) -> None:
    await stage.work([DONE])
    made = await stage.runtime.pause_deployment(await deploy(stage, schedule=NIGHTLY))

    run = await stage.runtime.run_deployment(made)

    assert run.session_id is not None
    await stage.watch(stage.runtime.session(run.session_id)).idle()


async def test_schedule_fires_with_the_time_it_was_due(stage: Any, eventually: Eventually) -> None:
    await stage.work([DONE])
    made = await deploy(stage, schedule=HOURLY)

    await fire(stage, made, at=NOON)

    (run,) = await _runs(stage, eventually, made)
    assert run.trigger == ScheduleTrigger(scheduled_at=NOON - timedelta(minutes=30))
    assert run.session_id is not None
    await stage.watch(stage.runtime.session(run.session_id)).idle()
    assert await stage.runtime.get_deployment_run(run.id) == run
    assert (await stage.runtime.get_deployment(made.id)).last_run_at is not None


async def test_one_time_has_one_session_however_often_it_fires(stage: Any, eventually: Eventually) -> None:
    await stage.work([DONE])
    made = await deploy(stage, schedule=HOURLY)
    await fire(stage, made, at=NOON)
    (first,) = await _runs(stage, eventually, made)

    await fire(stage, made, at=NOON)
    await fire(stage, made, at=NOON + timedelta(hours=1))
    runs = await _runs(stage, eventually, made, number=2)

    assert {run.session_id for run in runs if run.id == first.id} == {first.session_id}
    assert len({run.session_id for run in runs}) == 2
    for run in runs:
        await stage.watch(stage.runtime.session(run.session_id)).idle()


async def test_run_without_a_worker_is_stored_and_done_later(stage: Any, eventually: Eventually) -> None:
    made = await deploy(stage, schedule=HOURLY)
    await fire(stage, made, at=NOON)
    (waiting,) = await _runs(stage, eventually, made, settled=False)

    await stage.work([DONE])
    (run,) = await _runs(stage, eventually, made)

    assert (waiting.session_id, waiting.error) == (None, None)
    assert run.id == waiting.id
    await stage.watch(stage.runtime.session(run.session_id)).idle()


async def test_archived_agent_pauses_the_deployment(stage: Any, eventually: Eventually) -> None:
    await stage.work([DONE])
    agent = await stage.agent()
    made = await deploy(stage, of=agent, schedule=HOURLY)
    await agent.archive()

    await fire(stage, made, at=NOON)

    (run,) = await _runs(stage, eventually, made)
    assert run.session_id is None
    assert run.error is not None
    assert run.error.type == "agent_archived_error"
    assert agent.id in run.error.message

    async def paused() -> bool:
        found: Deployment = await stage.runtime.get_deployment(made.id)
        return found.status == "paused"

    await eventually(paused, "the pause")
    found = await stage.runtime.get_deployment(made.id)
    assert isinstance(found.paused_reason, ErrorPause)
    assert found.paused_reason.error.type == "agent_archived_error"

    changed = await stage.runtime.update_deployment(found, DeploymentChange(agent=(await stage.agent()).id))
    mended = await stage.runtime.unpause_deployment(found)
    assert (changed.status, mended.status, mended.paused_reason) == ("paused", "active", None)


async def test_runs_are_filtered(stage: Any, eventually: Eventually) -> None:
    await stage.work([DONE])
    agent = await stage.agent()
    good, bad = await deploy(stage, schedule=HOURLY), await deploy(stage, of=agent)
    await agent.archive()
    failed = await stage.runtime.run_deployment(bad)
    await fire(stage, good, at=NOON)
    (fired,) = await _runs(stage, eventually, good)

    async def ids(**filters: Any) -> list[str]:
        return [each.id for each in (await stage.runtime.list_deployment_runs(**filters)).data]

    async def listed() -> bool:
        return len(await ids(has_error=True)) == len(await ids(has_error=False)) == 1

    await eventually(listed, "both runs in the list")

    assert await ids() == [fired.id, failed.id]
    assert await ids(has_error=True) == await ids(trigger="manual") == await ids(deployment=bad) == [failed.id]
    assert await ids(has_error=False) == await ids(trigger="schedule") == [fired.id]
    assert await ids(deployment="depl_nobody") == []
    assert await ids(created=CreatedRange(gte=fired.created_at)) == [fired.id]
    assert await ids(created=CreatedRange(lt=fired.created_at)) == [failed.id]
    first = await stage.runtime.list_deployment_runs(limit=1)
    second = await stage.runtime.list_deployment_runs(limit=1, page=first.next_page)
    assert [each.id for each in (*first.data, *second.data)] == [fired.id, failed.id]
    await stage.watch(stage.runtime.session(fired.session_id)).idle()


async def test_id_of_a_run_runs_it_once(stage: Any) -> None:
    await stage.work([DONE])
    made = await deploy(stage)

    run = await stage.runtime.run_deployment(made, run_id="drun_mine")

    with pytest.raises(DeploymentExistsError):
        await stage.runtime.run_deployment(made, run_id="drun_mine")
    assert run.id == "drun_mine"
    await stage.watch(stage.runtime.session(run.session_id)).idle()


@pytest.mark.parametrize("id", ["drun_nobody", "drun_a-b", "drun_a-zz", "drun_a-ffffffffffffffff", "agent_x", "x-", ""])
async def test_unknown_run_is_not_found(stage: Any, id: str) -> None:
    with pytest.raises(DeploymentRunNotFoundError):
        await stage.runtime.get_deployment_run(id)


async def _runs(
    stage: Any, eventually: Eventually, made: Deployment, *, number: int = 1, settled: bool = True
) -> list[DeploymentRun]:
    """Wait for so many runs of a deployment."""
    found: list[DeploymentRun] = []

    async def there() -> bool:
        listed = (await stage.runtime.list_deployment_runs(deployment=made)).data
        found[:] = {each.id: each for each in listed}.values()
        return len(found) == number and all(each.session_id or each.error for each in found) == settled

    await eventually(there, f"{number} runs of {made.id}")
    return found
