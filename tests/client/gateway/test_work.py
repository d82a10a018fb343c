"""Self-hosted environments, with the official SDK's own worker as the peer (Managed Agents API §1.2, §6.5)."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import anthropic
import pytest

from sojourn.client.work import WorkStore
from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import (
    AgentToolset,
    AgentToolUse,
    EnvironmentId,
    InvalidRequestError,
    Permission,
    ToolCallSettledError,
    UserToolResult,
)
from sojourn.types.agent import CodeExecutionTool, ToolOptions
from sojourn.types.environment import Environment, EnvironmentDefinition, SelfHostedConfig
from sojourn.types.session import EnvironmentConfig
from sojourn.types.work import NO_HEARTBEAT, Heartbeat

WRITE = ScriptedTurn(
    calls=[ScriptedCall("bash", {"command": "echo made here > made.txt; cat made.txt"})],
)
READ = ScriptedTurn(calls=[ScriptedCall("read", {"file_path": "made.txt"})])
DONE = ScriptedTurn(text="done")


def toolset(permission: Permission = "allow") -> AgentToolset:
    """What the SDK's worker runs."""
    default = ToolOptions(enabled=False, permission=permission)
    return AgentToolset(
        default_config=default, configs=tuple(ToolOptions(name=name, enabled=True) for name in ("bash", "read"))
    )


ASKING = toolset("ask")


@pytest.fixture
async def environment(stage: Any) -> Environment:
    made: Environment = await stage.runtime.create_environment(
        EnvironmentDefinition(name=f"own {stage.owner.workspace}", config=SelfHostedConfig())
    )
    return made


@pytest.fixture
def store(stage: Any) -> WorkStore:
    return WorkStore(stage.client, task_queue=stage.runtime.task_queue)


async def begun(stage: Any, environment: Environment, *turns: ScriptedTurn, tools: Any = None) -> Any:
    """A session whose tools are for a worker of the user's own, with its first message."""
    await stage.work(turns)
    agent = await stage.agent(tools or toolset())
    probe = await stage.open(agent, environment_id=environment.id)
    await probe.session.send("go")
    return probe


def key_of(gateway: Any, environment: Environment) -> str:
    """Give the environment's workers a key."""
    table = gateway.gateway.authenticator.table
    table["worker"] = replace(table["worker"], scopes=frozenset(), environment_id=environment.id)
    return "worker"


@asynccontextmanager
async def working(
    gateway: Any, environment: Environment, folder: Path, *, max_idle: float = 60
) -> AsyncGenerator[None, None]:
    """The SDK's own worker, while the block runs."""
    key = key_of(gateway, environment)
    async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key="none") as sdk:
        worker = sdk.beta.environments.work.worker(
            environment_id=environment.id, environment_key=key, workdir=str(folder), max_idle=max_idle
        )
        task = asyncio.create_task(worker.run())
        try:
            yield
            assert not task.done(), "the worker has ended"
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def test_the_sdks_worker_runs_the_tools_of_a_session(
    stage: Any, gateway: Any, environment: Environment, tmp_path: Path
) -> None:
    probe = await begun(stage, environment, WRITE, READ, DONE)

    async with working(gateway, environment, tmp_path):
        await probe.idle(3, "end_turn")

    assert (tmp_path / "made.txt").read_text() == "made here\n"
    results = probe.of(UserToolResult)
    assert ["made here" in result.content[0].text for result in results] == [True, True]
    assert probe.texts() == ["done"]


async def test_a_call_that_must_be_allowed_runs_after_that_only(
    stage: Any, gateway: Any, environment: Environment, tmp_path: Path
) -> None:
    probe = await begun(stage, environment, WRITE, DONE, tools=ASKING)
    (call,) = await probe.parked()

    async with working(gateway, environment, tmp_path):
        with pytest.raises(InvalidRequestError, match="not been allowed"):
            await stage.runtime.send_event(probe.session, UserToolResult(tool_use_id=call))
        assert not (tmp_path / "made.txt").exists()
        await probe.session.confirm(call, allow=True)
        await probe.saw(UserToolResult)

    assert (tmp_path / "made.txt").exists()


async def test_a_denied_call_never_runs(stage: Any, gateway: Any, environment: Environment, tmp_path: Path) -> None:
    probe = await begun(stage, environment, WRITE, DONE, tools=ASKING)
    (call,) = await probe.parked()

    async with working(gateway, environment, tmp_path):
        await probe.session.confirm(call, allow=False)
        await probe.idle(2, "end_turn")

    assert probe.of(UserToolResult) == []
    assert not (tmp_path / "made.txt").exists()


