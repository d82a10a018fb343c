import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.api.schedule.v1 import BackfillRequest, SchedulePatch
from temporalio.api.workflowservice.v1 import PatchScheduleRequest

from sojourn.testing import ScriptedTurn
from sojourn.types import (
    CronSchedule,
    Deployment,
    DeploymentChange,
    DeploymentDefinition,
    DeploymentRun,
    EnvironmentDefinition,
    ScheduleTrigger,
    SystemMessage,
    TextBlock,
    UserMessage,
)
from sojourn.types.id import run_workflow_id
from sojourn.worker import WorkerOptions

DONE = ScriptedTurn(text="done")
HELLO = UserMessage.text("hello")
EVERY_MINUTE = CronSchedule(expression="* * * * *", timezone="UTC")
HOURLY = CronSchedule(expression="30 * * * *", timezone="UTC")
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


async def deploy(stage: Any, agent: Any, **fields: Any) -> Deployment:
    wanted = DeploymentDefinition(**{"name": "nightly", "agent": agent.id, "initial_events": [HELLO], **fields})
    made: Deployment = await stage.runtime.create_deployment(wanted)
    return made


async def fire(stage: Any, deployment: Deployment, *, at: datetime, hours: int = 1) -> None:
    """Have a schedule make up for its runs in the hours before a time."""
    request = BackfillRequest()
    request.start_time.FromDatetime(at - timedelta(hours=hours, seconds=30))
    request.end_time.FromDatetime(at + timedelta(seconds=20))
    await stage.client.workflow_service.patch_schedule(
        PatchScheduleRequest(
            namespace=stage.client.namespace,
            schedule_id=f"{stage.owner.workspace}/{deployment.id}",
            patch=SchedulePatch(backfill_request=[request]),
        )
    )


async def runs(stage: Any, deployment: Deployment, number: int, *, settled: bool = True) -> list[DeploymentRun]:
    """Wait for so many runs, and what came of them; the newest first."""
    async with asyncio.timeout(110):
        while True:
            listed = (await stage.runtime.list_deployment_runs(deployment=deployment, limit=1000)).data
            found = [each for each in listed if not settled or each.session_id or each.error]
            if len(found) >= number:
                return found
            await asyncio.sleep(0.1)


async def spoken(stage: Any, run: DeploymentRun) -> Any:
    """Wait for the turn of the session that a run started; the session's stream."""
    probe = stage.watch(stage.runtime.session(run.session_id))
    await probe.idle()
    return probe


async def test_session_is_as_one_that_a_client_starts(stage: Any) -> None:
    await stage.work([DONE])
    agent = await stage.agent()
    box = await stage.runtime.create_environment(EnvironmentDefinition(name="box"))
    brief = SystemMessage(content=(TextBlock(text="Be brief."),))
    made = await deploy(stage, agent, initial_events=[brief, HELLO], environment_id=box.id)

    run = await stage.runtime.run_deployment(made)

    probe = await spoken(stage, run)
    assert probe.story() == [
        "system.message",
        "user.message",
        "session.status_running",
        "agent.message",
        "session.status_idle",
    ]
    info = await stage.runtime.get_session(run.session_id)
    assert (info.deployment_id, info.environment_id, info.agent_version) == (made.id, box.id, 1)
    listed = await stage.runtime.list_sessions(deployment_id=made.id)
    assert [each.id for each in listed.data] == [run.session_id]
    await stage.runtime.send_event(run.session_id, UserMessage.text("and again"))
    await probe.idle(2)
    await stage.runtime.archive(run.session_id)


async def test_run_replays_each_of_its_steps(stage: Any) -> None:
    await stage.work([DONE], options=WorkerOptions(max_cached_sessions=0, graceful_shutdown=timedelta(0)))
    made = await deploy(stage, await stage.agent())

    run = await stage.runtime.run_deployment(made)

    assert run.session_id is not None
    await spoken(stage, run)


