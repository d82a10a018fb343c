"""What the runtime tells of sessions without a worker: one, with its agent, or a list of them."""

from collections.abc import Iterable

from temporalio.client import Client

from sojourn.client.archived import SessionFilter
from sojourn.client.handle import SessionHandle
from sojourn.client.listing import ALWAYS, CreatedRange, Page
from sojourn.client.ordering import Order
from sojourn.client.registry import Agent, AgentRegistry
from sojourn.client.session import SessionStore
from sojourn.types.id import DeploymentId, EnvironmentId, SessionId
from sojourn.types.session import Owner, SessionInfo, SessionSnapshot, SessionStatus

Session = SessionHandle | SessionId | str


class SessionReads(AgentRegistry):
    """Finds sessions of an owner. All of it is read from the server and the archive."""

    def __init__(self, client: Client, *, owner: Owner, task_queue: str, sessions: SessionStore) -> None:
        super().__init__(client, owner=owner, task_queue=task_queue)
        self._sessions = sessions

    async def get_session(self, session: Session, *, owner: Owner | None = None) -> SessionInfo:
        """What lists show of one session. Needs no worker.

        Raises:
            SessionNotFoundError: There is none, or it is another owner's.
        """
        return await self._sessions.info(*self._session(session, owner))

    async def session_snapshot(self, session: Session, *, owner: Owner | None = None) -> SessionSnapshot:
        """One session with the agent that it runs now. Needs no worker.

        Raises:
            CheckpointError: The server has forgotten its last run, and it is not in the archive.
            SessionNotFoundError: There is none, or it is another owner's.
        """
        return await self._sessions.snapshot(*self._session(session, owner))

    async def list_session_snapshots(
        self, wanted: SessionFilter, *, order: Order = "desc", limit: int = 20, page: str | None = None
    ) -> Page[SessionSnapshot]:
        """Sessions by the time of their creation, each with the agent that it runs; pages lead on and back.

        Those that only the archive has count as older than all others, and come by their end. A session that is deleted
        meanwhile is left out, so a page may be short of the limit and not be the last.

        Args:
            wanted: Which, and whose.
            order: ``desc`` begins with the newest.
            limit: Entries on a page, 1 to 1000.
            page: ``next_page`` or ``prev_page`` of a page in the same order.

        Raises:
            CheckpointError: The server has forgotten the last run of one, and it is not in the archive.
            InvalidRequestError: The limit or the cursor is none, or the cursor is of a list in the other order.
        """
        return await self._sessions.snapshots(wanted, order=order, limit=limit, cursor=page)

    async def list_sessions(
        self,
        *,
        agent: Agent | None = None,
        agent_version: int | None = None,
        deployment_id: DeploymentId | str | None = None,
        environment_id: EnvironmentId | str | None = None,
        statuses: Iterable[SessionStatus] = (),
        stop_reason: str | None = None,
        user: str | None = None,
        every_user: bool = False,
        created: CreatedRange | None = None,
        include_archived: bool = True,
        limit: int = 20,
        page: str | None = None,
        owner: Owner | None = None,
    ) -> Page[SessionInfo]:
        """Sessions, newest first.

        Args:
            agent: Only those of this agent.
            agent_version: Only those of this version of the agent.
            deployment_id: Only those that this deployment started.
            environment_id: Only those in this environment.
            statuses: Only those with one of these statuses; none means all.
            stop_reason: Only those with this stop reason, such as ``requires_action``.
            user: Only those of this user of the workspace; by default the owner's.
            every_user: Those of all users of the workspace, for operators.
            created: Only those that were created in this range.
            include_archived: Whether those that were archived are there too.
            limit: Entries on a page, 1 to 1000.
            page: Cursor from the page before.
            owner: Whose workspace, and whose sessions; by default the runtime's.

        Raises:
            InvalidRequestError: The limit or the cursor is none.
        """
        owner = owner or self.owner
        wanted = SessionFilter(
            workspace=owner.workspace,
            user=None if every_user else user or owner.user,
            agent_id=self._agent(agent, None)[0] if agent is not None else None,
            agent_version=agent_version,
            deployment_id=DeploymentId(deployment_id) if deployment_id is not None else None,
            environment_id=EnvironmentId(environment_id) if environment_id is not None else None,
            statuses=list(statuses),
            stop_reason=stop_reason,
            created=created or ALWAYS,
            include_archived=include_archived,
        )
        return await self._sessions.page(wanted, limit=limit, cursor=page)

    def _session(self, session: Session, owner: Owner | None) -> tuple[SessionId, Owner]:
        if isinstance(session, SessionHandle):
            return session.id, owner or session.owner
        return SessionId(session), owner or self.owner