async def test_two_workers_share_the_sessions_and_nothing_is_done_twice(
    stage: Any, gateway: Any, environment: Environment, tmp_path: Path
) -> None:
    count = ScriptedTurn(calls=[ScriptedCall("bash", {"command": "echo once >> times.txt"})])
    await stage.work([count, DONE])
    agent = await stage.agent(toolset())
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    probes = [await stage.open(agent, environment_id=environment.id) for _ in range(3)]
    for probe in probes:
        await probe.session.send("go")

    async with (
        working(gateway, environment, folders[0], max_idle=1),
        working(gateway, environment, folders[1], max_idle=1),
    ):
        for probe in probes:
            await probe.idle(2, "end_turn")

    written = [(folder / "times.txt").read_text() for folder in folders if (folder / "times.txt").exists()]
    assert "".join(written) == "once\n" * 3


async def test_an_item_that_nobody_keeps_goes_to_the_next_worker(
    stage: Any, environment: Environment, store: WorkStore, eventually: Any
) -> None:
    await begun(stage, environment, WRITE, DONE)
    first = await claimed(store, environment, stage, eventually)
    await store.acknowledge(environment.id, first.id, workspace=stage.owner.workspace)
    beat = Heartbeat(expected=NO_HEARTBEAT, lease_seconds=1)
    kept = await store.heartbeat(environment.id, first.id, beat, workspace=stage.owner.workspace)
    assert (kept.extended, kept.item.state) == (True, "active")

    again = await claimed(store, environment, stage, eventually)

    assert again.id == first.id
    assert again.acknowledged_at is None


async def test_calls_left_open_by_a_worker_that_stops_get_the_next_item(
    stage: Any, environment: Environment, store: WorkStore, eventually: Any
) -> None:
    probe = await begun(stage, environment, WRITE, DONE)
    first = await claimed(store, environment, stage, eventually)
    await store.stop(environment.id, first.id, workspace=stage.owner.workspace, force=True)

    second = await claimed(store, environment, stage, eventually)
    await stage.runtime.send_event(probe.session, UserToolResult(tool_use_id=probe.of(AgentToolUse)[0].id))

    assert second.id != first.id
    await probe.idle(2, "end_turn")


async def test_the_item_of_a_deleted_session_is_not_handed_out(
    stage: Any, environment: Environment, store: WorkStore, eventually: Any
) -> None:
    probe = await begun(stage, environment, WRITE, DONE)
    first = await claimed(store, environment, stage, eventually)
    await probe.session.archive()
    await asyncio.wait_for(gone(store, environment, stage, first.id), 45)


async def gone(store: WorkStore, environment: Environment, stage: Any, id: str) -> None:
    while (await store.get(environment.id, id, workspace=stage.owner.workspace)).state != "stopped":
        await store.poll(environment.id, workspace=stage.owner.workspace, reclaim=timedelta(0))
        await asyncio.sleep(0.05)


async def claimed(store: WorkStore, environment: Environment, stage: Any, eventually: Any) -> Any:
    """The next item of the queue, when there is one."""
    found: list[Any] = []

    async def polled() -> bool:
        item = await store.poll(environment.id, workspace=stage.owner.workspace, wait=timedelta(milliseconds=200))
        found.extend([item] if item else [])
        return bool(found)

    await eventually(polled, "work in the queue")
    return found[0]


