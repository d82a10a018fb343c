"""Names that only one environment of a workspace may have.

The server runs one workflow of an id at a time, so a name is taken by starting one whose id is made from it. It names
the environment that holds it. What was left behind by a caller that was cut off is told by that environment, which
then has another name, is archived, or does not exist; the next who wants the name takes it over.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import TerminateWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from sojourn.client.failure import translated
from sojourn.types.chain import described_run, is_missing
from sojourn.types.described import is_open, memo, started_at
from sojourn.types.environment import EnvironmentMemo
from sojourn.types.error import EnvironmentNameTakenError
from sojourn.types.id import EnvironmentId, name_workflow_id, workflow_id
from sojourn.types.name import ENVIRONMENT_MEMO, NAME_WORKFLOW, WORKSPACE_ATTRIBUTE

logger = logging.getLogger("sojourn.client")

SETTLING = timedelta(minutes=1)
"""How long whoever has taken a name may need until the environment shows it; they give up long before."""

_ATTEMPTS = 5


@dataclass(frozen=True)
class _Holder:
    environment_id: EnvironmentId
    run_id: str
    since: datetime


class NameClaims:
    """Takes names and sets them free. Needs no worker."""

    def __init__(self, client: Client, *, task_queue: str, settling: timedelta = SETTLING) -> None:
        self._client = client
        self._task_queue = task_queue
        self._settling = settling
        self._address = client.service_client.config.target_host

    async def take(self, name: str, environment_id: EnvironmentId, *, workspace: str) -> None:
        """Take a name for an environment. Repeating it changes nothing.

        Raises:
            EnvironmentNameTakenError: Another environment has it, or somebody else was faster.
        """
        with translated(self._address):
            for _ in range(_ATTEMPTS):
                if await self._start(name, environment_id, workspace):
                    return
                holder = await self._holder(name, workspace)
                if holder is None:
                    continue
                if holder.environment_id == environment_id:
                    return
                if not await self._is_stale(holder, name, workspace):
                    break
                await self._end(name, workspace, holder)
        raise EnvironmentNameTakenError(name)

    async def release(self, name: str, environment_id: EnvironmentId, *, workspace: str) -> None:
        """Set a name free if the environment holds it. Never fails: a name that is left behind can be taken over."""
        try:
            holder = await self._holder(name, workspace)
            if holder is not None and holder.environment_id == environment_id:
                await self._end(name, workspace, holder)
        except RPCError as error:
            logger.warning("name of environment %s is not free yet: %s", environment_id, error.message)

    async def _start(self, name: str, environment_id: EnvironmentId, workspace: str) -> bool:
        try:
            await self._client.start_workflow(
                NAME_WORKFLOW,
                id=name_workflow_id(workspace, name),
                task_queue=self._task_queue,
                search_attributes=TypedSearchAttributes([SearchAttributePair(WORKSPACE_ATTRIBUTE, workspace)]),
                memo={ENVIRONMENT_MEMO: environment_id},
                static_summary=f"name of {environment_id}",
            )
        except WorkflowAlreadyStartedError:
            return False
        return True

    async def _holder(self, name: str, workspace: str) -> _Holder | None:
        info = await described_run(self._client, name_workflow_id(workspace, name))
        if info is None or not is_open(info):
            return None
        environment_id = await memo(self._client, info, ENVIRONMENT_MEMO, str) or ""
        return _Holder(EnvironmentId(environment_id), info.execution.run_id, started_at(info))

    async def _is_stale(self, holder: _Holder, name: str, workspace: str) -> bool:
        info = await described_run(self._client, workflow_id(workspace, holder.environment_id))
        shown = await memo(self._client, info, ENVIRONMENT_MEMO, EnvironmentMemo) if info and is_open(info) else None
        if shown is not None and shown.environment.archived_at is not None:
            return True
        if shown is not None and shown.environment.name == name:
            return False
        return datetime.now(UTC) - holder.since > self._settling

    async def _end(self, name: str, workspace: str, holder: _Holder) -> None:
        """The very run that was looked at: by now the name may be held by a newer one."""
        request = TerminateWorkflowExecutionRequest(
            namespace=self._client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=name_workflow_id(workspace, name), run_id=holder.run_id),
            reason="the name is free",
            identity=self._client.identity,
        )
        try:
            await self._client.workflow_service.terminate_workflow_execution(request, retry=True)
        except RPCError as error:
            if not is_missing(error):
                raise
