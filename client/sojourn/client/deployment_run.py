"""Runs of deployments: starting one by hand, and reading what came of them. Only a run itself needs a worker."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import SearchAttributeKey, WorkflowIDReusePolicy
from temporalio.converter import decode_typed_search_attributes

from sojourn.client.failure import translated
from sojourn.client.listing import ALWAYS, CreatedRange, Page, condition, list_workflows, quote, timestamp
from sojourn.types.described import attribute, is_open, memo, started_at
from sojourn.types.error import DeploymentArchivedError, DeploymentExistsError, DeploymentRunNotFoundError
from sojourn.types.id import (
    DeploymentId,
    DeploymentRunId,
    deployment_run_id,
    new_deployment_run_id,
    run_workflow_id,
)
from sojourn.types.name import (
    DEPLOYMENT_ATTRIBUTE,
    DEPLOYMENT_RUN_MEMO,
    DEPLOYMENT_RUN_WORKFLOW,
    STATUS_ATTRIBUTE,
    USER_ATTRIBUTE,
    WORKSPACE_ATTRIBUTE,
)
from sojourn.types.schedule import (
    AgentRef,
    DeploymentRun,
    DeploymentRunMemo,
    ManualTrigger,
    RunError,
    ScheduleTrigger,
    StoredDeployment,
    TriggerType,
)
from sojourn.types.scheduled import run_start
from sojourn.types.session import Owner

PATIENCE = timedelta(seconds=10)
"""How long a run by hand is waited for; it takes milliseconds where there is a worker."""

_DUE = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")


@dataclass(frozen=True)
class RunFilter:
    """Which runs a list shows."""

    deployment_id: DeploymentId | None = None
    has_error: bool | None = None
    """Those that started no session, or those that did; ``None`` shows also those that no worker has taken yet."""
    trigger: TriggerType | None = None
    created: CreatedRange = ALWAYS

    def query(self, owner: Owner) -> str:
        """For the server."""
        statuses = {None: None, True: "failed", False: "started"}
        parts = [
            condition(
                {
                    "WorkflowType": DEPLOYMENT_RUN_WORKFLOW,
                    WORKSPACE_ATTRIBUTE: owner.workspace,
                    USER_ATTRIBUTE: owner.user,
                    DEPLOYMENT_ATTRIBUTE: self.deployment_id,
                    STATUS_ATTRIBUTE: statuses[self.has_error],
                }
            )
        ]
        if self.trigger is not None:
            parts.append(f"{_DUE.name} IS {'NOT ' if self.trigger == 'schedule' else ''}NULL")
        created = self.created
        signs = ((">", created.gt), (">=", created.gte), ("<", created.lt), ("<=", created.lte))
        parts += [f"StartTime {sign} {quote(timestamp(at))}" for sign, at in signs if at is not None]
        return " AND ".join(parts)


class RunStore:
    """Starts and reads runs."""

    def __init__(self, client: Client, *, task_queue: str) -> None:
        self._client = client
        self._task_queue = task_queue
        self._address = client.service_client.config.target_host

    async def start(self, deployment: StoredDeployment, *, run_id: DeploymentRunId | None) -> DeploymentRun:
        """Run a deployment now, and wait a moment for what comes of it."""
        if deployment.archived_at is not None:
            raise DeploymentArchivedError(deployment.id)
        start, run_id = run_start(deployment), run_id or new_deployment_run_id()
        with translated(self._address, taken=DeploymentExistsError(run_id)):
            handle = await self._client.start_workflow(
                DEPLOYMENT_RUN_WORKFLOW,
                start.input,
                id=run_workflow_id(deployment.owner.workspace, run_id),
                task_queue=self._task_queue,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                search_attributes=start.attributes,
                memo={DEPLOYMENT_RUN_MEMO: start.memo},
                static_summary=start.summary,
            )
            with suppress(TimeoutError, WorkflowFailureError):
                async with asyncio.timeout(PATIENCE.total_seconds()):
                    await handle.result()
        return await self.get(run_id, deployment.owner)

    async def get(self, run_id: DeploymentRunId, owner: Owner) -> DeploymentRun:
        """A run of this owner."""
        missing = DeploymentRunNotFoundError(run_id)
        try:
            id = run_workflow_id(owner.workspace, run_id)
        except ValueError:
            raise missing from None
        request = DescribeWorkflowExecutionRequest(
            namespace=self._client.namespace, execution=WorkflowExecution(workflow_id=id)
        )
        with translated(self._address, missing=missing):
            described = await self._client.workflow_service.describe_workflow_execution(request, retry=True)
        info = described.workflow_execution_info
        found = await self._run(info)
        if found is None or attribute(info, USER_ATTRIBUTE) != owner.user:
            raise missing
        return found

    async def page(self, wanted: RunFilter, *, owner: Owner, limit: int, cursor: str | None) -> Page[DeploymentRun]:
        """Runs of an owner, newest first."""
        with translated(self._address):
            infos, next_page = await list_workflows(self._client, wanted.query(owner), limit=limit, page=cursor)
        found = [await self._run(info) for info in infos]
        return Page([each for each in found if each is not None], next_page)

    async def _run(self, info: WorkflowExecutionInfo) -> DeploymentRun | None:
        shown = await memo(self._client, info, DEPLOYMENT_RUN_MEMO, DeploymentRunMemo)
        if shown is None or info.type.name != DEPLOYMENT_RUN_WORKFLOW:
            return None
        due = decode_typed_search_attributes(info.search_attributes).get(_DUE)
        return DeploymentRun(
            id=deployment_run_id(info.execution.workflow_id),
            deployment_id=shown.deployment_id,
            agent=AgentRef(id=shown.agent_id, version=shown.agent_version),
            trigger=ScheduleTrigger(scheduled_at=due) if due is not None else ManualTrigger(),
            session_id=shown.session_id,
            error=shown.error or (None if shown.session_id or is_open(info) else _LOST),
            created_at=started_at(info),
        )


_LOST = RunError(type="unknown_error", message="the run was ended from outside before it had started a session")
