"""Sessions and worker versions, on Temporal's own worker deployments."""

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.worker import WorkerDeploymentConfig

from sojourn.activities.model import ModelRequest
from sojourn.client import connect_client
from sojourn.client.deployment import current_version, list_deployments, move_sessions, set_current_version
from sojourn.client.key import KeyStore
from sojourn.testing import ScriptedCall, ScriptedTurn, last_text
from sojourn.types import (
    ConflictError,
    EnvironmentChange,
    EnvironmentDefinition,
    NotFoundError,
    PermissionPolicy,
    ServerNotReadyError,
)
from sojourn.types.id import key_workflow_id
from sojourn.worker import EmbeddedServer, SojournWorker, Versioning, WorkerOptions, deployment_config

if TYPE_CHECKING:
    from tests.conftest import Eventually, Probe, Stage

ASK = PermissionPolicy(default="ask")


class Rollout:
    """A deployment of its own for one test. The agent's words tell which version spoke them."""

    def __init__(self, stage: "Stage", eventually: "Eventually", versioning: Versioning) -> None:
        self.stage = stage
        self.name = stage.task_queue
        self._eventually = eventually
        self._versioning = versioning
        self.began, self.gate = asyncio.Event(), asyncio.Event()

    async def start(self, build_id: str) -> SojournWorker:
        async def wait() -> str:
            self.began.set()
            await self.gate.wait()
            return build_id

        def step(request: ModelRequest) -> ScriptedTurn:
            return (
                ScriptedTurn(calls=[ScriptedCall("wait")])
                if last_text(request) == "wait"
                else ScriptedTurn(text=build_id)
            )

        options = WorkerOptions(graceful_shutdown=timedelta(0), deployment=self.config(build_id))
        return await self.stage.work(step, tools=[wait], options=options)

    def config(self, build_id: str) -> WorkerDeploymentConfig:
        return deployment_config(self.name, build_id=build_id, versioning=self._versioning)

    async def set_current(self, build_id: str) -> None:
        async def known() -> bool:
            try:
                await set_current_version(self.stage.client, self.name, build_id)
            except (ConflictError, NotFoundError):
                # Not all of its task queues have been heard of.
                return False
            return True

        await self._eventually(known, f"the server knows {build_id}")

    async def session(self, policy: PermissionPolicy | None = None) -> "Probe":
        return await self.stage.open(await self.stage.agent("wait", policy=policy))

    async def status(self, build_id: str) -> str:
        versions = await list_deployments(self.stage.client, self.name)
        return next(each.status for each in versions if each.build_id == build_id)

    async def drained(self, build_id: str) -> None:
        async def is_drained() -> bool:
            return await self.status(build_id) == "drained"

        await self._eventually(is_drained, f"{build_id} has drained")

    async def says(self, probe: "Probe", expected: str) -> None:
        """Talk until it is this version that answers; the server routes a moment behind its own word."""

        async def said() -> bool:
            return (await probe.session.send_and_wait("hello")).text == expected

        await self._eventually(said, f"{expected} answers")


@pytest.fixture(params=["pinned", "auto-upgrade"])
def rollout(stage: "Stage", eventually: "Eventually", request: pytest.FixtureRequest) -> Rollout:
    return Rollout(stage, eventually, request.param)


@pytest.fixture
def pinned(stage: "Stage", eventually: "Eventually") -> Rollout:
    return Rollout(stage, eventually, "pinned")


async def test_an_idle_session_moves_with_its_next_message_and_back(rollout: Rollout) -> None:
    await rollout.start("v1")
    await rollout.set_current("v1")
    probe = await rollout.session()
    await rollout.says(probe, "v1")

    await rollout.start("v2")
    await rollout.set_current("v2")
    await rollout.says(probe, "v2")
    await rollout.set_current("v1")
    await rollout.says(probe, "v1")

    assert await current_version(rollout.stage.client, rollout.name) == "v1"


async def test_a_turn_goes_on_after_the_new_version_became_current(rollout: Rollout) -> None:
    """The step in progress ends where it began; what comes after it belongs to the new version."""
    await rollout.start("v1")
    await rollout.set_current("v1")
    probe = await rollout.session()
    await probe.session.send("wait")
    await rollout.began.wait()

    await rollout.start("v2")
    await rollout.set_current("v2")
    rollout.gate.set()
    await probe.idle(1, "end_turn")
    await rollout.says(probe, "v2")

    assert probe.results()["wait"].text == "v1"


async def test_a_pinned_session_stays_with_its_version_while_a_step_runs(pinned: Rollout) -> None:
    await pinned.start("v1")
    await pinned.set_current("v1")
    probe = await pinned.session()
    await probe.session.send("wait")
    await pinned.began.wait()

    second = await pinned.start("v2")
    await pinned.set_current("v2")
    await probe.session.pause()
    await probe.session.resume()
    runs = await probe.runs()
    pinned.gate.set()
    await probe.idle(1, "end_turn")

    assert runs == 1
    assert await probe.runs() == 2
    assert second in pinned.stage.workers


