"""The agents' part of `AgentRuntime`."""

from temporalio.client import Client

from sojourn.client.agent import AgentStore
from sojourn.client.handle import AgentHandle
from sojourn.client.listing import ALWAYS, CreatedRange, Page
from sojourn.client.validation import check_agent_id
from sojourn.types.agent import AgentDefinition, AgentInfo, AgentVersion
from sojourn.types.id import AgentId
from sojourn.types.session import Owner

Agent = AgentHandle | AgentVersion | AgentId | str


class AgentRegistry:
    """Creates, versions and lists agents."""

    def __init__(self, client: Client, *, owner: Owner, task_queue: str) -> None:
        self.owner = owner
        """Who owns what is made without naming an owner."""
        self._agents = AgentStore(client, task_queue=task_queue)

    async def create(
        self, definition: AgentDefinition, *, owner: Owner | None = None, agent_id: AgentId | str | None = None
    ) -> AgentHandle:
        """Store a new agent in the owner's workspace, as version 1.

        Args:
            definition: What the agent is.
            owner: Whose; by default the runtime's.
            agent_id: An id of your own, which begins with ``agent_``, to make at most one agent for something.

        Raises:
            AgentExistsError: The id is taken.
            InvalidRequestError: The definition cannot be stored, or the id is none.
        """
        owner = owner or self.owner
        chosen = check_agent_id(agent_id) if agent_id is not None else None
        made = await self._agents.create(definition, workspace=owner.workspace, agent_id=chosen)
        return AgentHandle(self, made.id, owner)

    def agent(self, agent_id: AgentId | str, *, owner: Owner | None = None) -> AgentHandle:
        """A handle on an agent that exists; nothing is looked up."""
        return AgentHandle(self, AgentId(agent_id), owner or self.owner)

    async def get_agent(self, agent: Agent, *, version: int | None = None, owner: Owner | None = None) -> AgentVersion:
        """One version of an agent, the latest by default.

        Raises:
            AgentNotFoundError: There is no such agent, or no such version of it, in the workspace.
        """
        agent_id, owner = self._agent(agent, owner)
        return await self._agents.get(agent_id, workspace=owner.workspace, version=version)

    async def agent_versions(self, agent: Agent, *, owner: Owner | None = None) -> list[AgentVersion]:
        """All versions, newest first.

        Raises:
            AgentNotFoundError: There is no such agent in the workspace.
        """
        agent_id, owner = self._agent(agent, owner)
        return await self._agents.versions(agent_id, workspace=owner.workspace)

    async def update_agent(
        self, agent: Agent, definition: AgentDefinition, *, version: int | None = None, owner: Owner | None = None
    ) -> AgentVersion:
        """Store a new version; one that differs in nothing stays the same version. Running sessions keep theirs.

        Args:
            agent: Which agent.
            definition: The whole new definition.
            version: The version that was read before; another one by now is refused. ``None``: last write wins.
            owner: Whose; by default the handle's or the runtime's.

        Raises:
            AgentArchivedError: It takes no new versions.
            AgentNotFoundError: There is no such agent in the workspace.
            VersionConflictError: Somebody else was faster.
            WorkerUnavailableError: No worker took it in time.
        """
        agent_id, owner = self._agent(agent, owner)
        return await self._agents.update(agent_id, definition, workspace=owner.workspace, version=version)

    async def archive_agent(self, agent: Agent, *, owner: Owner | None = None) -> None:
        """Refuse new sessions and versions of the agent; sessions that run go on.

        Raises:
            AgentNotFoundError: There is no such agent in the workspace.
            WorkerUnavailableError: No worker took it in time.
        """
        agent_id, owner = self._agent(agent, owner)
        await self._agents.archive(agent_id, workspace=owner.workspace)

    async def list_agents(
        self,
        *,
        include_archived: bool = False,
        limit: int = 20,
        page: str | None = None,
        created: CreatedRange = ALWAYS,
        owner: Owner | None = None,
    ) -> Page[AgentInfo]:
        """Agents of the owner's workspace, newest first.

        Args:
            include_archived: Also those that take no new sessions.
            limit: Entries on a page, 1 to 1000.
            page: Cursor from the page before.
            created: Only those created in this time.
            owner: Whose workspace; by default the runtime's.

        Raises:
            InvalidRequestError: The limit or the cursor is none.
        """
        workspace = (owner or self.owner).workspace
        return await self._agents.page(
            workspace=workspace, include_archived=include_archived, limit=limit, cursor=page, created=created
        )

    def _agent(self, agent: Agent, owner: Owner | None) -> tuple[AgentId, Owner]:
        if isinstance(agent, AgentHandle):
            return agent.id, owner or agent.owner
        return AgentId(agent.id if isinstance(agent, AgentVersion) else agent), owner or self.owner
