"""`/v1/sessions` (Managed Agents API §1.3)."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from sojourn.client import CreatedRange, SessionFilter
from sojourn.gateway.endpoint import Call, Endpoint
from sojourn.gateway.idempotency import Creation, create_once
from sojourn.gateway.wire.agent import VersionNumber
from sojourn.gateway.wire.session import (
    AgentReference,
    CreateSession,
    DeletedSession,
    Id,
    Session,
    SessionPage,
    UpdateSession,
    WireStatus,
    changed_agent,
    overridden,
    own_statuses,
    replaced_lists,
    wire_session,
)
from sojourn.types import (
    AgentArchivedError,
    AgentId,
    AgentVersion,
    InvalidRequestError,
    SessionExistsError,
    SessionSnapshot,
    SessionStatus,
    UpdateSessionInput,
)
from sojourn.types.id import DeploymentId
from sojourn.types.wire import Wire


class SessionsQuery(Wire):
    """Which sessions."""

    agent_id: Id | None = None
    agent_version: VersionNumber | None = None
    deployment_id: Id | None = None
    memory_store_id: Id | None = None
    statuses: tuple[WireStatus, ...] = ()
    created_after: Annotated[datetime | None, Field(alias="created_at[gt]")] = None
    created_since: Annotated[datetime | None, Field(alias="created_at[gte]")] = None
    created_before: Annotated[datetime | None, Field(alias="created_at[lt]")] = None
    created_until: Annotated[datetime | None, Field(alias="created_at[lte]")] = None
    include_archived: bool = False
    order: Literal["asc", "desc"] = "desc"
    limit: int = Field(default=20, ge=1, le=100)
    page: str | None = None

    @property
    def created(self) -> CreatedRange:
        """The range of creation times."""
        return CreatedRange(
            gt=self.created_after, gte=self.created_since, lt=self.created_before, lte=self.created_until
        )


async def create(call: Call[CreateSession, None]) -> Session:
    body = call.body
    agent = await _wanted_agent(call)

    async def make(id: str) -> SessionSnapshot:
        session = await call.runtime.start_session(
            agent,
            owner=call.owner,
            session_id=id,
            environment_id=body.environment_id,
            title=body.title,
            metadata=body.metadata,
            budget=body.budget.stored() if body.budget else None,
            vault_ids=body.vault_ids or (),
            resources=body.resources or (),
            interactive=body.interactive,
            skip_permissions=body.skip_permissions,
            # The wire has refused every other kind.
            initial_events=[event.stored() for event in body.initial_events if event.type == "user.message"],
        )
        return await call.runtime.session_snapshot(session)

    async def find(id: str) -> SessionSnapshot:
        return await call.runtime.session_snapshot(id, owner=call.owner)

    def same(found: SessionSnapshot) -> bool:
        return (found.info.agent_id, found.info.environment_id) == (agent.id, body.environment_id)

    made = await create_once(call, Creation("sesn_", make, find, SessionExistsError, same))
    return wire_session(made, call.models)


async def _wanted_agent(call: Call[CreateSession, None]) -> AgentVersion:
    wanted = call.body.agent
    if isinstance(wanted, str):
        wanted = AgentReference(type="agent", id=wanted)
    version = await call.runtime.get_agent(wanted.id, version=wanted.version, owner=call.owner)
    if version.archived_at is not None:
        raise AgentArchivedError(version.id)
    return version if isinstance(wanted, AgentReference) else overridden(version, wanted, call.models)


async def retrieve(call: Call[None, None]) -> Session:
    found = await call.runtime.session_snapshot(call.path["session_id"], owner=call.owner)
    return wire_session(found, call.models)


async def list_sessions(call: Call[None, SessionsQuery]) -> SessionPage:
    query = call.query
    if query.agent_version is not None and query.agent_id is None:
        raise InvalidRequestError("agent_version: needs agent_id", param="agent_version")
    if query.memory_store_id is not None:
        # There are no memory stores yet, so no session has one.
        return SessionPage(data=(), next_page=None, prev_page=None)
    wanted = SessionFilter(
        workspace=call.owner.workspace,
        user=call.owner.user,
        agent_id=AgentId(query.agent_id) if query.agent_id else None,
        agent_version=query.agent_version,
        deployment_id=DeploymentId(query.deployment_id) if query.deployment_id else None,
        statuses=own_statuses(query.statuses),
        created=query.created,
        include_archived=query.include_archived,
    )
    found = await call.runtime.list_session_snapshots(
        wanted, order=query.order, limit=query.limit, page=query.page or None
    )
    return SessionPage(
        data=tuple(wire_session(each, call.models) for each in found.data),
        next_page=found.next_page,
        prev_page=found.prev_page,
    )


async def update(call: Call[UpdateSession, None]) -> Session:
    id, body = call.path["session_id"], call.body
    if "vault_ids" in body.model_fields_set:
        raise InvalidRequestError("vault_ids: cannot be changed; leave it out", param="vault_ids")
    now = await call.runtime.session_snapshot(id, owner=call.owner)
    change = _change(body, now)
    if change != UpdateSessionInput():
        await call.runtime.update_session(id, change, owner=call.owner)
        now = await call.runtime.session_snapshot(id, owner=call.owner)
    return wire_session(now, call.models)


def _change(body: UpdateSession, now: SessionSnapshot) -> UpdateSessionInput:
    given = body.model_fields_set
    metadata: dict[str, str | None] | None = None
    if "metadata" in given:
        metadata = dict.fromkeys(now.info.metadata) if body.metadata is None else dict(body.metadata)
    return UpdateSessionInput(
        title=(body.title or "") if "title" in given else None,
        metadata=metadata,
        agent=_changed_agent(body, now.agent),
        budget=body.budget.stored() if body.budget else None,
        skip_permissions=body.skip_permissions,
        remove_budget="budget" in given and body.budget is None and now.info.account.budget is not None,
    )


def _changed_agent(body: UpdateSession, now: AgentVersion) -> AgentVersion | None:
    lists = replaced_lists(body.agent, "tools", "mcp_servers") if body.agent else {}
    return changed_agent(now, lists) if lists else None


async def archive(call: Call[None, None]) -> Session:
    id = call.path["session_id"]
    now = await call.runtime.session_snapshot(id, owner=call.owner)
    if now.info.status is not SessionStatus.ARCHIVED:
        await call.runtime.archive(id, only_if_idle=True, owner=call.owner)
        now = await call.runtime.session_snapshot(id, owner=call.owner)
    return wire_session(now, call.models)


async def delete(call: Call[None, None]) -> DeletedSession:
    id = call.path["session_id"]
    await call.runtime.delete_session(id, only_if_idle=True, owner=call.owner)
    return DeletedSession(id=id)


async def pause(call: Call[None, None]) -> Session:
    await call.runtime.pause(call.path["session_id"], owner=call.owner)
    return await retrieve(call)


async def resume(call: Call[None, None]) -> Session:
    await call.runtime.resume(call.path["session_id"], owner=call.owner)
    return await retrieve(call)


_ALL = "/v1/sessions"
_ONE = "/v1/sessions/{session_id}"

ENDPOINTS = (
    Endpoint("POST", _ALL, "sessions.create", create, "write", "Start a session", CreateSession, reply=Session),
    Endpoint("GET", _ALL, "sessions.list", list_sessions, "read", "List sessions", None, SessionsQuery, SessionPage),
    Endpoint("GET", _ONE, "sessions.retrieve", retrieve, "read", "Get a session", reply=Session, for_workers=True),
    Endpoint("POST", _ONE, "sessions.update", update, "write", "Change a session", UpdateSession, reply=Session),
    Endpoint("DELETE", _ONE, "sessions.delete", delete, "control", "Delete a session", reply=DeletedSession),
    Endpoint("POST", f"{_ONE}/archive", "sessions.archive", archive, "control", "End a session", reply=Session),
    Endpoint("POST", f"{_ONE}/pause", "sessions.pause", pause, "write", "Hold a session", reply=Session),
    Endpoint("POST", f"{_ONE}/resume", "sessions.resume", resume, "write", "Let a session go on", reply=Session),
)
