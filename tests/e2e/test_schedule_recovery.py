"""A worker killed with SIGKILL while runs of a deployment start: each run has one session.

The file is also the program of that worker: ``python test_schedule_recovery.py ADDRESS QUEUE``.
"""

import asyncio
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.schedule.v1 import BackfillRequest, SchedulePatch
from temporalio.api.workflowservice.v1 import PatchScheduleRequest

from sojourn.client import connect_client
from sojourn.types import CronSchedule, DeploymentDefinition, UserMessage
from sojourn.worker import SojournWorker, WorkerOptions

RUNS = 24
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


async def _work(address: str, queue: str) -> None:
    await SojournWorker(await connect_client(address), options=WorkerOptions(task_queue=queue)).run()


@pytest.mark.timeout(400)
async def test_each_run_starts_one_session_though_the_worker_is_killed(stage: Any) -> None:
    agent = await stage.agent(model="scripted:echo")
    schedule = CronSchedule(expression="0 * * * *", timezone="UTC")
    wanted = DeploymentDefinition(
        name="nightly", agent=agent.id, initial_events=[UserMessage.text("hello")], schedule=schedule
    )
    made = await stage.runtime.create_deployment(wanted)
    victim = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__)), stage.client.service_client.config.target_host, stage.task_queue
    )
    try:
        request = BackfillRequest()
        request.start_time.FromDatetime(NOON - timedelta(hours=RUNS, minutes=-1))
        request.end_time.FromDatetime(NOON + timedelta(minutes=30))
        await stage.client.workflow_service.patch_schedule(
            PatchScheduleRequest(
                namespace=stage.client.namespace,
                schedule_id=f"{stage.owner.workspace}/{made.id}",
                patch=SchedulePatch(backfill_request=[request]),
            )
        )
        # In the middle of it: some runs have got their session, others have not.
        async with asyncio.timeout(90):
            while not (await stage.runtime.list_sessions(deployment_id=made.id)).data:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        if victim.returncode is None:
            victim.kill()
        await victim.wait()

    await stage.work()

    async def runs() -> list[str | None]:
        found = await stage.runtime.list_deployment_runs(deployment=made, has_error=False, limit=99)
        return [run.session_id for run in found.data]

    async def sessions() -> list[str | None]:
        found = await stage.runtime.list_sessions(deployment_id=made.id, limit=99)
        return [session.id for session in found.data]

    async with asyncio.timeout(240):
        while len(await runs()) < RUNS or len(await sessions()) < RUNS:  # noqa: ASYNC110 (lists cannot be waited for)
            await asyncio.sleep(0.2)

    assert Counter(await runs()) == Counter(await sessions())
    for id in await sessions():
        probe = stage.watch(stage.runtime.session(id))
        await probe.idle()
        assert probe.story().count("user.message") == 1


if __name__ == "__main__":
    asyncio.run(_work(*sys.argv[1:]))
