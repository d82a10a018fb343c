"""Deployments: agents that start sessions by a schedule or on request, each kept by one Temporal Schedule."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from temporalio.api.schedule.v1 import ScheduleListEntry
from temporalio.api.workflowservice.v1 import ListSchedulesRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from sojourn.client.agent import AgentStore
from sojourn.client.environment import EnvironmentStore
from sojourn.client.failure import translated
from sojourn.client.listing import ALWAYS, CreatedRange, Page, check_limit, condition
from sojourn.client.validation import check_budget, check_definition, check_events, check_readable
from sojourn.client.vault import VaultStore
from sojourn.types.agent import AgentVersion
from sojourn.types.error import (
    AgentArchivedError,
    DeploymentArchivedError,
    DeploymentExistsError,
    DeploymentNotFoundError,
    InvalidRequestError,
)
from sojourn.types.id import AgentId, DeploymentId, new_deployment_id
from sojourn.types.name import AGENT_ATTRIBUTE, CREATED_MEMO, STATUS_ATTRIBUTE, USER_ATTRIBUTE, WORKSPACE_ATTRIBUTE
from sojourn.types.schedule import (
    MAX_DEPLOYMENTS,
    AgentRef,
    Deployment,
    DeploymentChange,
    DeploymentDefinition,
    DeploymentRunInput,
    DeploymentStatus,
    InitialEvent,
    ManualPause,
    StoredDeployment,
)
from sojourn.types.scheduled import Scheduled, change_scheduled, create_scheduled, read_scheduled
from sojourn.types.session import Owner

_AT_A_TIME = 16
"""Schedules that are described side by side."""


@dataclass(frozen=True)
class DeploymentFilter:
    """Which deployments a list shows."""

    agent_id: AgentId | None = None
    status: DeploymentStatus | None = None
    """Leaves archived ones out."""
    include_archived: bool = False
    created: CreatedRange = ALWAYS

    def admits(self, deployment: Deployment) -> bool:
        """Whether a deployment is among them, whatever the list of the server said a second ago."""
        return (
            self.agent_id in (None, deployment.agent.id)
            and self.status in (None, deployment.status)
            and (self.include_archived or deployment.archived_at is None)
        )


@dataclass(frozen=True, order=True)
class _Entry:
    """A deployment as the server lists it."""

    created_at: datetime
    id: DeploymentId
    paused: bool = False

    @property
    def cursor(self) -> str:
        return f"{self.created_at.isoformat()}/{self.id}".encode().hex()


class ScheduleStore:
    """Reads and writes deployments. Needs no worker."""

    def __init__(
        self,
        client: Client,
        *,
        agents: AgentStore,
        environments: EnvironmentStore,
        vaults: VaultStore,
        task_queue: str,
    ) -> None:
        self._client = client
        self._agents = agents
        self._environments = environments
        self._vaults = vaults
        self._task_queue = task_queue
        self._address = client.service_client.config.target_host

    async def create(
        self, definition: DeploymentDefinition, *, owner: Owner, deployment_id: DeploymentId | None
    ) -> Deployment:
        """Store a new deployment."""
        agent = await self._agent(definition.agent, owner)
        if definition.environment_id is not None:
            await self._environments.admit(definition.environment_id, workspace=owner.workspace)
        await self._vaults.admit(definition.vault_ids, workspace=owner.workspace)
        await check_budget(agent.definition, definition.budget)
        now = datetime.now(UTC)
        stored = StoredDeployment(
            id=deployment_id or new_deployment_id(),
            owner=owner,
            name=definition.name,
            agent=agent,
            environment_id=definition.environment_id,
            initial_events=_checked(definition.initial_events),
            schedule=definition.schedule,
            budget=definition.budget,
            vault_ids=definition.vault_ids,
            description=definition.description or None,
            metadata=definition.metadata,
            created_at=now,
            updated_at=now,
        )
        await check_readable(self._client, DeploymentRunInput(deployment=stored))
        await self._check_room(owner.workspace)
        with translated(self._address):
            try:
                await create_scheduled(self._client, stored, task_queue=self._task_queue)
            except RPCError as error:
                if error.status is RPCStatusCode.ALREADY_EXISTS:
                    raise DeploymentExistsError(stored.id) from None
                raise _about_zone(error, stored) or error from None
        return (await self._read(stored.id, owner)).deployment()

    async def get(self, deployment_id: DeploymentId, owner: Owner) -> Deployment:
        """A deployment of this owner."""
        return (await self._read(deployment_id, owner)).deployment()

    async def stored(self, deployment_id: DeploymentId, owner: Owner) -> StoredDeployment:
        """What a run of it starts from."""
        return (await self._read(deployment_id, owner)).stored

    async def update(self, deployment_id: DeploymentId, change: DeploymentChange, owner: Owner) -> Deployment:
        """Change what the change names, for the runs to come; nothing is written if nothing differs."""
        agent = await self._agent(change.agent, owner) if change.agent is not None else None
        if change.environment_id is not None:
            await self._environments.admit(change.environment_id, workspace=owner.workspace)
        if change.vault_ids is not None:
            await self._vaults.admit(change.vault_ids, workspace=owner.workspace)
        if change.initial_events is not None:
            change = change.model_copy(update={"initial_events": _checked(change.initial_events)})
        wanted = change.applied((await self._read(deployment_id, owner)).stored, agent)
        await check_budget(wanted.agent.definition, wanted.budget)
        await check_readable(self._client, DeploymentRunInput(deployment=wanted))

        def apply(stored: StoredDeployment, paused: bool) -> tuple[StoredDeployment, bool]:
            return change.applied(stored, agent), paused

        return await self._change(deployment_id, owner, apply)

    async def pause(self, deployment_id: DeploymentId, owner: Owner) -> Deployment:
        """No runs by schedule until further notice. One that rests already keeps its reason."""

        def apply(stored: StoredDeployment, paused: bool) -> tuple[StoredDeployment, bool]:
            return (stored if paused else stored.model_copy(update={"paused_reason": ManualPause()})), True

        return await self._change(deployment_id, owner, apply)

    async def unpause(self, deployment_id: DeploymentId, owner: Owner) -> Deployment:
        """Runs by schedule again, from now on: those that were due meanwhile are left out."""

        def apply(stored: StoredDeployment, paused: bool) -> tuple[StoredDeployment, bool]:
            return stored.model_copy(update={"paused_reason": None}), False

        return await self._change(deployment_id, owner, apply)

    async def archive(self, deployment_id: DeploymentId, owner: Owner) -> Deployment:
        """No runs and no changes from now on. Repeating it changes nothing."""

        def apply(stored: StoredDeployment, paused: bool) -> tuple[StoredDeployment, bool]:
            return stored.model_copy(update={"archived_at": datetime.now(UTC), "paused_reason": None}), True

        try:
            return await self._change(deployment_id, owner, apply)
        except DeploymentArchivedError:
            return await self.get(deployment_id, owner)

    async def page(self, wanted: DeploymentFilter, *, owner: Owner, limit: int, cursor: str | None) -> Page[Deployment]:
        """Deployments of an owner, newest first."""
        check_limit(limit)
        before = _position(cursor)
        listed = await self._listed(
            owner.workspace,
            user=owner.user,
            agent_id=wanted.agent_id,
            statuses=None if wanted.include_archived else ("active", "paused"),
        )
        entries = [
            each
            for each in sorted(listed, reverse=True)
            if (before is None or (each.created_at, each.id) < before)
            and (wanted.status is None or each.paused == (wanted.status == "paused"))
            and wanted.created.admits(each.created_at)
        ]
        some = asyncio.Semaphore(_AT_A_TIME)

        async def one(entry: _Entry) -> Deployment | None:
            async with some:
                with suppress(DeploymentNotFoundError):
                    return await self.get(entry.id, owner)
            return None

        found = await asyncio.gather(*map(one, entries[:limit]))
        shown = [each for each in found if each is not None and wanted.admits(each)]
        return Page(shown, entries[limit - 1].cursor if len(entries) > limit else None)

    async def _change(
        self,
        deployment_id: DeploymentId,
        owner: Owner,
        apply: Callable[[StoredDeployment, bool], tuple[StoredDeployment, bool]],
    ) -> Deployment:
        def change(now: Scheduled) -> tuple[StoredDeployment, bool] | None:
            if now.stored.owner != owner:
                raise DeploymentNotFoundError(deployment_id)
            if now.stored.archived_at is not None:
                raise DeploymentArchivedError(deployment_id)
            stored, paused = apply(now.stored, now.paused)
            if (stored, paused) == (now.stored, now.paused):
                return None
            return stored.model_copy(update={"updated_at": datetime.now(UTC)}), paused

        with translated(self._address, missing=DeploymentNotFoundError(deployment_id)):
            try:
                return (await change_scheduled(self._client, owner.workspace, deployment_id, change)).deployment()
            except RPCError as error:
                raise _about_zone(error, None) or error from None

    async def _read(self, deployment_id: DeploymentId, owner: Owner) -> Scheduled:
        with translated(self._address, missing=DeploymentNotFoundError(deployment_id)):
            found = await read_scheduled(self._client, owner.workspace, deployment_id)
        if found.stored.owner != owner:
            raise DeploymentNotFoundError(deployment_id)
        return found

    async def _agent(self, wanted: AgentRef, owner: Owner) -> AgentVersion:
        found = await self._agents.get(wanted.id, workspace=owner.workspace, version=wanted.version)
        if found.archived_at is not None:
            raise AgentArchivedError(found.id)
        check_definition(found.definition)
        return found.model_copy(update={"created_at": None})

    async def _check_room(self, workspace: str) -> None:
        if len(await self._listed(workspace, statuses=("active", "paused"))) >= MAX_DEPLOYMENTS:
            text = f"workspace {workspace!r} has {MAX_DEPLOYMENTS:,} deployments, the most there can be; archive some"
            raise InvalidRequestError(text)

    async def _listed(
        self,
        workspace: str,
        *,
        user: str | None = None,
        agent_id: AgentId | None = None,
        statuses: tuple[str, ...] | None = None,
    ) -> list[_Entry]:
        """All of them: there are a thousand at most, and the server lists schedules in no order."""
        query = condition(
            {
                WORKSPACE_ATTRIBUTE: workspace,
                USER_ATTRIBUTE: user,
                AGENT_ATTRIBUTE: agent_id,
                STATUS_ATTRIBUTE: statuses,
            }
        )
        request = ListSchedulesRequest(namespace=self._client.namespace, maximum_page_size=1000, query=query)
        found: list[_Entry] = []
        with translated(self._address):
            while True:
                page = await self._client.workflow_service.list_schedules(request, retry=True)
                found += [await self._entry(each) for each in page.schedules]
                if not page.next_page_token:
                    return found
                request.next_page_token = page.next_page_token

    async def _entry(self, listed: ScheduleListEntry) -> _Entry:
        (created_at,) = await self._client.data_converter.decode([listed.memo.fields[CREATED_MEMO]], [datetime])
        return _Entry(created_at, DeploymentId(listed.schedule_id.rpartition("/")[2]), listed.info.paused)


def _checked(events: tuple[InitialEvent, ...]) -> tuple[InitialEvent, ...]:
    """The events without ids: each session gets them as its own."""
    clean = tuple(each.model_copy(update={"id": "", "seq": 0, "processed_at": None}) for each in events)
    check_events(clean, path="initial_events")
    return clean


def _about_zone(error: RPCError, stored: StoredDeployment | None) -> InvalidRequestError | None:
    """The server's word on a time zone, which only it knows."""
    if error.status is not RPCStatusCode.INVALID_ARGUMENT or "time zone" not in error.message:
        return None
    named = repr(stored.schedule.timezone) if stored and stored.schedule else error.message.rpartition(" ")[2]
    text = f"schedule.timezone: {named} is unknown; use an IANA name such as Europe/Berlin or UTC"
    return InvalidRequestError(text, param="schedule.timezone")


def _position(cursor: str | None) -> tuple[datetime, str] | None:
    """The last entry of the page before."""
    if cursor is None:
        return None
    try:
        at, _, id = bytes.fromhex(cursor).decode().partition("/")
        return datetime.fromisoformat(at), id
    except ValueError:
        text = f"page {cursor!r} is no cursor of ours; use next_page of a list"
        raise InvalidRequestError(text, param="page") from None
