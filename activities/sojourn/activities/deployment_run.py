"""The activities of a deployment's run: whether everything it needs is there, and letting the deployment rest."""

from temporalio import activity
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from sojourn.types.chain import described_run
from sojourn.types.described import attribute, is_open, memo
from sojourn.types.environment import EnvironmentMemo, SandboxConfig
from sojourn.types.id import workflow_id
from sojourn.types.name import CHECK_DEPLOYMENT_ACTIVITY, ENVIRONMENT_MEMO, PAUSE_DEPLOYMENT_ACTIVITY, STATUS_ATTRIBUTE
from sojourn.types.schedule import (
    CheckDeploymentInput,
    CheckDeploymentResult,
    ErrorPause,
    PauseDeploymentInput,
    RunError,
    StoredDeployment,
)
from sojourn.types.scheduled import Scheduled, change_scheduled


class DeploymentRuns:
    """Holds what the activities need on a worker."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @activity.defn(name=CHECK_DEPLOYMENT_ACTIVITY)
    async def check_deployment(self, wanted: CheckDeploymentInput) -> CheckDeploymentResult:
        """Look for the agent, the environment and the vaults. Safe to retry: nothing is changed."""
        found = await self._environment(wanted)
        missing = found if isinstance(found, RunError) else None
        error = await self._agent(wanted) or missing or await self._vaults(wanted)
        return CheckDeploymentResult(error=error, sandbox=None if isinstance(found, RunError) else found)

    @activity.defn(name=PAUSE_DEPLOYMENT_ACTIVITY)
    async def pause_deployment(self, wanted: PauseDeploymentInput) -> None:
        """Let a deployment rest until somebody has mended it. Safe to retry: one that rests is left as it is.

        So is one that has been changed since the run began, and one that is gone.
        """

        def change(now: Scheduled) -> tuple[StoredDeployment, bool] | None:
            if now.paused or now.stored.changes != wanted.changes:
                return None
            return now.stored.model_copy(update={"paused_reason": ErrorPause(error=wanted.error)}), True

        try:
            await change_scheduled(self._client, wanted.workspace, wanted.deployment_id, change)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise

    async def _agent(self, wanted: CheckDeploymentInput) -> RunError | None:
        info = await self._describe(workflow_id(wanted.workspace, wanted.agent_id))
        if info is None:
            return RunError(type="unknown_error", message=f"agent {wanted.agent_id!r} is gone")
        if attribute(info, STATUS_ATTRIBUTE) == "archived":
            return RunError(
                type="agent_archived_error", message=f"agent {wanted.agent_id!r} is archived; deploy another one"
            )
        return None

    async def _environment(self, wanted: CheckDeploymentInput) -> SandboxConfig | RunError | None:
        """The environment's configuration as it is now, or why it cannot be used."""
        if wanted.environment_id is None:
            return None
        what = f"environment {wanted.environment_id!r}"
        info = await self._describe(workflow_id(wanted.workspace, wanted.environment_id))
        if info is None:
            return RunError(type="environment_not_found_error", message=f"{what} does not exist; name another one")
        if attribute(info, STATUS_ATTRIBUTE) == "archived":
            return RunError(type="environment_archived_error", message=f"{what} is archived; name another one")
        shown = await memo(self._client, info, ENVIRONMENT_MEMO, EnvironmentMemo)
        return shown.environment.config if shown else None

    async def _vaults(self, wanted: CheckDeploymentInput) -> RunError | None:
        for vault_id in wanted.vault_ids:
            info = await self._describe(workflow_id(wanted.workspace, vault_id))
            if info is None:
                text = f"vault {vault_id!r} does not exist; name another one"
                return RunError(type="vault_not_found_error", message=text)
            if attribute(info, STATUS_ATTRIBUTE) == "archived":
                return RunError(
                    type="vault_archived_error", message=f"vault {vault_id!r} is archived; name another one"
                )
        return None

    async def _describe(self, id: str) -> WorkflowExecutionInfo | None:
        """An entity that lives, or ``None``."""
        info = await described_run(self._client, id)
        return info if info is not None and is_open(info) else None
