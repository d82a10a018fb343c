from typing import Any

from temporalio.testing import ActivityEnvironment

from sojourn.activities.deployment_run import DeploymentRuns
from sojourn.types import AgentId, DeploymentDefinition, DeploymentId, EnvironmentDefinition, ErrorPause, UserMessage
from sojourn.types.id import EnvironmentId
from sojourn.types.schedule import CheckDeploymentInput, PauseDeploymentInput, PauseError
from sojourn.types.scheduled import read_scheduled

ARCHIVED = PauseError(type="agent_archived_error")


async def check(stage: Any, agent_id: str, environment_id: str | None = None) -> str | None:
    wanted = CheckDeploymentInput(
        workspace=stage.owner.workspace,
        agent_id=AgentId(agent_id),
        environment_id=EnvironmentId(environment_id) if environment_id else None,
    )
    found = await ActivityEnvironment().run(DeploymentRuns(stage.client).check_deployment, wanted)
    return found.error.type if found.error else None


async def test_everything_that_a_run_needs_is_looked_for(stage: Any) -> None:
    await stage.work()
    agent, gone = await stage.agent(), await stage.agent()
    await gone.archive()
    box, old, deleted = [
        await stage.runtime.create_environment(EnvironmentDefinition(name=name)) for name in ("box", "old", "deleted")
    ]
    await stage.runtime.archive_environment(old)
    await stage.runtime.delete_environment(deleted)

    assert await check(stage, agent.id, box.id) is None
    assert await check(stage, agent.id) is None
    assert await check(stage, gone.id, box.id) == "agent_archived_error"
    assert await check(stage, "agent_nobody") == "unknown_error"
    assert await check(stage, agent.id, old.id) == "environment_archived_error"
    assert await check(stage, agent.id, deleted.id) == "environment_not_found_error"
    assert await check(stage, agent.id, "env_nobody") == "environment_not_found_error"


async def pause(stage: Any, deployment_id: str, changes: tuple[str, ...]) -> None:
    wanted = PauseDeploymentInput(
        workspace=stage.owner.workspace, deployment_id=DeploymentId(deployment_id), changes=changes, error=ARCHIVED
    )
    await ActivityEnvironment().run(DeploymentRuns(stage.client).pause_deployment, wanted)


async def test_deployment_is_paused_once_and_not_after_a_change(stage: Any) -> None:
    agent = await stage.agent()
    wanted = DeploymentDefinition(name="nightly", agent=agent.id, initial_events=[UserMessage.text("hello")])
    made = await stage.runtime.create_deployment(wanted)

    await pause(stage, made.id, ("seen before a change",))
    assert (await stage.runtime.get_deployment(made.id)).status == "active"

    await pause(stage, made.id, ())
    paused = await stage.runtime.get_deployment(made.id)
    assert paused.paused_reason == ErrorPause(error=ARCHIVED)

    changes = (await read_scheduled(stage.client, stage.owner.workspace, made.id)).stored.changes
    await pause(stage, made.id, changes)
    assert await stage.runtime.get_deployment(made.id) == paused


async def test_deployment_that_is_gone_needs_no_pause(stage: Any) -> None:
    await pause(stage, "depl_nobody", ())
