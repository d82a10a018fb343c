"""A deployment as Temporal keeps it: a Schedule whose action carries the whole of it. Read without a worker."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, timedelta

from temporalio.api.common.v1 import Payloads, SearchAttributes, WorkflowType
from temporalio.api.enums.v1 import ScheduleOverlapPolicy
from temporalio.api.schedule.v1 import Schedule, ScheduleAction
from temporalio.api.sdk.v1 import UserMetadata
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import NewWorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import (
    CreateScheduleRequest,
    DescribeScheduleRequest,
    DescribeScheduleResponse,
    UpdateScheduleRequest,
)
from temporalio.client import Client
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.converter import encode_search_attributes

from sojourn.types.error import InternalError
from sojourn.types.id import DeploymentId, new_change_id, scheduled_run_prefix, workflow_id
from sojourn.types.name import (
    AGENT_ATTRIBUTE,
    CREATED_MEMO,
    DEPLOYMENT_ATTRIBUTE,
    DEPLOYMENT_RUN_MEMO,
    DEPLOYMENT_RUN_WORKFLOW,
    STATUS_ATTRIBUTE,
    USER_ATTRIBUTE,
    WORKSPACE_ATTRIBUTE,
)
from sojourn.types.payload import store_of, storing
from sojourn.types.schedule import (
    AgentRef,
    Deployment,
    DeploymentRunInput,
    DeploymentRunMemo,
    ErrorPause,
    ManualPause,
    StoredDeployment,
)

_AT_ONCE = timedelta(seconds=30)
_SHOWN = 5
"""Runs to come that are told (Managed Agents API §1.10)."""
_REMEMBERED = 16
"""Changes: so many others may be faster between a change and the look whether it holds."""
_ATTEMPTS = 40


@dataclass(frozen=True)
class Scheduled:
    """A deployment, and the schedule that it was read from."""

    stored: StoredDeployment
    described: DescribeScheduleResponse

    @property
    def paused(self) -> bool:
        """Whether the schedule rests."""
        return self.described.schedule.state.paused

    @property
    def task_queue(self) -> str:
        """Where its runs go."""
        return self.described.schedule.action.start_workflow.task_queue.name

    def deployment(self) -> Deployment:
        """As users see it."""
        stored, info = self.stored, self.described.info
        schedule = stored.schedule if stored.archived_at is None else None
        times = [at.ToDatetime(UTC) for at in info.future_action_times[:_SHOWN]]
        starts = [each.actual_time.ToDatetime(UTC) for each in info.recent_actions]
        paused = self.paused and stored.archived_at is None
        return Deployment(
            id=stored.id,
            owner=stored.owner,
            name=stored.name,
            agent=AgentRef(id=stored.agent.id, version=stored.agent.version),
            environment_id=stored.environment_id,
            initial_events=stored.initial_events,
            schedule=stored.schedule,
            upcoming_runs_at=tuple(schedule.due(at) for at in times) if schedule else (),
            last_run_at=max(starts, default=None),
            budget=stored.budget,
            vault_ids=stored.vault_ids,
            description=stored.description,
            metadata=stored.metadata,
            status="paused" if paused else "active",
            # Who pauses it in the Web UI leaves no reason.
            paused_reason=(stored.paused_reason or ManualPause()) if paused else None,
            created_at=stored.created_at,
            updated_at=stored.updated_at,
            archived_at=stored.archived_at,
        )


async def read_scheduled(client: Client, workspace: str, deployment_id: DeploymentId) -> Scheduled:
    """A deployment as it is now.

    Raises:
        RPCError: As the server says; ``NOT_FOUND`` if there is none.
    """
    request = DescribeScheduleRequest(namespace=client.namespace, schedule_id=workflow_id(workspace, deployment_id))
    described = await client.workflow_service.describe_schedule(request, retry=True, timeout=_AT_ONCE)
    payloads = described.schedule.action.start_workflow.input.payloads
    input: DeploymentRunInput = (await client.data_converter.decode(payloads, [DeploymentRunInput]))[0]
    return Scheduled(input.deployment, described)


async def create_scheduled(client: Client, stored: StoredDeployment, *, task_queue: str) -> None:
    """Store a new deployment.

    Raises:
        RPCError: As the server says; ``ALREADY_EXISTS`` if the id is taken.
    """
    request = CreateScheduleRequest(
        namespace=client.namespace,
        schedule_id=workflow_id(stored.owner.workspace, stored.id),
        schedule=await _schedule(client, stored, paused=False, task_queue=task_queue),
        identity=client.identity,
        request_id=new_change_id(),
        search_attributes=_attributes(stored, paused=False),
    )
    request.memo.fields[CREATED_MEMO].CopyFrom((await client.data_converter.encode([stored.created_at]))[0])
    await client.workflow_service.create_schedule(request, retry=True, timeout=_AT_ONCE)


Change = Callable[[Scheduled], tuple[StoredDeployment, bool] | None]
"""What a deployment is to become, and whether it is to rest; ``None`` leaves it. It may be asked more than once."""


async def change_scheduled(client: Client, workspace: str, deployment_id: DeploymentId, change: Change) -> Scheduled:
    """Change a deployment, whoever else does at the same time: no change is lost.

    The server drops an update that comes second without a word, so each one is looked after.

    Raises:
        InternalError: Others were faster all the time.
        RPCError: As the server says; ``NOT_FOUND`` if there is none.
    """
    mark = new_change_id()
    before = await read_scheduled(client, workspace, deployment_id)
    for attempt in range(_ATTEMPTS):
        wanted = change(before)
        if wanted is None:
            return before
        stored, paused = wanted
        changes = (*stored.changes, mark)[-_REMEMBERED:]
        await _update(client, before, stored.model_copy(update={"changes": changes}), paused=paused)
        after = await read_scheduled(client, workspace, deployment_id)
        if mark in after.stored.changes:
            return after
        if after.described.conflict_token == before.described.conflict_token:
            # Not taken up yet.
            await asyncio.sleep(0.05 * attempt)
        before = after
    raise InternalError(f"deployment {deployment_id!r} is changed all the time; try again")


async def _update(client: Client, before: Scheduled, stored: StoredDeployment, *, paused: bool) -> None:
    request = UpdateScheduleRequest(
        namespace=client.namespace,
        schedule_id=workflow_id(stored.owner.workspace, stored.id),
        schedule=await _schedule(client, stored, paused=paused, task_queue=before.task_queue),
        conflict_token=before.described.conflict_token,
        identity=client.identity,
        request_id=new_change_id(),
        search_attributes=_attributes(stored, paused=paused),
    )
    await client.workflow_service.update_schedule(request, retry=True, timeout=_AT_ONCE)


async def _schedule(client: Client, stored: StoredDeployment, *, paused: bool, task_queue: str) -> Schedule:
    when = stored.schedule if stored.archived_at is None else None
    schedule = Schedule(action=ScheduleAction(start_workflow=await _action(client, stored, task_queue)))
    if when is not None:
        schedule.spec.cron_string.extend(when.cron.expressions)
        schedule.spec.timezone_name = when.timezone
        schedule.spec.jitter.FromTimedelta(when.jitter)
        schedule.policies.catchup_window.FromTimedelta(when.patience)
    # Each time it is due there is a run; a run takes milliseconds, and what it starts goes on by itself.
    schedule.policies.overlap_policy = ScheduleOverlapPolicy.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL
    schedule.state.paused = paused or stored.archived_at is not None
    schedule.state.notes = _note(stored) if schedule.state.paused else ""
    return schedule


def _note(stored: StoredDeployment) -> str:
    if stored.archived_at is not None:
        return "archived"
    reason = stored.paused_reason
    return f"paused by a run that failed: {reason.error.type}" if isinstance(reason, ErrorPause) else "paused"


async def _action(client: Client, stored: StoredDeployment, task_queue: str) -> NewWorkflowExecutionInfo:
    id = f"{stored.owner.workspace}/{scheduled_run_prefix(stored.id)}"
    converter = storing(store_of(client), owner=workflow_id(stored.owner.workspace, stored.id))
    start = run_start(stored)
    (summary,) = await client.data_converter.encode([start.summary])
    action = NewWorkflowExecutionInfo(
        workflow_id=id,
        workflow_type=WorkflowType(name=DEPLOYMENT_RUN_WORKFLOW),
        task_queue=TaskQueue(name=task_queue),
        input=Payloads(payloads=await converter.encode([start.input])),
        user_metadata=UserMetadata(summary=summary),
    )
    action.memo.fields[DEPLOYMENT_RUN_MEMO].CopyFrom((await client.data_converter.encode([start.memo]))[0])
    encode_search_attributes(start.attributes, action.search_attributes)
    return action


@dataclass(frozen=True)
class RunStart:
    """What the workflow of a run is started with, by a schedule or by hand."""

    input: DeploymentRunInput
    memo: DeploymentRunMemo
    attributes: TypedSearchAttributes
    summary: str


def run_start(stored: StoredDeployment) -> RunStart:
    """A run of the deployment as it is."""
    return RunStart(
        input=DeploymentRunInput(deployment=stored),
        memo=DeploymentRunMemo(deployment_id=stored.id, agent_id=stored.agent.id, agent_version=stored.agent.version),
        attributes=TypedSearchAttributes([*_identity(stored), SearchAttributePair(STATUS_ATTRIBUTE, "pending")]),
        summary=f"run of {stored.name}",
    )


def _identity(stored: StoredDeployment) -> list[SearchAttributePair[str]]:
    return [
        SearchAttributePair(WORKSPACE_ATTRIBUTE, stored.owner.workspace),
        SearchAttributePair(USER_ATTRIBUTE, stored.owner.user),
        SearchAttributePair(AGENT_ATTRIBUTE, stored.agent.id),
        SearchAttributePair(DEPLOYMENT_ATTRIBUTE, stored.id),
    ]


def _attributes(stored: StoredDeployment, *, paused: bool) -> SearchAttributes:
    status = "archived" if stored.archived_at is not None else "paused" if paused else "active"
    encoded = SearchAttributes()
    pairs = TypedSearchAttributes([*_identity(stored), SearchAttributePair(STATUS_ATTRIBUTE, status)])
    encode_search_attributes(pairs, encoded)
    return encoded
