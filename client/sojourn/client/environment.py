"""Environments: one workflow each, read from its memo."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import CountWorkflowExecutionsRequest
from temporalio.client import Client
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDReusePolicy

from sojourn.client.claim import NameClaims
from sojourn.client.failure import translated
from sojourn.client.listing import Page, condition, list_workflows
from sojourn.client.removal import remove_workflow
from sojourn.client.update import execute_update
from sojourn.client.validation import check_environment_id, check_readable
from sojourn.types.chain import described_run
from sojourn.types.described import is_open, memo
from sojourn.types.environment import (
    Environment,
    EnvironmentChange,
    EnvironmentDefinition,
    EnvironmentInput,
    EnvironmentMemo,
    EnvironmentUpdate,
)
from sojourn.types.error import (
    ConflictError,
    EnvironmentArchivedError,
    EnvironmentExistsError,
    EnvironmentInUseError,
    EnvironmentNotFoundError,
    InvalidRequestError,
    NotFoundError,
    ServerUnavailableError,
)
from sojourn.types.id import EnvironmentId, new_environment_id, workflow_id
from sojourn.types.name import (
    ARCHIVE_ENVIRONMENT_UPDATE,
    ENVIRONMENT_ATTRIBUTE,
    ENVIRONMENT_MEMO,
    ENVIRONMENT_WORKFLOW,
    HOLD_ENVIRONMENT_UPDATE,
    SESSION_WORKFLOW,
    STATUS_ATTRIBUTE,
    UPDATE_ENVIRONMENT_UPDATE,
    WORKSPACE_ATTRIBUTE,
)

R = TypeVar("R")

_AT_ONCE = timedelta(seconds=10)
"""For the start of an environment whose name is taken already; far less than `claim.SETTLING`."""

VISIBLE = timedelta(seconds=2)
"""After so long a session that has been started is counted; Elasticsearch shows changes once a second."""


class EnvironmentStore:
    """Reads and writes environments. Creating and reading need no worker; changes do."""

    def __init__(self, client: Client, *, task_queue: str) -> None:
        self._client = client
        self._task_queue = task_queue
        self._address = client.service_client.config.target_host
        self._names = NameClaims(client, task_queue=task_queue)

    async def create(
        self, definition: EnvironmentDefinition, *, workspace: str, environment_id: EnvironmentId | None = None
    ) -> Environment:
        """Store a new environment.

        Raises:
            EnvironmentExistsError: The id is taken.
            EnvironmentNameTakenError: The name is.
        """
        id = check_environment_id(environment_id) if environment_id is not None else new_environment_id()
        now = datetime.now(UTC)
        environment = Environment(**dict(definition), id=id, created_at=now, updated_at=now)
        await check_readable(self._client, EnvironmentInput(workspace=workspace, environment=environment))
        if environment_id is not None and await self._describe(id, workspace) is not None:
            raise EnvironmentExistsError(id)
        await self._names.take(definition.name, id, workspace=workspace)
        try:
            async with asyncio.timeout(_AT_ONCE.total_seconds()):
                await self._start(environment, workspace)
        except EnvironmentExistsError:
            await self._give_back(definition.name, id, workspace)
            raise
        except TimeoutError:
            raise ServerUnavailableError(self._address) from None
        return environment

    async def _give_back(self, name: str, environment_id: EnvironmentId, workspace: str) -> None:
        """Set a name free that was taken for an id which turned out to be another environment's."""
        with suppress(EnvironmentNotFoundError):
            if (await self.get(environment_id, workspace=workspace)).name == name:
                return
        await self._names.release(name, environment_id, workspace=workspace)

    async def _start(self, environment: Environment, workspace: str) -> None:
        with translated(self._address, taken=EnvironmentExistsError(environment.id)):
            await self._client.start_workflow(
                ENVIRONMENT_WORKFLOW,
                EnvironmentInput(workspace=workspace, environment=environment),
                id=workflow_id(workspace, environment.id),
                task_queue=self._task_queue,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                search_attributes=TypedSearchAttributes(
                    [
                        SearchAttributePair(WORKSPACE_ATTRIBUTE, workspace),
                        SearchAttributePair(STATUS_ATTRIBUTE, "active"),
                    ]
                ),
                memo={ENVIRONMENT_MEMO: EnvironmentMemo(environment=environment)},
                static_summary=f"environment {environment.name}"[:200],
            )

    async def get(self, environment_id: EnvironmentId, *, workspace: str) -> Environment:
        """An environment as it is now.

        Raises:
            EnvironmentNotFoundError: There is none in the workspace.
        """
        return (await self._shown(environment_id, workspace)).environment

    async def admit(self, environment_id: EnvironmentId, *, workspace: str) -> Environment:
        """An environment in which a session may begin.

        Raises:
            EnvironmentArchivedError: It takes no new sessions.
            EnvironmentNotFoundError: There is none in the workspace, or it is being deleted.
        """
        shown = await self._shown(environment_id, workspace)
        if shown.environment.archived_at is not None:
            raise EnvironmentArchivedError(environment_id)
        if shown.is_held(datetime.now(UTC)):
            raise EnvironmentNotFoundError(environment_id)
        return shown.environment

    async def update(self, environment_id: EnvironmentId, change: EnvironmentChange, *, workspace: str) -> Environment:
        """Change what the change names; sessions that run keep what they began with.

        Raises:
            EnvironmentArchivedError: It cannot change any more.
            EnvironmentNameTakenError: Another one has the new name.
            EnvironmentNotFoundError: There is none in the workspace.
            InvalidRequestError: The result would be none.
            WorkerUnavailableError: No worker took it in time.
        """
        before = await self.get(environment_id, workspace=workspace)
        if before.archived_at is not None:
            raise EnvironmentArchivedError(environment_id)
        await check_readable(self._client, change)
        wanted = change.applied(before).name
        if wanted != before.name:
            await self._names.take(wanted, environment_id, workspace=workspace)
        try:
            changed = await self._execute(
                environment_id, workspace, UPDATE_ENVIRONMENT_UPDATE, change, result=EnvironmentUpdate
            )
        except (ConflictError, InvalidRequestError, NotFoundError):
            # Refused for sure. After any other error it may yet be done, and the name with it.
            if wanted != before.name:
                await self._names.release(wanted, environment_id, workspace=workspace)
            raise
        if changed.before.name != changed.after.name:
            await self._names.release(changed.before.name, environment_id, workspace=workspace)
        return changed.after

    async def archive(self, environment_id: EnvironmentId, *, workspace: str) -> Environment:
        """Refuse new sessions and changes, and set the name free; sessions that run go on. May be repeated.

        Raises:
            EnvironmentNotFoundError: There is none in the workspace.
            WorkerUnavailableError: No worker took it in time.
        """
        await self.get(environment_id, workspace=workspace)
        archived = await self._execute(environment_id, workspace, ARCHIVE_ENVIRONMENT_UPDATE, result=Environment)
        await self._names.release(archived.name, environment_id, workspace=workspace)
        return archived

    async def delete(self, environment_id: EnvironmentId, *, workspace: str) -> None:
        """Remove an environment that no session refers to. From the first moment it takes no new sessions.

        One that is cut off lets go of the environment after a minute.

        Raises:
            EnvironmentInUseError: Sessions refer to it; nothing has changed.
            EnvironmentNotFoundError: There is none in the workspace, or it was deleted before.
            WorkerUnavailableError: No worker took it in time.
        """
        await self.get(environment_id, workspace=workspace)
        await self._execute(environment_id, workspace, HOLD_ENVIRONMENT_UPDATE, True, result=None)
        if not (sessions := await self._sessions(environment_id, workspace)):
            # For those that began just before, which are not counted yet.
            await asyncio.sleep(VISIBLE.total_seconds())
            sessions = await self._sessions(environment_id, workspace)
        if sessions:
            await self._execute(environment_id, workspace, HOLD_ENVIRONMENT_UPDATE, False, result=None)
            raise EnvironmentInUseError(environment_id, sessions=sessions)
        environment = await self.get(environment_id, workspace=workspace)
        await remove_workflow(self._client, workflow_id(workspace, environment_id))
        await self._names.release(environment.name, environment_id, workspace=workspace)

    async def page(
        self, *, workspace: str, include_archived: bool, limit: int, cursor: str | None
    ) -> Page[Environment]:
        """Environments of a workspace, newest first."""
        query = condition(
            {
                "WorkflowType": ENVIRONMENT_WORKFLOW,
                "ExecutionStatus": "Running",
                WORKSPACE_ATTRIBUTE: workspace,
                STATUS_ATTRIBUTE: None if include_archived else "active",
            }
        )
        with translated(self._address):
            found, next_page = await list_workflows(self._client, query, limit=limit, page=cursor)
        shown = [await memo(self._client, info, ENVIRONMENT_MEMO, EnvironmentMemo) for info in found]
        return Page([each.environment for each in shown if each is not None], next_page)

    async def _describe(self, environment_id: EnvironmentId, workspace: str) -> WorkflowExecutionInfo | None:
        """What the server has under the id, also if it is closed."""
        with translated(self._address):
            return await described_run(self._client, workflow_id(workspace, environment_id))

    async def _shown(self, environment_id: EnvironmentId, workspace: str) -> EnvironmentMemo:
        info = await self._describe(environment_id, workspace)
        if info is not None and info.type.name == ENVIRONMENT_WORKFLOW and is_open(info):
            shown = await memo(self._client, info, ENVIRONMENT_MEMO, EnvironmentMemo)
            if shown is not None:
                return shown
        raise EnvironmentNotFoundError(environment_id)

    async def _execute(
        self,
        environment_id: EnvironmentId,
        workspace: str,
        name: str,
        argument: object | None = None,
        *,
        result: type[R] | None,
    ) -> R:
        return await execute_update(
            self._client,
            workflow_id(workspace, environment_id),
            name,
            argument,
            result=result,
            missing=EnvironmentNotFoundError(environment_id),
            task_queue=self._task_queue,
        )

    async def _sessions(self, environment_id: EnvironmentId, workspace: str) -> int:
        wanted = condition(
            {"WorkflowType": SESSION_WORKFLOW, WORKSPACE_ATTRIBUTE: workspace, ENVIRONMENT_ATTRIBUTE: environment_id}
        )
        request = CountWorkflowExecutionsRequest(
            namespace=self._client.namespace, query=f"{wanted} AND ExecutionStatus != 'ContinuedAsNew'"
        )
        with translated(self._address):
            return (await self._client.workflow_service.count_workflow_executions(request, retry=True)).count