async def test_a_parked_session_moves_and_keeps_its_pending_calls(pinned: Rollout) -> None:
    first = await pinned.start("v1")
    await pinned.set_current("v1")
    probe = await pinned.session(policy=ASK)
    await probe.session.send("wait")
    (call,) = await probe.parked()

    await pinned.start("v2")
    await pinned.set_current("v2")
    before = len(probe.log)
    assert await _moved(pinned) == 1
    await pinned.drained("v1")
    await pinned.stage.stop(first)
    pinned.gate.set()

    assert [action.id for action in await probe.session.pending_actions()] == [call]
    assert len(await pinned.stage.runtime.list_events(probe.session)) == before
    await probe.session.confirm(call, allow=True)
    await probe.idle(2, "end_turn")
    assert probe.results()["wait"].text == "v2"


async def _moved(rollout: Rollout) -> int:
    """Sessions woken, when the visibility store knows them."""
    woken = 0

    async def found() -> bool:
        nonlocal woken
        woken = await move_sessions(rollout.stage.client, rollout.name)
        return woken > 0

    await rollout._eventually(found, "a session to move was found")
    return woken


async def test_a_version_drains_when_its_sessions_have_moved_though_their_agent_lives_on(
    pinned: Rollout, stage: "Stage"
) -> None:
    first = await pinned.start("v1")
    await pinned.set_current("v1")
    environment = await stage.runtime.create_environment(EnvironmentDefinition(name="lasting"))
    environment = await stage.runtime.update_environment(environment, EnvironmentChange(description="of v1"))
    key = await KeyStore(stage.client, task_queue=stage.task_queue).create("lasting", owner=stage.owner)
    await _begun(stage.client, key_workflow_id(key.info.id))
    probe = await pinned.session()
    await pinned.says(probe, "v1")
    agent = stage.runtime.agent((await probe.session.info()).agent_id)

    await pinned.start("v2")
    await pinned.set_current("v2")
    await pinned.says(probe, "v2")
    await pinned.drained("v1")
    await pinned.stage.stop(first)

    changed = (await agent.get()).definition.model_copy(update={"system": "changed"})
    assert (await agent.update(changed)).version == 2
    assert (await stage.runtime.archive_environment(environment)).description == "of v1"


async def _begun(client: Client, workflow_id: str) -> None:
    """Wait until a worker has had the workflow."""
    events = client.get_workflow_handle(workflow_id).fetch_history_events(wait_new_event=True)
    async with asyncio.timeout(30):
        async for event in events:
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                return


async def test_unversioned_sessions_go_on_under_a_version(rollout: Rollout) -> None:
    plain = await rollout.stage.work([ScriptedTurn(text="plain")])
    probe = await rollout.stage.open(await rollout.stage.agent())
    assert (await probe.session.send_and_wait("hello")).text == "plain"

    await rollout.start("v1")
    await rollout.set_current("v1")
    await rollout.stage.stop(plain)

    await rollout.says(probe, "v1")


async def test_workers_without_versions_are_replaced_one_after_the_other(
    server: EmbeddedServer, stage: "Stage"
) -> None:
    first = await stage.work([ScriptedTurn(text="old")])
    probe = await stage.open(await stage.agent())
    await probe.session.send_and_wait("hello")

    # A process has one worker for a queue; another connection stands for another process.
    client = await connect_client(server.address)
    options = WorkerOptions(task_queue=stage.task_queue, graceful_shutdown=timedelta(0))
    async with SojournWorker(client, scripts={"play": [ScriptedTurn(text="new")]}, options=options):
        for _ in range(4):
            assert (await probe.session.send_and_wait("hello")).text in ("old", "new")
        await stage.stop(first)

        assert (await probe.session.send_and_wait("hello")).text == "new"
        await probe.idle(6)
        await probe.check(served=True)


async def test_a_deployment_nobody_knows_is_told(stage: "Stage") -> None:
    with pytest.raises(NotFoundError, match="no build id 'v1' in deployment 'nowhere'"):
        await set_current_version(stage.client, "nowhere", "v1")
    with pytest.raises(NotFoundError, match="no deployment 'nowhere'"):
        await list_deployments(stage.client, "nowhere")
    assert await current_version(stage.client, "nowhere") is None


async def test_a_version_that_not_all_know_in_time_is_told(pinned: Rollout) -> None:
    client = pinned.stage.client
    await pinned.start("v1")
    await pinned.set_current("v1")

    with pytest.raises(ServerNotReadyError, match=r"'v1' of deployment .* is current, but not all task queues know"):
        await set_current_version(client, pinned.name, "v1", timeout=timedelta(0))

    assert await current_version(client, pinned.name) == "v1"


async def test_sessions_cannot_move_before_there_is_a_current_version(pinned: Rollout) -> None:
    await pinned.start("v1")

    async def known() -> bool:
        try:
            return bool(await list_deployments(pinned.stage.client, pinned.name))
        except NotFoundError:
            return False

    await pinned._eventually(known, "the deployment is known")

    with pytest.raises(ServerNotReadyError, match="set-current"):
        await move_sessions(pinned.stage.client, pinned.name)
    assert await pinned.status("v1") == "inactive"
