"""What can be done to a session beside talking to it: it can be held, changed, ended, exported and deleted."""

from sojourn.client.reading import Session
from sojourn.client.resource_registry import ResourceRegistry
from sojourn.types.export import ExportResult
from sojourn.types.name import ARCHIVE_UPDATE, PAUSE_UPDATE, RESUME_UPDATE, UPDATE_SESSION_UPDATE
from sojourn.types.session import ArchiveInput, Owner, UpdateSessionInput


class SessionControl(ResourceRegistry):
    """Controls sessions of an owner. All of it can be refused, and but for the deletion needs a worker."""

    async def pause(self, session: Session, *, owner: Owner | None = None) -> None:
        """Hold before the next step; what runs finishes and is kept.

        Raises:
            ConflictError: The session is not running or idle.
        """
        await self._sessions.control(*self._session(session, owner), PAUSE_UPDATE)

    async def resume(self, session: Session, *, owner: Owner | None = None) -> None:
        """Let a paused session go on.

        Raises:
            ConflictError: The session is not paused.
        """
        await self._sessions.control(*self._session(session, owner), RESUME_UPDATE)

    async def archive(self, session: Session, *, only_if_idle: bool = False, owner: Owner | None = None) -> None:
        """End the session for good; its log stays readable.

        Args:
            session: Which session.
            only_if_idle: Refuse while a turn is in progress or about to begin. By default such a turn is ended.
            owner: Whose; by default the handle's or the runtime's.

        Raises:
            SessionClosedError: It has ended already.
            SessionStateError: It is running, and is to be archived only while idle.
        """
        how = ArchiveInput(only_if_idle=True) if only_if_idle else None
        await self._sessions.control(*self._session(session, owner), ARCHIVE_UPDATE, how)

    async def update_session(self, session: Session, change: UpdateSessionInput, *, owner: Owner | None = None) -> None:
        """Change title, metadata, budget or whether permissions are skipped, or between turns the agent's snapshot.

        A budget that is raised or removed lets a session go on by itself that has used it up.

        Raises:
            ConflictError: The session has ended, or a turn is in progress and the agent was to change.
            InvalidRequestError: The budget cannot become that; ``code`` is ``budget_not_raised`` where the session has
                cost as much already, ``budget_create_only`` where it has no budget, ``model_not_budgetable`` where
                nobody knows what it has cost.
        """
        await self._sessions.control(*self._session(session, owner), UPDATE_SESSION_UPDATE, change)

    async def export_session(self, session: Session, *, owner: Owner | None = None) -> ExportResult:
        """Write closed runs to the archive now, and wait a minute at most.

        Sessions see to it themselves, but for those that were ended from outside or under an earlier release.

        Raises:
            InternalError: It has not succeeded yet; it goes on by itself.
            ServerNotReadyError: The worker has no object store.
            SessionNotFoundError: There is none, or it is another owner's.
            WorkerUnavailableError: No worker serves the task queue.
        """
        return await self._sessions.export(*self._session(session, owner))

    async def delete_session(self, session: Session, *, only_if_idle: bool = False, owner: Owner | None = None) -> None:
        """Remove the session and everything stored about it, exported parts included.

        Args:
            session: Which session.
            only_if_idle: Refuse while a turn is in progress; needs a worker. By default it goes, whatever it is doing.
            owner: Whose; by default the handle's or the runtime's.

        Raises:
            SessionStateError: It is running, and is to be deleted only while idle.
            InvalidRequestError: Parts are in an object store that this client was not told of. Nothing was deleted.
            SessionNotFoundError: There is none, or it is another owner's, or it was deleted before.
        """
        await self._sessions.delete(*self._session(session, owner), only_if_idle=only_if_idle)
