"""The environments' part of `AgentRuntime`."""

from sojourn.client.environment import EnvironmentStore
from sojourn.client.listing import Page
from sojourn.types.environment import Environment, EnvironmentChange, EnvironmentDefinition
from sojourn.types.id import EnvironmentId
from sojourn.types.session import Owner

EnvironmentLike = Environment | EnvironmentId | str


class EnvironmentRegistry:
    """Creates, changes and lists environments. They belong to the whole workspace."""

    owner: Owner
    _environments: EnvironmentStore

    async def create_environment(
        self,
        definition: EnvironmentDefinition,
        *,
        environment_id: EnvironmentId | str | None = None,
        owner: Owner | None = None,
    ) -> Environment:
        """Store a new environment in the owner's workspace. Needs no worker.

        Args:
            definition: What it is.
            environment_id: An id of your own, to create at most one environment for something.
            owner: Whose workspace; by default the runtime's.

        Raises:
            EnvironmentExistsError: The id is taken.
            EnvironmentNameTakenError: Another environment of the workspace has the name.
        """
        id = EnvironmentId(environment_id) if environment_id is not None else None
        return await self._environments.create(definition, workspace=self._workspace(owner), environment_id=id)

    async def get_environment(self, environment: EnvironmentLike, *, owner: Owner | None = None) -> Environment:
        """An environment as it is now. Needs no worker.

        Raises:
            EnvironmentNotFoundError: There is none in the workspace.
        """
        return await self._environments.get(_id(environment), workspace=self._workspace(owner))

    async def update_environment(
        self, environment: EnvironmentLike, change: EnvironmentChange, *, owner: Owner | None = None
    ) -> Environment:
        """Change what the change names, for the sessions to come.

        Raises:
            EnvironmentArchivedError: It cannot change any more.
            EnvironmentNameTakenError: Another environment of the workspace has the new name.
            EnvironmentNotFoundError: There is none in the workspace.
            InvalidRequestError: The type of the config was to change, or the result would be none.
            WorkerUnavailableError: No worker took it in time.
        """
        return await self._environments.update(_id(environment), change, workspace=self._workspace(owner))

    async def archive_environment(self, environment: EnvironmentLike, *, owner: Owner | None = None) -> Environment:
        """Refuse new sessions in it; sessions that run go on, and its name is free. Repeating it changes nothing.

        Raises:
            EnvironmentNotFoundError: There is none in the workspace.
            WorkerUnavailableError: No worker took it in time.
        """
        return await self._environments.archive(_id(environment), workspace=self._workspace(owner))

    async def delete_environment(self, environment: EnvironmentLike, *, owner: Owner | None = None) -> None:
        """Remove an environment that no session refers to. Takes about two seconds.

        Raises:
            EnvironmentInUseError: Sessions refer to it, ended ones included; nothing has changed.
            EnvironmentNotFoundError: There is none in the workspace, or it was deleted before.
            WorkerUnavailableError: No worker took it in time.
        """
        await self._environments.delete(_id(environment), workspace=self._workspace(owner))

    async def list_environments(
        self,
        *,
        include_archived: bool = False,
        limit: int = 20,
        page: str | None = None,
        owner: Owner | None = None,
    ) -> Page[Environment]:
        """Environments of the owner's workspace, newest first.

        Raises:
            InvalidRequestError: The limit or the cursor is none.
        """
        workspace = self._workspace(owner)
        return await self._environments.page(
            workspace=workspace, include_archived=include_archived, limit=limit, cursor=page
        )

    async def _admitted(self, environment: EnvironmentLike | None, owner: Owner) -> Environment | None:
        """The environment, if a session may begin in it now; see `EnvironmentStore.admit`."""
        if environment is None:
            return None
        return await self._environments.admit(_id(environment), workspace=owner.workspace)

    def _workspace(self, owner: Owner | None) -> str:
        return (owner or self.owner).workspace


def _id(environment: EnvironmentLike) -> EnvironmentId:
    return environment.id if isinstance(environment, Environment) else EnvironmentId(environment)
