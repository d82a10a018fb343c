"""Every answer of `explain`, each on a session that really is in that state."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from temporalio import workflow
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    PollWorkflowTaskQueueRequest,
    SetWorkerDeploymentCurrentVersionRequest,
    TerminateWorkflowExecutionRequest,
)
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker, WorkerDeploymentConfig

from sojourn.activities import ToolContext
from sojourn.client.update import has_worker
from sojourn.testing import ScriptedCall, ScriptedFailure, ScriptedTurn
from sojourn.types import (
    CustomTool,
    Limits,
    Owner,
    PermissionPolicy,
    Reason,
    SessionExplanation,
    SessionNotFoundError,
    SessionStatus,
)
from sojourn.types.name import SESSION_WORKFLOW
from sojourn.types.session import SessionInput, SessionResult
from sojourn.worker import WorkerOptions

if TYPE_CHECKING:
    from tests.conftest import Eventually, Probe, Stage

LONG = timedelta(hours=1)
LOOK = CustomTool(name="look", description="Look.", input_schema={"type": "object"}, timeout=LONG)


@workflow.defn(name=SESSION_WORKFLOW)
class BrokenWorkflow:
    @workflow.run
    async def run(self, input: SessionInput) -> SessionResult:
        raise RuntimeError("a bug of ours")


async def explained(probe: "Probe", eventually: "Eventually", kind: str) -> tuple[SessionExplanation, Reason]:
    """Wait until the explanation has a reason of this kind."""
    found = await probe.session.explain()

    async def there() -> bool:
        nonlocal found
        found = await probe.session.explain()
        return any(reason.type == kind for reason in found.reasons)

    await eventually(there, f"a reason {kind!r}")
    assert found.summary.startswith(f"{found.status.value}: ")
    return found, next(reason for reason in found.reasons if reason.type == kind)


def kinds(found: SessionExplanation) -> list[str]:
    return [reason.type for reason in found.reasons]


# --- nobody at work --------------------------------------------------------------------------------------------------


async def test_session_without_a_worker(stage: "Stage", eventually: "Eventually") -> None:
    agent = await stage.agent(model="scripted:echo")
    probe = await stage.open(agent)
    await probe.session.send("hello")

    found, reason = await explained(probe, eventually, "no_worker")

    assert kinds(found) == ["no_worker", "queue"]
    assert stage.task_queue in reason.text
    assert reason.action == f"sojourn worker --task-queue {stage.task_queue}"
    assert "1 message waits" in found.summary


async def test_session_whose_workers_were_stopped(stage: "Stage", eventually: "Eventually") -> None:
    probe = await stage.session()
    await probe.session.send_and_wait("hello")
    await stage.stop(stage.workers[0])
    await probe.session.send("anybody there?")

    found, _ = await explained(probe, eventually, "no_worker")

    assert kinds(found) == ["no_worker", "queue"]


async def test_session_whose_worker_has_just_died(stage: "Stage", eventually: "Eventually") -> None:
    agent = await stage.agent(model="scripted:echo")
    request = PollWorkflowTaskQueueRequest(
        namespace="default", task_queue=TaskQueue(name=stage.task_queue), identity="ghost"
    )
    polling = asyncio.create_task(
        stage.client.workflow_service.poll_workflow_task_queue(request, timeout=timedelta(minutes=1))
    )
    await eventually(lambda: has_worker(stage.client, stage.task_queue), "the ghost's poll")
    polling.cancel()
    await asyncio.gather(polling, return_exceptions=True)
    probe = await stage.open(agent)

    _, reason = await explained(probe, eventually, "worker_silent")

    assert "ghost" in reason.text


async def test_workflow_task_that_fails_again_and_again(stage: "Stage", eventually: "Eventually") -> None:
    agent = await stage.agent(model="scripted:echo")
    probe = await stage.open(agent)
    broken = Worker(
        stage.client,
        task_queue=stage.task_queue,
        workflows=[BrokenWorkflow],
        workflow_runner=UnsandboxedWorkflowRunner(),
    )
    async with broken:
        found, reason = await explained(probe, eventually, "workflow_task_failing")

    assert "a bug of ours" in reason.text
    assert (reason.attempt or 0) > 1
    assert reason.action is not None
    assert "deploy workers" in reason.action
    assert kinds(found) == ["workflow_task_failing"]


async def test_session_pinned_to_a_version_that_nobody_runs(stage: "Stage", eventually: "Eventually") -> None:
    old = await stage.work(options=versioned(stage, "one"))
    await make_current(stage, "one", eventually)
    probe = await stage.open(await stage.agent(model="scripted:echo"))
    await probe.session.send_and_wait("hello")
    await stage.stop(old)
    new = await stage.work(options=versioned(stage, "two"))
    await probe.session.send("anybody there?")

    _, reason = await explained(probe, eventually, "no_worker_of_version")

    assert f"deployment version {stage.task_queue}.one" in reason.text
    assert reason.action is not None
    assert "auto_upgrade" in reason.action

    probe.forget()
    await stage.stop(new)


def versioned(stage: "Stage", build: str) -> WorkerOptions:
    version = WorkerDeploymentVersion(stage.task_queue, build)
    pinned = VersioningBehavior.PINNED
    config = WorkerDeploymentConfig(version=version, use_worker_versioning=True, default_versioning_behavior=pinned)
    return WorkerOptions(deployment=config, graceful_shutdown=timedelta(0))


async def make_current(stage: "Stage", build: str, eventually: "Eventually") -> None:
    request = SetWorkerDeploymentCurrentVersionRequest(
        namespace="default", deployment_name=stage.task_queue, build_id=build, ignore_missing_task_queues=True
    )

    async def known() -> bool:
        try:
            await stage.client.workflow_service.set_worker_deployment_current_version(request)
        except RPCError:
            return False
        return True

    await eventually(known, "the deployment is known to the server")


# --- at work ---------------------------------------------------------------------------------------------------------


async def test_model_call_in_progress_and_a_queue(stage: "Stage", eventually: "Eventually") -> None:
    options = WorkerOptions(identity="the-worker", graceful_shutdown=timedelta(0))
    probe = await stage.session(ScriptedTurn(text="half a", stall=True), ScriptedTurn(text="next"), options=options)
    await probe.session.send("talk")
    await probe.written("half a")
    await probe.session.send("and then?")

    found, reason = await explained(probe, eventually, "queue")

    assert kinds(found) == ["model_call", "queue"]
    assert found.status is SessionStatus.RUNNING
    call = found.reasons[0]
    assert "scripted:play" in call.text
    assert "6 characters so far" in call.text
    assert call.worker == "the-worker"
    assert call.since is not None
    assert reason.text == "1 message waits in the queue"

    await probe.session.interrupt()
    await probe.idle(2)


async def test_model_call_that_is_tried_again(stage: "Stage", eventually: "Eventually") -> None:
    failing = ScriptedTurn(text="now", failure=ScriptedFailure(message="too busy"), stall=True)
    probe = await stage.session(failing, limits=Limits(retry_interval=timedelta(milliseconds=10)))
    await probe.session.send("talk")
    await probe.written("now")

    _, reason = await explained(probe, eventually, "model_call")

    assert reason.attempt == 2
    assert "attempt 2" in reason.text
    assert "too busy" in reason.text

    await probe.session.interrupt()
    await probe.idle()


async def test_wait_before_the_next_attempt(stage: "Stage", eventually: "Eventually") -> None:
    failure = ScriptedFailure(kind="rate_limited", message="slow down", retry_after=LONG)
    probe = await stage.session(ScriptedTurn(text="now", failure=failure))
    await probe.session.send("talk")

    found, reason = await explained(probe, eventually, "retry")

    assert found.status is SessionStatus.RESCHEDULING
    assert "attempt 1" in reason.text
    assert "slow down" in reason.text
    assert reason.until is not None
    assert reason.until > datetime.now(UTC)

    await probe.session.interrupt()
    await probe.idle()


async def test_tool_call_with_its_progress(stage: "Stage", eventually: "Eventually") -> None:
    done = asyncio.Event()

    async def dig(depth: int, context: ToolContext) -> str:
        context.progress("half way down")
        await done.wait()
        return "dug"

    turns = (ScriptedTurn(calls=[ScriptedCall("dig", {"depth": 3})]), ScriptedTurn(text="done"))
    probe = await stage.session(*turns, tools=[dig])
    await probe.session.send("dig")

    async def told() -> bool:
        return "half way down" in (await probe.session.explain()).summary

    await eventually(told, "the tool's progress")
    found, reason = await explained(probe, eventually, "tool_call")

    assert kinds(found) == ["tool_call"]
    assert "dig(depth=3)" in reason.text
    assert reason.tool == "dig"
    assert reason.attempt == 1

    done.set()
    await probe.idle()


# --- waiting for somebody --------------------------------------------------------------------------------------------


@asynccontextmanager
async def parked(stage: "Stage") -> AsyncGenerator["Probe", None]:
    def pay(amount: int) -> str:
        return f"paid {amount}"

    probe = await stage.session(
        ScriptedTurn(calls=[ScriptedCall("pay", {"amount": 1}), ScriptedCall("look", {"at": "it"})]),
        ScriptedTurn(text="done"),
        tools=[pay],
        custom=[LOOK],
        policy=PermissionPolicy(tools={"pay": "ask"}),
    )
    await probe.session.send("pay")
    await probe.parked()
    yield probe


async def test_approval_and_custom_tool(stage: "Stage", eventually: "Eventually") -> None:
    async with parked(stage) as probe:
        found, approval = await explained(probe, eventually, "approval")
        custom = found.reasons[1]
        id = probe.session.id

        assert kinds(found) == ["approval", "custom_tool"]
        assert found.status is SessionStatus.IDLE
        assert found.stop_reason == "requires_action"
        assert "pay(amount=1)" in approval.text
        assert f"sojourn sessions confirm {id} {approval.tool_use_id}" in (approval.action or "")
        assert f"sojourn sessions deny {id} {approval.tool_use_id}" in (approval.action or "")
        assert 'look(at="it")' in custom.text
        assert f"sojourn sessions answer {id} {custom.tool_use_id}" in (custom.action or "")
        assert custom.since is not None
        assert custom.until == custom.since + LONG

        assert approval.tool_use_id is not None
        await probe.session.confirm(approval.tool_use_id, allow=True)
        await probe.parked(2)

        assert kinds(await probe.session.explain()) == ["custom_tool"]


async def test_pause(stage: "Stage", eventually: "Eventually") -> None:
    probe = await stage.session()
    await probe.session.send_and_wait("hello")
    await probe.session.pause()
    await probe.session.send("later")
    await probe.caught_up()

    found, reason = await explained(probe, eventually, "paused")

    assert kinds(found) == ["paused", "queue"]
    assert reason.since is not None
    assert reason.action == f"sojourn sessions resume {probe.session.id}"

    await probe.session.resume()
    await probe.idle(2)


# --- at rest ---------------------------------------------------------------------------------------------------------


async def test_session_that_waits_for_a_message(stage: "Stage", eventually: "Eventually") -> None:
    probe = await stage.session()
    _, first = await explained(probe, eventually, "message")
    await probe.session.send_and_wait("hello")
    found, reason = await explained(probe, eventually, "message")

    assert first.text == "it waits for its first message"
    assert found.summary == "idle: it waits for a message"
    assert f"sojourn sessions send {probe.session.id}" in (reason.action or "")


async def test_turn_whose_retries_are_used_up(stage: "Stage", eventually: "Eventually") -> None:
    probe = await stage.session(ScriptedTurn(failure=ScriptedFailure(kind="fatal", message="no such key")))
    await probe.session.send("talk")
    await probe.idle(1, "retries_exhausted")

    found, reason = await explained(probe, eventually, "error")

    assert found.stop_reason == "retries_exhausted"
    assert "no such key" in reason.text


# --- over ------------------------------------------------------------------------------------------------------------


async def test_archived_session(stage: "Stage", eventually: "Eventually") -> None:
    probe = await stage.session()
    await probe.session.archive()

    found, reason = await explained(probe, eventually, "ended")

    assert found.status is SessionStatus.ARCHIVED
    assert reason.text.startswith("it was archived at ")
    assert f"sojourn sessions events {probe.session.id}" in (reason.action or "")


async def test_failed_session(stage: "Stage", eventually: "Eventually") -> None:
    failure = ScriptedFailure(kind="fatal", message="no such key")
    probe = await stage.session(ScriptedTurn(failure=failure), limits=Limits(on_exhausted="failed"))
    await probe.session.send("talk")
    await probe.ended()

    found, reason = await explained(probe, eventually, "ended")

    assert found.status is SessionStatus.FAILED
    assert "no such key" in reason.text


async def test_session_that_was_terminated_from_outside(stage: "Stage", eventually: "Eventually") -> None:
    probe = await stage.session()
    await probe.session.send_and_wait("hello")
    request = TerminateWorkflowExecutionRequest(
        namespace="default",
        workflow_execution=WorkflowExecution(workflow_id=probe.workflow_id),
        reason="cleaning up",
        identity="bob",
    )
    await stage.client.workflow_service.terminate_workflow_execution(request)
    probe.forget()

    found, reason = await explained(probe, eventually, "ended_from_outside")

    assert found.status is SessionStatus.FAILED
    assert "terminated by bob: cleaning up" in reason.text


async def test_session_that_does_not_exist_for_the_caller(stage: "Stage") -> None:
    probe = await stage.session()

    with pytest.raises(SessionNotFoundError):
        await stage.runtime.explain("sesn_none")
    with pytest.raises(SessionNotFoundError):
        await stage.runtime.explain(probe.session.id, owner=Owner(stage.owner.workspace, "bob"))
