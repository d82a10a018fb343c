"""Logs outlive the server's retention: exported, read back, listed and deleted, with a store that works or does not."""

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client

from sojourn.client import AgentRuntime
from sojourn.client.connection import with_store
from sojourn.client.export import failing_exports
from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.testing.bucket import FakeBucket, fake_bucket
from sojourn.types import (
    CheckpointError,
    InvalidRequestError,
    Owner,
    PermissionPolicy,
    RollOver,
    SessionClosedError,
    SessionEvent,
    SessionExistsError,
    SessionNotFoundError,
    SessionStatus,
    Store,
    StoreUnavailableError,
)
from sojourn.types.archive import Archive, archive_of
from sojourn.types.chain import described_run, run_start
from sojourn.types.described import is_open
from sojourn.types.export import ExportResult
from sojourn.types.id import export_workflow_id
from sojourn.types.payload import session_folder
from sojourn.worker import EmbeddedServer

if TYPE_CHECKING:
    from tests.conftest import Eventually, PlayedModel, Probe, Stage

DONE = ScriptedTurn(text="done")
ROLLING = RollOver(max_events=25)


@pytest.fixture
async def bucket(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[FakeBucket, None]:
    async with fake_bucket() as bucket:
        for name, value in bucket.environment.items():
            monkeypatch.setenv(name, value)
        yield bucket


async def _runs(client: Client, probe: "Probe") -> list[str]:
    """All runs of the session, the first run first."""
    info = await described_run(client, probe.workflow_id)
    run_id = info.execution.run_id if info is not None else ""
    runs: list[str] = []
    while run_id:
        runs.insert(0, run_id)
        run_id = (await run_start(client, probe.workflow_id, run_id)).previous_run_id
    return runs


async def _exported(client: Client, probe: "Probe", eventually: "Eventually") -> list[str]:
    """Wait until every closed run is in the archive; all runs."""
    archive, workflow_id = _archive(client), probe.workflow_id

    async def stored() -> bool:
        info = await described_run(client, workflow_id)
        if info is not None and not is_open(info):
            return await archive.session(workflow_id) is not None
        closed = (await _runs(client, probe))[:-1]
        return all([await archive.has(workflow_id, run_id) for run_id in closed])

    await eventually(stored, f"the runs of {probe.session.id} are in the archive")
    return await _runs(client, probe)


async def _forget(client: Client, workflow_id: str, run_ids: list[str], eventually: "Eventually") -> None:
    """What retention does, at once."""
    for run_id in run_ids:
        execution = WorkflowExecution(workflow_id=workflow_id, run_id=run_id)
        request = DeleteWorkflowExecutionRequest(namespace=client.namespace, workflow_execution=execution)
        await client.workflow_service.delete_workflow_execution(request)

    async def forgotten() -> bool:
        return not any([await described_run(client, workflow_id, run_id) for run_id in run_ids])

    await eventually(forgotten, f"the server has forgotten {len(run_ids)} runs")


def _archive(client: Client) -> Archive:
    archive = archive_of(client)
    assert archive is not None
    return archive


async def _reads_the_same(runtime: AgentRuntime, probe: "Probe", log: list[SessionEvent]) -> None:
    assert await runtime.list_events(probe.session) == log
    for place in range(0, len(log) + 1, 7):
        assert await runtime.list_events(probe.session, from_seq=place) == log[place:]


async def test_a_session_whose_closed_runs_are_gone_reads_and_goes_on_as_before(
    stage: "Stage", played: type["PlayedModel"], eventually: "Eventually"
) -> None:
    model = played(*[ScriptedTurn(text=f"answer {place}") for place in range(20)])
    probe = await stage.session(script=model, roll_over=ROLLING)
    for place in range(6):
        await probe.session.send_and_wait(f"question {place}")
    await probe.idle(6)
    runs = await _exported(stage.client, probe, eventually)
    assert len(runs) > 3
    before, seen = list(probe.log), await probe.session.info()
    await _forget(stage.client, probe.workflow_id, runs[:2], eventually)

    fresh = stage.another_runtime()
    await _reads_the_same(fresh, probe, before)
    assert await fresh.get_session(probe.session) == seen

    await _forget(stage.client, probe.workflow_id, runs[2:-1], eventually)
    await stage.stop(stage.workers[0])
    await stage.work(model)
    late = stage.watch(stage.another_runtime().session(probe.session.id))
    await probe.session.send_and_wait("question 6")
    await late.idle(7)
    assert late.log[: len(before)] == before
    questions = [(role, text) for role, text in model.context() if role == "user"]
    assert questions == [("user", f"question {place}") for place in range(7)]
    await _reads_the_same(stage.another_runtime(), probe, late.log)


async def test_a_parked_session_is_answered_when_its_closed_runs_are_gone(
    stage: "Stage", eventually: "Eventually"
) -> None:
    def pay() -> str:
        return "paid"

    turns = [DONE, DONE, DONE, DONE, ScriptedTurn(calls=[ScriptedCall("pay")]), DONE]
    probe = await stage.session(*turns, tools=[pay], policy=PermissionPolicy(default="ask"), roll_over=ROLLING)
    for _ in range(4):
        await probe.session.send_and_wait("go")
    await probe.session.send("pay")
    (call,) = await probe.parked()
    runs = await _exported(stage.client, probe, eventually)
    await _forget(stage.client, probe.workflow_id, runs[:-1], eventually)

    assert [action.id for action in await probe.session.pending_actions()] == [call]
    await probe.session.confirm(call, allow=True)
    await probe.idle(6)
    assert probe.results()["pay"].outcome == "ok"


async def test_an_archived_session_that_the_server_has_forgotten_is_still_there(
    stage: "Stage", eventually: "Eventually"
) -> None:
    probe = await stage.session(DONE, roll_over=ROLLING, title="kept", metadata={"k": "v"}, session_id="mine")
    for _ in range(4):
        await probe.session.send_and_wait("go")
    await probe.session.archive()
    await probe.ended()
    seen = await probe.session.info()
    runs = await _exported(stage.client, probe, eventually)
    await _forget(stage.client, probe.workflow_id, runs, eventually)
    fresh = stage.another_runtime()
    session = fresh.session("mine")

    assert await session.info() == seen
    assert await session.status() is SessionStatus.ARCHIVED
    assert await session.pending_actions() == []
    assert await session.wait_idle() is SessionStatus.ARCHIVED
    await _reads_the_same(fresh, probe, probe.log)
    assert [event async for event in session.events(from_seq=3)] == probe.log[3:]
    assert [event async for event in session.events()] == []
    for attempt in (session.send("more"), session.interrupt(), session.pause(), session.archive()):
        with pytest.raises(SessionClosedError) as error:
            await attempt
        assert error.value.status is SessionStatus.ARCHIVED
    with pytest.raises(SessionExistsError):
        await fresh.start_session(await stage.agent(), session_id="mine")
    with pytest.raises(SessionNotFoundError):
        await fresh.get_session("mine", owner=Owner(stage.owner.workspace, "bob"))
    with pytest.raises(SessionNotFoundError):
        await fresh.delete_session("mine", owner=Owner(stage.owner.workspace, "bob"))
    probe.forget()


async def test_lists_go_on_with_what_only_the_archive_has(stage: "Stage", eventually: "Eventually") -> None:
    await stage.work([DONE])
    agent, other = await stage.agent(), await stage.agent(name="other")
    ended = []
    for place in range(5):
        probe = await stage.open(other if place == 4 else agent, title=str(place))
        await probe.session.archive()
        await probe.ended()
        await _exported(stage.client, probe, eventually)
        ended.append(probe)
    live = await stage.open(agent)
    await _listed(stage, 6, eventually)
    before = (await stage.runtime.list_sessions()).data
    for probe in ended[:3]:
        runs = await _runs(stage.client, probe)
        await _forget(stage.client, probe.workflow_id, runs, eventually)
        probe.forget()

    async def whole() -> bool:
        return list((await stage.runtime.list_sessions()).data) == list(before)

    await eventually(whole, "the list is as before")
    for limit in (1, 2, 3, 4, 5, 6):
        assert await _pages(stage, limit) == [info.id for info in before]
    await live.session.send_and_wait("go")
    of_agent = (await stage.runtime.list_sessions(agent=agent, statuses=[SessionStatus.ARCHIVED])).data
    assert [info.title for info in of_agent] == ["3", "2", "1", "0"]
    assert not (await stage.runtime.list_sessions(user="bob")).data
    assert (
        len((await stage.runtime.list_sessions(every_user=True, owner=Owner(stage.owner.workspace, "bob"))).data) == 6
    )


async def _listed(stage: "Stage", number: int, eventually: "Eventually") -> None:
    async def there() -> bool:
        return len((await stage.runtime.list_sessions()).data) == number

    await eventually(there, f"{number} sessions are listed")


async def _pages(stage: "Stage", limit: int) -> list[str]:
    ids: list[str] = []
    page = await stage.runtime.list_sessions(limit=limit)
    while True:
        assert len(page.data) == limit or page.next_page is None
        ids += [info.id for info in page.data]
        if page.next_page is None:
            return ids
        page = await stage.runtime.list_sessions(limit=limit, page=page.next_page)


async def test_a_run_that_is_nowhere_is_named(stage: "Stage", eventually: "Eventually") -> None:
    probe = await stage.session(DONE, roll_over=ROLLING)
    for _ in range(4):
        await probe.session.send_and_wait("go")
    runs = await _exported(stage.client, probe, eventually)
    await _forget(stage.client, probe.workflow_id, runs[:1], eventually)
    bare = AgentRuntime(with_store(stage.client, None), owner=stage.owner, task_queue=stage.task_queue)

    with pytest.raises(CheckpointError, match=f"{runs[0]}.*SOJOURN_STORE_URL"):
        await bare.list_events(probe.session)

    await _archive(stage.client).delete_runs(probe.workflow_id, runs[:1])
    with pytest.raises(CheckpointError, match=runs[0]):
        await stage.another_runtime().list_events(probe.session)
    await bare.close()
    probe.forget()


async def test_a_failing_export_is_shown_and_tried_until_it_succeeds(
    server: EmbeddedServer, stage: "Stage", bucket: FakeBucket, eventually: "Eventually"
) -> None:
    stage.client = with_store(server.client, Store.open(bucket.url))
    stage.runtime = stage.another_runtime()
    probe = await stage.session(DONE, roll_over=ROLLING)
    bucket.refuses = True
    for _ in range(4):
        await probe.session.send_and_wait("go")
    assert len(await _runs(stage.client, probe)) > 1

    async def shown() -> bool:
        failing = await failing_exports(stage.client)
        return failing.example == probe.workflow_id and "403 Forbidden" in failing.reason

    await eventually(shown, "the export is shown as failing")
    await probe.session.send_and_wait("it works all the same")
    assert await stage.runtime.list_events(probe.session) == probe.log
    await probe.session.archive()
    await probe.ended()
    bucket.refuses = False
    await _exported(stage.client, probe, eventually)

    async def mended() -> bool:
        return not (await failing_exports(stage.client)).example.startswith(probe.workflow_id)

    await eventually(mended, "the export does not fail any more")
    runs = await _runs(stage.client, probe)
    assert sorted(path.rpartition("/")[2] for path in bucket.objects if "/runs/" in path) == sorted(
        f"{run_id}.jsonl" for run_id in runs
    )


async def test_lists_of_the_server_are_shown_while_the_store_is_down(
    server: EmbeddedServer, stage: "Stage", bucket: FakeBucket, eventually: "Eventually"
) -> None:
    stage.client = with_store(server.client, Store.open(bucket.url))
    stage.runtime = stage.another_runtime()
    await stage.session(DONE)
    await _listed(stage, 1, eventually)
    bucket.refuses = True

    page = await stage.runtime.list_sessions()

    assert page.next_page is not None
    with pytest.raises(StoreUnavailableError):
        await stage.runtime.list_sessions(page=page.next_page)
    with pytest.raises(StoreUnavailableError):
        await stage.runtime.get_session("sesn_unknown")


async def test_a_store_that_comes_later_gets_the_runs_before(stage: "Stage", eventually: "Eventually") -> None:
    with_one = stage.client
    stage.client = with_store(stage.client, None)
    await stage.work([DONE])
    probe = await stage.open(await stage.agent(), roll_over=ROLLING)
    for _ in range(4):
        await probe.session.send_and_wait("go")
    await probe.idle(4)
    assert await _archive(with_one).is_gone(probe.workflow_id)
    await stage.stop(stage.workers[0])
    stage.client = with_one
    await stage.work([DONE])
    for _ in range(3):
        await probe.session.send_and_wait("go")

    await _exported(stage.client, probe, eventually)


async def test_a_session_ended_by_an_operator_is_exported_by_hand(stage: "Stage", eventually: "Eventually") -> None:
    probe = await stage.session(DONE)
    await probe.session.send_and_wait("go")
    await probe.idle()
    await stage.client.get_workflow_handle(probe.workflow_id).terminate("by hand")
    await probe.ended()

    assert (await stage.runtime.export_session(probe.session)).runs == 1
    assert (await stage.runtime.export_session(probe.session)).runs == 0

    runs = await _runs(stage.client, probe)
    await _forget(stage.client, probe.workflow_id, runs, eventually)
    assert await stage.another_runtime().status(probe.session) is SessionStatus.FAILED
    assert await stage.another_runtime().list_events(probe.session) == probe.log
    assert (await stage.runtime.export_session(probe.session)).runs == 0
    probe.forget()


async def _left(stage: "Stage", probe: "Probe") -> list[str]:
    """Everything about the session that can still be found anywhere."""
    store = _archive(stage.client).store
    left = [path async for path in store.paths(session_folder(probe.workflow_id))]
    left += [path async for path in store.paths(f"index/{stage.owner.workspace}") if probe.session.id in path]
    for workflow_id in (probe.workflow_id, export_workflow_id(probe.workflow_id)):
        if await described_run(stage.client, workflow_id) is not None:
            left.append(workflow_id)
    return left


async def test_deleting_leaves_nothing_while_it_lives(stage: "Stage", eventually: "Eventually") -> None:
    running = asyncio.Event()

    async def hang() -> None:
        running.set()
        await asyncio.Event().wait()

    turns = [DONE, DONE, DONE, DONE, ScriptedTurn(calls=[ScriptedCall("hang")])]
    probe = await stage.session(*turns, tools=[hang], roll_over=ROLLING)
    for _ in range(4):
        await probe.session.send_and_wait("go")
    runs = await _exported(stage.client, probe, eventually)
    await probe.session.send("hang")
    await running.wait()

    await probe.session.delete()

    assert await _left(stage, probe) == []
    assert not any([await described_run(stage.client, probe.workflow_id, run_id) for run_id in runs])
    with pytest.raises(SessionNotFoundError):
        await probe.session.delete()
    probe.forget()


@pytest.mark.parametrize("forgotten", [False, True], ids=["on the server", "in the archive alone"])
async def test_deleting_leaves_nothing_of_an_archived_session(
    stage: "Stage", eventually: "Eventually", forgotten: bool
) -> None:
    probe = await stage.session(DONE, roll_over=ROLLING)
    for _ in range(3):
        await probe.session.send_and_wait("go")
    await probe.session.archive()
    await probe.ended()
    runs = await _exported(stage.client, probe, eventually)
    if forgotten:
        await _forget(stage.client, probe.workflow_id, runs, eventually)

    await stage.another_runtime().delete_session(probe.session)

    assert await _left(stage, probe) == []
    with pytest.raises(SessionNotFoundError):
        await probe.session.delete()
    probe.forget()


async def test_deleting_right_after_the_end_leaves_nothing(stage: "Stage", eventually: "Eventually") -> None:
    probe = await stage.session(DONE)
    probes = [await stage.open(stage.runtime.agent((await probe.session.info()).agent_id)) for _ in range(10)]

    async def end(each: "Probe") -> None:
        each.forget()
        await each.session.archive()
        await each.session.delete()

    await asyncio.gather(*map(end, probes))

    async def empty() -> bool:
        return not [path for each in probes for path in await _left(stage, each)]

    await eventually(empty, "nothing is left")


async def test_a_deletion_that_the_store_cut_off_is_finished_by_the_next(
    server: EmbeddedServer, stage: "Stage", bucket: FakeBucket, eventually: "Eventually"
) -> None:
    stage.client = with_store(server.client, Store.open(bucket.url))
    stage.runtime = stage.another_runtime()
    probe = await stage.session(DONE, roll_over=ROLLING)
    for _ in range(3):
        await probe.session.send_and_wait("go")
    await probe.idle(3)
    runs = await _exported(stage.client, probe, eventually)
    bucket.refuses = True
    with pytest.raises(StoreUnavailableError):
        await stage.runtime.delete_session(probe.session)
    assert await stage.runtime.status(probe.session) is SessionStatus.IDLE
    bucket.refuses = False
    await _archive(stage.client).begin_deletion(probe.workflow_id, stage.owner)
    await _forget(stage.client, probe.workflow_id, runs[::-1], eventually)

    with pytest.raises(SessionNotFoundError):
        await stage.runtime.delete_session(probe.session, owner=Owner(stage.owner.workspace, "bob"))
    assert bucket.objects
    await stage.runtime.delete_session(probe.session)

    assert bucket.objects == {}
    with pytest.raises(SessionNotFoundError):
        await stage.runtime.delete_session(probe.session)
    probe.forget()


async def test_a_client_that_lacks_the_store_does_not_delete_half(stage: "Stage", eventually: "Eventually") -> None:
    probe = await stage.session(DONE)
    await probe.session.archive()
    await probe.ended()
    await _exported(stage.client, probe, eventually)
    bare = AgentRuntime(with_store(stage.client, None), owner=stage.owner, task_queue=stage.task_queue)
    result = stage.client.get_workflow_handle(export_workflow_id(probe.workflow_id), result_type=ExportResult)
    assert (await result.result()).outcome == "stored"

    with pytest.raises(InvalidRequestError, match="SOJOURN_STORE_URL"):
        await bare.delete_session(probe.session)

    assert await bare.status(probe.session) is SessionStatus.ARCHIVED
    await bare.close()


async def test_an_export_of_a_session_deleted_meanwhile_leaves_nothing(
    server: EmbeddedServer, stage: "Stage", bucket: FakeBucket, eventually: "Eventually"
) -> None:
    stage.client = with_store(server.client, Store.open(bucket.url))
    stage.runtime = stage.another_runtime()
    probe = await stage.session(DONE)
    await probe.session.send_and_wait("go")
    bucket.refuses = True
    await probe.session.archive()
    bucket.refuses = False

    await probe.session.delete()

    async def empty() -> bool:
        return not bucket.objects and not await _left(stage, probe)

    await eventually(empty, "nothing is left")
    probe.forget()