async def test_the_queue_speaks_the_wire(stage: Any, gateway: Any, environment: Environment, eventually: Any) -> None:
    await begun(stage, environment, WRITE, DONE)
    path = f"/v1/environments/{environment.id}/work"
    items: list[Any] = []

    async with gateway.client(key_of(gateway, environment)) as http:

        async def polled() -> bool:
            reply = await http.get(f"{path}/poll", params={"block_ms": 500}, headers={"anthropic-worker-id": "w1"})
            assert reply.status_code == 200
            items.extend([reply.json()] if reply.json() else [])
            return bool(items)

        await eventually(polled, "work in the queue")
        (item,) = items
        empty = await http.get(f"{path}/poll", headers={"anthropic-worker-id": "w1"})
        stats = (await http.get(f"{path}/stats")).json()
        acknowledged = await http.post(f"{path}/{item['id']}/ack")
        twice = await http.post(f"{path}/{item['id']}/ack")
        beat = await http.post(f"{path}/{item['id']}/heartbeat", params={"expected_last_heartbeat": NO_HEARTBEAT})
        lost = await http.post(f"{path}/{item['id']}/heartbeat", params={"expected_last_heartbeat": "another"})
        last = beat.json()["last_heartbeat"]
        stopping = await http.post(f"{path}/{item['id']}/stop", json={})
        told = await http.post(f"{path}/{item['id']}/heartbeat", params={"expected_last_heartbeat": last})
        stopped = await http.post(f"{path}/{item['id']}/stop", json={"force": True})
        again = await http.post(f"{path}/{item['id']}/stop", json={"force": True})
        refused = await http.get("/v1/agents")
        foreign = await http.get(f"/v1/environments/{gateway.environment}/work/poll")
        unfit = await http.get(f"{path}/poll", params={"block_ms": 0})

    assert (item["type"], item["state"], item["data"]["type"]) == ("work", "queued", "session")
    assert (empty.status_code, empty.text) == (200, "null")
    assert (stats["type"], stats["pending"], stats["workers_polling"]) == ("work_queue_stats", 1, 1)
    assert acknowledged.json()["state"] == "starting"
    assert twice.status_code == 409
    assert (beat.json()["state"], beat.json()["lease_extended"]) == ("active", True)
    assert lost.status_code == 412
    assert lost.json()["error"]["details"]["error_code"] == "heartbeat_precondition_failed"
    assert lost.json()["error"]["details"]["current_state"]["last_heartbeat"] == last
    assert stopping.json()["state"] == "stopping"
    assert (told.json()["state"], told.json()["lease_extended"]) == ("stopping", False)
    assert stopped.json()["state"] == "stopped"
    assert again.status_code == 409
    assert (refused.status_code, foreign.status_code) == (403, 403)
    assert unfit.status_code == 400


async def test_a_worker_sends_results_of_its_environments_sessions_and_nothing_else(
    stage: Any, gateway: Any, environment: Environment
) -> None:
    probe = await begun(stage, environment, WRITE, DONE)
    (call,) = await probe.parked()
    other = await stage.open(await stage.agent(model="scripted:play"))
    result = {"type": "user.tool_result", "tool_use_id": call, "content": [{"type": "text", "text": "made here"}]}
    path = f"/v1/sessions/{probe.session.id}/events"

    async with gateway.client(key_of(gateway, environment)) as http:
        message = await http.post(
            path, json={"events": [{"type": "user.message", "content": [{"type": "text", "text": "hi"}]}]}
        )
        foreign = await http.get(f"/v1/sessions/{other.session.id}")
        own = await http.get(f"/v1/sessions/{probe.session.id}")
        sent = await http.post(path, json={"events": [result]})
    with_api_key = await gateway.http.post(path, json={"events": [result]})

    assert (message.status_code, foreign.status_code, own.status_code) == (403, 404, 200)
    assert sent.status_code == 200, sent.text
    assert with_api_key.status_code == 403
    await probe.idle(2, "end_turn")
    with pytest.raises(ToolCallSettledError):
        await stage.runtime.send_event(probe.session, UserToolResult(tool_use_id=call, is_error=True))


async def test_what_a_users_own_worker_does_not_know_is_refused_at_the_start(
    stage: Any, environment: Environment
) -> None:
    await stage.work([DONE])
    coder = await stage.agent(CodeExecutionTool())
    plain = await stage.agent(toolset())

    with pytest.raises(InvalidRequestError, match="code_execution"):
        await stage.runtime.start_session(coder, environment_id=environment.id)
    with pytest.raises(InvalidRequestError, match="env_vars"):
        await stage.runtime.start_session(
            plain, environment_id=environment.id, environment=EnvironmentConfig(env_vars={"A": "b"})
        )


async def test_items_are_listed_changed_and_found(
    stage: Any, gateway: Any, environment: Environment, eventually: Any
) -> None:
    await begun(stage, environment, WRITE, DONE)

    async def listed() -> bool:
        return bool((await gateway.sdk.beta.environments.work.list(environment.id)).data)

    await eventually(listed, "the item in the list")
    item = (await gateway.sdk.beta.environments.work.list(environment.id)).data[0]
    changed = await gateway.sdk.beta.environments.work.update(
        item.id, environment_id=environment.id, metadata={"team": "a"}
    )
    found = await gateway.sdk.beta.environments.work.retrieve(item.id, environment_id=environment.id)

    assert changed.metadata == found.metadata == {"team": "a"}
    with pytest.raises(anthropic.NotFoundError):
        await gateway.sdk.beta.environments.work.retrieve(item.id, environment_id=EnvironmentId(gateway.environment))
