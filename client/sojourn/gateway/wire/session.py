"""Sessions on the wire (Managed Agents API §1.3)."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from sojourn.gateway.wire.account import BudgetLimit, wire_budget, wire_usage
from sojourn.gateway.wire.agent import AgentSnapshot, MetadataPatch, System, VersionNumber, snapshot
from sojourn.gateway.wire.fault import NotYet
from sojourn.gateway.wire.model import ModelField, ModelNames
from sojourn.gateway.wire.resource import Mounts, WireResource, wire_resource
from sojourn.gateway.wire.send import InitialEvent
from sojourn.gateway.wire.tool import Servers, Skills, Tools, check_tools
from sojourn.gateway.wire.usage import CumulativeUsage
from sojourn.types import AgentDefinition, AgentVersion, InvalidRequestError, SessionSnapshot, SessionStatus
from sojourn.types.session import Title
from sojourn.types.vault import MAX_VAULTS
from sojourn.types.wire import Metadata, Wire

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]

WireStatus = Literal["idle", "running", "rescheduling", "terminated"]

_STATUSES: dict[SessionStatus, WireStatus] = {
    SessionStatus.QUEUED: "idle",
    SessionStatus.RUNNING: "running",
    SessionStatus.IDLE: "idle",
    SessionStatus.RESCHEDULING: "rescheduling",
    SessionStatus.PAUSED: "idle",
    SessionStatus.COMPLETED: "terminated",
    SessionStatus.FAILED: "terminated",
    SessionStatus.ARCHIVED: "terminated",
}


class AgentReference(Wire):
    """A stored agent, at a version or the latest."""

    type: Literal["agent"]
    id: Id
    version: VersionNumber | None = None


class AgentWithOverrides(Wire):
    """The same with other settings for one session: left out inherits, a value replaces, ``null`` clears."""

    type: Literal["agent_with_overrides"]
    id: Id
    version: VersionNumber | None = None
    model: ModelField | None = None
    system: System | None = None
    tools: Tools | None = None
    mcp_servers: Servers | None = None
    skills: Skills | None = None


def _form(value: Any) -> str:
    if isinstance(value, str):
        return "text"
    found = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return str(found)


AgentField = Annotated[
    Annotated[Id, Tag("text")]
    | Annotated[AgentReference, Tag("agent")]
    | Annotated[AgentWithOverrides, Tag("agent_with_overrides")],
    Discriminator(
        _form,
        custom_error_type="agent_form",
        custom_error_message="an agent's id, or an object of type 'agent' or 'agent_with_overrides'",
    ),
]


class CreateSession(Wire):
    """A new session."""

    agent: AgentField
    environment_id: Id
    title: Title | None = None
    metadata: Metadata | None = None
    budget: BudgetLimit | None = None
    initial_events: Annotated[tuple[InitialEvent, ...], Field(max_length=50)] = ()
    interactive: bool = True
    """Whether somebody can be asked; if not, what would be asked is denied. An extension."""
    skip_permissions: bool = False
    """Allow all that operators do not deny. An extension."""
    resources: Mounts | None = None
    vault_ids: Annotated[tuple[Id, ...], Field(max_length=MAX_VAULTS)] | None = None


class AgentUpdate(Wire):
    """Other tools for the turns to come; each list is replaced whole."""

    tools: Tools | None = None
    mcp_servers: Servers | None = None


class UpdateSession(Wire):
    """A change to a session; what is left out stays."""

    title: Title | None = None
    metadata: MetadataPatch | None = None
    agent: AgentUpdate | None = None
    budget: BudgetLimit | None = None
    vault_ids: NotYet = None
    skip_permissions: bool | None = None
    """Allow all that operators do not deny, or no longer. An extension."""


class Stats(Wire):
    """Times of a session."""

    active_seconds: float
    duration_seconds: float


class Session(Wire):
    """A session."""

    id: str
    type: Literal["session"] = "session"
    status: WireStatus
    sojourn_status: SessionStatus
    """Where it stands in more detail. An extension."""
    sojourn_stop_reason: str | None
    """What an idle session waits for, such as ``requires_action``. An extension: lists can tell without the events."""
    agent: AgentSnapshot
    environment_id: str | None
    """``None`` for sessions that the Python client has started without one."""
    title: str | None
    metadata: dict[str, str]
    resources: tuple[WireResource, ...] = ()
    vault_ids: tuple[str, ...] = ()
    outcome_evaluations: tuple[()] = ()
    budget: BudgetLimit | None
    usage: CumulativeUsage
    stats: Stats
    deployment_id: str | None
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None


class SessionPage(Wire):
    """One page of sessions."""

    data: tuple[Session, ...]
    next_page: str | None
    prev_page: str | None


class DeletedSession(Wire):
    """What is left of a session."""

    id: str
    type: Literal["session_deleted"] = "session_deleted"


def wire_status(status: SessionStatus) -> WireStatus:
    """The contract's word for a status."""
    return _STATUSES[status]