async def test_deployment_that_was_changed_meanwhile_is_not_paused(stage: Any) -> None:
    worker = await stage.work([DONE])
    agent = await stage.agent()
    made = await deploy(stage, agent, schedule=HOURLY)
    await agent.archive()
    await stage.stop(worker)
    await fire(stage, made, at=NOON)
    await runs(stage, made, 1, settled=False)
    await stage.runtime.update_deployment(made, DeploymentChange(agent=(await stage.agent()).id))

    await stage.work([DONE])
    (run,) = await runs(stage, made, 1)
    handle = stage.client.get_workflow_handle(run_workflow_id(stage.owner.workspace, run.id))
    async with asyncio.timeout(60):
        await handle.result()

    assert run.error is not None
    assert run.error.type == "agent_archived_error"
    assert (await stage.runtime.get_deployment(made)).status == "active"


async def test_run_that_an_operator_ends_says_so(stage: Any) -> None:
    made = await deploy(stage, await stage.agent(), schedule=HOURLY)
    await fire(stage, made, at=NOON)
    (waiting,) = await runs(stage, made, 1, settled=False)

    await stage.client.get_workflow_handle(run_workflow_id(stage.owner.workspace, waiting.id)).terminate()

    (run,) = await runs(stage, made, 1)
    assert (run.id, run.session_id) == (waiting.id, None)
    assert run.error is not None
    assert "ended from outside" in run.error.message


async def test_editing_while_it_fires_loses_no_run_and_doubles_none(stage: Any) -> None:
    await stage.work([DONE])
    made = await deploy(stage, await stage.agent(), schedule=HOURLY)

    async def edit() -> None:
        for number in range(6):
            await stage.runtime.update_deployment(made, DeploymentChange(metadata={"edit": str(number)}))

    await asyncio.gather(edit(), fire(stage, made, at=NOON + timedelta(hours=5), hours=6))

    found = await runs(stage, made, 6)
    due = {run.trigger.scheduled_at for run in found if isinstance(run.trigger, ScheduleTrigger)}
    assert due == {NOON + timedelta(hours=hour, minutes=-30) for hour in range(6)}
    assert len({run.session_id for run in found}) == 6
    assert (await stage.runtime.get_deployment(made)).metadata == {"edit": "5"}
    for run in found:
        await spoken(stage, run)


@pytest.mark.timeout(240)
async def test_schedule_fires_by_itself_and_what_came_too_late_is_left_out(stage: Any) -> None:
    """The only test that waits for a clock. While no worker is there, runs wait; one that waited until the next was
    due starts no session, and the schedule goes on."""
    made = await deploy(stage, await stage.agent(), schedule=EVERY_MINUTE)
    await fire(stage, made, at=NOON, hours=0)
    (first, *_) = await runs(stage, made, 1, settled=False)
    enough = EVERY_MINUTE.patience + timedelta(seconds=1)
    async with asyncio.timeout(200):
        while (  # noqa: ASYNC110 (the clock)
            datetime.now(UTC) - first.created_at < enough or len(await runs(stage, made, 1, settled=False)) < 2
        ):
            await asyncio.sleep(0.2)

    await stage.work([DONE])
    found = {run.id: run for run in await runs(stage, made, 2)}

    late = found[first.id]
    assert late.error is not None
    assert late.error.type == "session_creation_rejected_error"
    assert (await stage.runtime.get_deployment(made)).status == "active"
    (fired, *_) = [run for run in found.values() if run.id != late.id]
    assert isinstance(fired.trigger, ScheduleTrigger)
    assert fired.trigger.scheduled_at.second == 0
    assert timedelta(0) <= fired.created_at - fired.trigger.scheduled_at < timedelta(minutes=1)
    await stage.runtime.archive_deployment(made)
    for run in found.values():
        if run.session_id is not None:
            await spoken(stage, run)
