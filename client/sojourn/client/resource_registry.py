"""The session resources' part of `AgentRuntime`."""

from sojourn.client.file_registry import FileRegistry
from sojourn.client.reading import Session
from sojourn.client.resource import ResourceStore
from sojourn.types.id import ResourceId
from sojourn.types.resource import Resource, ResourceMount
from sojourn.types.session import Owner


class ResourceRegistry(FileRegistry):
    """Mounts files and repositories into sessions, while they run too. The next call in the workspace sees them."""

    _resources: ResourceStore

    async def list_resources(self, session: Session, *, owner: Owner | None = None) -> tuple[Resource, ...]:
        """What is mounted into the session, in the order of mounting. Needs no worker.

        Raises:
            SessionNotFoundError: There is none, or it is another owner's.
        """
        return await self._resources.list(*self._session(session, owner))

    async def get_resource(
        self, session: Session, resource: ResourceId | str, *, owner: Owner | None = None
    ) -> Resource:
        """One of them. Needs no worker.

        Raises:
            ResourceMissingError: Nothing with this id is mounted.
            SessionNotFoundError: There is none, or it is another owner's.
        """
        return await self._resources.get(*self._session(session, owner), resource)

    async def add_resource(self, session: Session, mount: ResourceMount, *, owner: Owner | None = None) -> Resource:
        """Mount a file or a repository. A session has up to 500.

        Raises:
            FileStoreMissingError: This process has no object store.
            InvalidRequestError: The file is unknown, the place is taken, or there is no key to seal the token with.
            SessionClosedError: The session has ended.
            SessionNotFoundError: There is none, or it is another owner's.
            WorkerUnavailableError: No worker took it in time.
        """
        return await self._resources.add(*self._session(session, owner), mount)

    async def rotate_resource(
        self, session: Session, resource: ResourceId | str, authorization_token: str, *, owner: Owner | None = None
    ) -> Resource:
        """Use another token for a repository from now on. What was cloned stays.

        Raises:
            InvalidRequestError: It is no repository, or there is no key to seal the token with.
            ResourceMissingError: Nothing with this id is mounted.
            SessionClosedError: The session has ended.
            SessionNotFoundError: There is none, or it is another owner's.
            WorkerUnavailableError: No worker took it in time.
        """
        return await self._resources.rotate(*self._session(session, owner), resource, authorization_token)

    async def remove_resource(
        self, session: Session, resource: ResourceId | str, *, owner: Owner | None = None
    ) -> None:
        """Unmount a file or a repository, and remove the session's copy. What the agent has changed stays.

        Raises:
            ResourceMissingError: Nothing with this id is mounted.
            SessionClosedError: The session has ended.
            SessionNotFoundError: There is none, or it is another owner's.
            WorkerUnavailableError: No worker took it in time.
        """
        await self._resources.remove(*self._session(session, owner), resource)
