"""Agents: versioned definitions, kept by one workflow each and read from its history."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from sojourn.client.failure import translated
from sojourn.client.listing import ALWAYS, CreatedRange, Page, condition, list_workflows
from sojourn.client.update import execute_update
from sojourn.client.validation import check_readable
from sojourn.types.agent import AgentDefinition, AgentInfo, AgentInput, AgentVersion, UpdateAgentInput
from sojourn.types.described import attribute, created_at, memo
from sojourn.types.error import AgentExistsError, AgentNotFoundError
from sojourn.types.id import AgentId, new_agent_id, workflow_id
from sojourn.types.name import (
    AGENT_NAME_MEMO,
    AGENT_VERSION_MEMO,
    AGENT_WORKFLOW,
    ARCHIVE_AGENT_UPDATE,
    STATUS_ATTRIBUTE,
    UPDATE_AGENT_UPDATE,
    WORKSPACE_ATTRIBUTE,
)

# An agent's workflow begins a new run after thousands of changes only.
_STARTED = SearchAttributeKey.for_datetime("StartTime")


class AgentStore:
    """Reads and writes agents. Reading needs no worker; updating and archiving do."""

    def __init__(self, client: Client, *, task_queue: str) -> None:
        self._client = client
        self._task_queue = task_queue
        self._address = client.service_client.config.target_host

    async def create(
        self, definition: AgentDefinition, *, workspace: str, agent_id: AgentId | None = None
    ) -> AgentVersion:
        """Store version 1 of a new agent.

        Raises:
            AgentExistsError: The id is taken.
            InvalidRequestError: The definition cannot be stored and read again, or is too large.
        """
        agent_id = agent_id or new_agent_id()
        input = AgentInput(agent_id=agent_id, workspace=workspace, definition=definition)
        await check_readable(self._client, input)
        with translated(self._address, taken=AgentExistsError(agent_id)):
            await self._client.start_workflow(
                AGENT_WORKFLOW,
                input,
                id=workflow_id(workspace, agent_id),
                task_queue=self._task_queue,
                search_attributes=TypedSearchAttributes(
                    [
                        SearchAttributePair(WORKSPACE_ATTRIBUTE, workspace),
                        SearchAttributePair(STATUS_ATTRIBUTE, "active"),
                    ]
                ),
                memo={AGENT_NAME_MEMO: definition.name, AGENT_VERSION_MEMO: 1},
                static_summary=f"agent {definition.name}",
            )
        return AgentVersion(id=agent_id, version=1, definition=definition, created_at=datetime.now(UTC))

    async def versions(self, agent_id: AgentId, *, workspace: str) -> list[AgentVersion]:
        """All versions, newest first.

        Raises:
            AgentNotFoundError: There is no such agent in the workspace.
        """
        fold = _VersionFold(self._client, agent_id)
        with translated(self._address, missing=AgentNotFoundError(agent_id)):
            async for event in self._history(workflow_id(workspace, agent_id)):
                await fold.feed(event)
        return fold.versions

    async def get(self, agent_id: AgentId, *, workspace: str, version: int | None = None) -> AgentVersion:
        """One version, the latest by default.

        Raises:
            AgentNotFoundError: There is no such agent, or no such version of it, in the workspace.
        """
        versions = await self.versions(agent_id, workspace=workspace)
        if version is None:
            return versions[0]
        found = next((each for each in versions if each.version == version), None)
        if found is None:
            raise AgentNotFoundError(agent_id, version=version)
        return found

    async def update(
        self, agent_id: AgentId, definition: AgentDefinition, *, workspace: str, version: int | None
    ) -> AgentVersion:
        """Store a new version; one that differs in nothing stays the same version.

        Raises:
            AgentArchivedError: It takes no new versions.
            AgentNotFoundError: There is no such agent in the workspace.
            VersionConflictError: The agent is at another version than ``version``.
        """
        change = UpdateAgentInput(definition=definition, version=version)
        await check_readable(self._client, change)
        now = await execute_update(
            self._client,
            workflow_id(workspace, agent_id),
            UPDATE_AGENT_UPDATE,
            change,
            result=int,
            missing=AgentNotFoundError(agent_id),
            task_queue=self._task_queue,
        )
        return await self.get(agent_id, workspace=workspace, version=now)

    async def archive(self, agent_id: AgentId, *, workspace: str) -> None:
        """Refuse new sessions and versions; sessions that run go on.

        Raises:
            AgentNotFoundError: There is no such agent in the workspace.
        """
        await execute_update(
            self._client,
            workflow_id(workspace, agent_id),
            ARCHIVE_AGENT_UPDATE,
            result=None,
            missing=AgentNotFoundError(agent_id),
            task_queue=self._task_queue,
        )

    async def page(
        self,
        *,
        workspace: str,
        include_archived: bool,
        limit: int,
        cursor: str | None,
        created: CreatedRange = ALWAYS,
    ) -> Page[AgentInfo]:
        """Agents of a workspace, newest first."""
        query = condition(
            {
                "WorkflowType": AGENT_WORKFLOW,
                "ExecutionStatus": "Running",
                WORKSPACE_ATTRIBUTE: workspace,
                STATUS_ATTRIBUTE: None if include_archived else "active",
            }
        )
        query = " AND ".join([query, *created.conditions(_STARTED)])
        with translated(self._address):
            found, next_page = await list_workflows(self._client, query, limit=limit, page=cursor)
        agents = [
            AgentInfo(
                id=AgentId(info.execution.workflow_id.rpartition("/")[2]),
                name=await memo(self._client, info, AGENT_NAME_MEMO, str) or "",
                version=await memo(self._client, info, AGENT_VERSION_MEMO, int) or 1,
                created_at=await created_at(self._client, info),
                archived=attribute(info, STATUS_ATTRIBUTE) == "archived",
            )
            for info in found
        ]
        return Page(agents, next_page)

    async def _history(self, workflow_id: str) -> AsyncGenerator[HistoryEvent, None]:
        """The history of all runs, oldest first."""
        runs: list[list[HistoryEvent]] = []
        run_id: str | None = None
        while True:
            handle = self._client.get_workflow_handle(workflow_id, run_id=run_id)
            events = [event async for event in handle.fetch_history_events(skip_archival=True)]
            runs.append(events)
            run_id = events[0].workflow_execution_started_event_attributes.continued_execution_run_id
            if not run_id:
                break
        for events in reversed(runs):
            for event in events:
                yield event


class _VersionFold:
    """Versions out of history events: the first is the input, each accepted update that differs is one more."""

    def __init__(self, client: Client, agent_id: AgentId) -> None:
        self._converter = client.data_converter
        self._agent_id = agent_id
        self._versions: list[AgentVersion] = []
        self._archived_at: datetime | None = None

    @property
    def versions(self) -> list[AgentVersion]:
        """What has been found, newest first."""
        return [each.model_copy(update={"archived_at": self._archived_at}) for each in reversed(self._versions)]

    async def feed(self, event: HistoryEvent) -> None:
        """Take the next event."""
        at = event.event_time.ToDatetime(tzinfo=UTC)
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED and not self._versions:
            attributes = event.workflow_execution_started_event_attributes
            if attributes.workflow_type.name != AGENT_WORKFLOW:
                raise AgentNotFoundError(self._agent_id)
            payloads = attributes.input.payloads
            started = (await self._converter.decode(payloads, [AgentInput]))[0]
            self._add(started.definition, at)
        elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
            request = event.workflow_execution_update_accepted_event_attributes.accepted_request
            if request.input.name == ARCHIVE_AGENT_UPDATE:
                self._archived_at = self._archived_at or at
            elif request.input.name == UPDATE_AGENT_UPDATE:
                change = (await self._converter.decode(request.input.args.payloads, [UpdateAgentInput]))[0]
                self._add(change.definition, at)

    def _add(self, definition: AgentDefinition, at: datetime) -> None:
        if not self._versions or self._versions[-1].definition != definition:
            number = len(self._versions) + 1
            self._versions.append(AgentVersion(id=self._agent_id, version=number, definition=definition, created_at=at))
