"""The deployments' part of `AgentRuntime`."""

from sojourn.client.deployment_run import RunFilter, RunStore
from sojourn.client.listing import ALWAYS, CreatedRange, Page
from sojourn.client.registry import Agent, AgentRegistry
from sojourn.client.schedule import DeploymentFilter, ScheduleStore
from sojourn.client.validation import check_deployment_id, check_run_id
from sojourn.types.id import DeploymentId, DeploymentRunId
from sojourn.types.schedule import (
    Deployment,
    DeploymentChange,
    DeploymentDefinition,
    DeploymentRun,
    DeploymentStatus,
    TriggerType,
)
from sojourn.types.session import Owner

AnyDeployment = Deployment | DeploymentId | str


class ScheduleRegistry(AgentRegistry):
    """Creates, changes and runs deployments: agents that start sessions by a schedule or on request.

    They belong to an owner, as the sessions do that they start.
    """

    _schedules: ScheduleStore
    _runs: RunStore

    async def create_deployment(
        self,
        definition: DeploymentDefinition,
        *,
        deployment_id: DeploymentId | str | None = None,
        owner: Owner | None = None,
    ) -> Deployment:
        """Store a new deployment. With a schedule it runs from now on.

        Args:
            definition: What to run, and when.
            deployment_id: An id of your own, ``depl_`` and letters or digits, to make at most one for something.
            owner: To whom it and its sessions belong; by default the runtime's.

        Raises:
            AgentArchivedError: The agent takes no new sessions.
            AgentNotFoundError: There is no such agent, or version of it, in the workspace.
            DeploymentExistsError: The id is taken.
            EnvironmentArchivedError: The environment takes no new sessions.
            EnvironmentNotFoundError: There is no such environment in the workspace.
            InvalidRequestError: The agent or the environment needs what no worker has, the time zone is unknown, or
                there are too many.
        """
        id = check_deployment_id(deployment_id) if deployment_id is not None else None
        return await self._schedules.create(definition, owner=owner or self.owner, deployment_id=id)

    async def get_deployment(self, deployment: AnyDeployment, *, owner: Owner | None = None) -> Deployment:
        """A deployment as it is now. Needs no worker.

        Raises:
            DeploymentNotFoundError: There is none, or it is another owner's.
        """
        return await self._schedules.get(*self._deployment(deployment, owner))

    async def update_deployment(
        self, deployment: AnyDeployment, change: DeploymentChange, *, owner: Owner | None = None
    ) -> Deployment:
        """Change it for the runs to come; nothing is lost if others change it at the same time.

        Raises:
            AgentArchivedError: The agent takes no new sessions.
            AgentNotFoundError: There is no such agent, or version of it, in the workspace.
            DeploymentArchivedError: It takes no changes.
            DeploymentNotFoundError: There is none, or it is another owner's.
            EnvironmentArchivedError: The environment takes no new sessions.
            EnvironmentNotFoundError: There is no such environment in the workspace.
            InvalidRequestError: As with `create_deployment`.
        """
        id, owner = self._deployment(deployment, owner)
        return await self._schedules.update(id, change, owner)

    async def pause_deployment(self, deployment: AnyDeployment, *, owner: Owner | None = None) -> Deployment:
        """Leave out the runs by schedule until `unpause_deployment`; runs on request go on.

        Raises:
            DeploymentArchivedError: It has no runs any more.
            DeploymentNotFoundError: There is none, or it is another owner's.
        """
        return await self._schedules.pause(*self._deployment(deployment, owner))

    async def unpause_deployment(self, deployment: AnyDeployment, *, owner: Owner | None = None) -> Deployment:
        """Let it run by schedule again. What was due meanwhile is left out.

        Raises:
            DeploymentArchivedError: It has no runs any more.
            DeploymentNotFoundError: There is none, or it is another owner's.
        """
        return await self._schedules.unpause(*self._deployment(deployment, owner))

    async def archive_deployment(self, deployment: AnyDeployment, *, owner: Owner | None = None) -> Deployment:
        """End it for good: no runs and no changes. Its sessions go on. Repeating it changes nothing.

        Raises:
            DeploymentNotFoundError: There is none, or it is another owner's.
        """
        return await self._schedules.archive(*self._deployment(deployment, owner))

    async def list_deployments(
        self,
        *,
        agent: Agent | None = None,
        status: DeploymentStatus | None = None,
        include_archived: bool = False,
        created: CreatedRange = ALWAYS,
        limit: int = 20,
        page: str | None = None,
        owner: Owner | None = None,
    ) -> Page[Deployment]:
        """Deployments of the owner, newest first.

        Raises:
            InvalidRequestError: The limit or the cursor is none.
        """
        agent_id = self._agent(agent, None)[0] if agent is not None else None
        wanted = DeploymentFilter(agent_id, status, include_archived, created)
        return await self._schedules.page(wanted, owner=owner or self.owner, limit=limit, cursor=page)

    async def run_deployment(
        self,
        deployment: AnyDeployment,
        *,
        run_id: DeploymentRunId | str | None = None,
        owner: Owner | None = None,
    ) -> DeploymentRun:
        """Run it now, also while it is paused, and wait ten seconds at most for what comes of it.

        Without a worker the run has neither session nor error yet; it goes on when one comes.

        Args:
            deployment: Which one.
            run_id: An id of your own, ``drun_`` and letters or digits, to run at most once for something.
            owner: Whose; by default the runtime's.

        Raises:
            DeploymentArchivedError: It has no runs any more.
            DeploymentExistsError: The id of the run is taken.
            DeploymentNotFoundError: There is none, or it is another owner's.
        """
        stored = await self._schedules.stored(*self._deployment(deployment, owner))
        return await self._runs.start(stored, run_id=check_run_id(run_id) if run_id is not None else None)

    async def get_deployment_run(self, run_id: DeploymentRunId | str, *, owner: Owner | None = None) -> DeploymentRun:
        """One run. Needs no worker.

        Raises:
            DeploymentRunNotFoundError: There is none, it is another owner's, or it is over for longer than the
                namespace keeps what is over.
        """
        return await self._runs.get(DeploymentRunId(run_id), owner or self.owner)

    async def list_deployment_runs(
        self,
        *,
        deployment: AnyDeployment | None = None,
        has_error: bool | None = None,
        trigger: TriggerType | None = None,
        created: CreatedRange = ALWAYS,
        limit: int = 20,
        page: str | None = None,
        owner: Owner | None = None,
    ) -> Page[DeploymentRun]:
        """Runs of all the owner's deployments or of one, newest first, as long as the namespace keeps what is over.

        Raises:
            InvalidRequestError: The limit or the cursor is none.
        """
        id = self._deployment(deployment, None)[0] if deployment is not None else None
        wanted = RunFilter(id, has_error, trigger, created)
        return await self._runs.page(wanted, owner=owner or self.owner, limit=limit, cursor=page)

    def _deployment(self, deployment: AnyDeployment, owner: Owner | None) -> tuple[DeploymentId, Owner]:
        if isinstance(deployment, Deployment):
            return deployment.id, owner or deployment.owner
        return DeploymentId(deployment), owner or self.owner