def own_statuses(wanted: tuple[WireStatus, ...]) -> list[SessionStatus]:
    """The statuses that the contract's words stand for."""
    return [status for status, word in _STATUSES.items() if word in wanted]


def wire_session(found: SessionSnapshot, names: ModelNames) -> Session:
    """A session as replies show it."""
    info = found.info
    ended = info.closed_at or datetime.now(UTC)
    return Session(
        id=info.id,
        status=wire_status(info.status),
        sojourn_status=info.status,
        sojourn_stop_reason=info.stop_reason,
        agent=snapshot(found.agent, names),
        environment_id=info.environment_id,
        title=info.title or None,
        metadata=info.metadata,
        resources=tuple(map(wire_resource, found.resources)),
        vault_ids=found.vault_ids,
        budget=wire_budget(info.account.budget),
        usage=wire_usage(info.account),
        stats=Stats(
            active_seconds=info.account.active_seconds,
            duration_seconds=max((ended - info.created_at).total_seconds(), 0),
        ),
        deployment_id=info.deployment_id,
        created_at=info.created_at,
        updated_at=info.updated_at or info.created_at,
        archived_at=info.closed_at if info.status is SessionStatus.ARCHIVED else None,
    )


def overridden(version: AgentVersion, change: AgentWithOverrides, names: ModelNames) -> AgentVersion:
    """The agent that a session runs instead.

    Raises:
        InvalidRequestError: The settings do not go together; names the path.
    """
    given, now = change.model_fields_set, version.definition
    changes: dict[str, object] = {}
    if "model" in given:
        if change.model is None:
            text = "agent.model: cannot be cleared; leave it out to inherit it"
            raise InvalidRequestError(text, param="agent.model", code="agent_model_required")
        # The contract: effort in an override is ignored.
        model = names.ref(change.model.model_copy(update={"effort": None}), path="agent.model", current=now.model)
        changes["model"] = model
    if "system" in given:
        changes["system"] = change.system or None
    changes |= replaced_lists(change, "tools", "mcp_servers", "skills")
    if "tools" in given and not change.tools and changes.get("skills", now.skills):
        raise InvalidRequestError("agent.tools: skills need the read tool; clear skills too", param="agent.tools")
    return changed_agent(version, changes)


def replaced_lists(change: AgentWithOverrides | AgentUpdate, *fields: str) -> dict[str, object]:
    """The stored form of the lists that a change has; ``null`` clears."""
    wanted = [field for field in fields if field in change.model_fields_set]
    return {field: tuple(each.stored() for each in getattr(change, field) or ()) for field in wanted}


def changed_agent(version: AgentVersion, changes: dict[str, object]) -> AgentVersion:
    """The version with other settings; its number stays.

    Raises:
        InvalidRequestError: They do not go together; names the path inside ``agent``.
    """
    definition: AgentDefinition = version.definition.model_copy(update=changes)
    check_tools(definition.tools, definition.mcp_servers, path="agent.")
    return version.model_copy(update={"definition": definition})
