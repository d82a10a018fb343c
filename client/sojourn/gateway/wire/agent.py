"""Agents on the wire, and how they become definitions (Managed Agents API §1.1)."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from sojourn.gateway.wire.fault import NotYet
from sojourn.gateway.wire.model import ModelConfig, ModelField, ModelNames
from sojourn.gateway.wire.tool import (
    ResolvedTool,
    Servers,
    Skills,
    Tools,
    check_tools,
    resolved,
)
from sojourn.types import AgentDefinition, AgentVersion, InvalidRequestError, Limits, McpServer, Skill
from sojourn.types.wire import Metadata, Wire

Name = Annotated[str, Field(min_length=1, max_length=256)]
Description = Annotated[str, Field(max_length=2048)]
System = Annotated[str, Field(max_length=100_000)]
VersionNumber = Annotated[int, Field(ge=1, le=2**31 - 1)]
MetadataPatch = dict[Annotated[str, Field(min_length=1, max_length=64)], Annotated[str, Field(max_length=512)] | None]


class ServiceAccount(Wire):
    """The only identity that there is: sessions act as the workers do."""

    type: Literal["service_account"] = "service_account"


class CreateAgent(Wire):
    """A new agent."""

    name: Name
    model: ModelField
    description: Description | None = None
    system: System | None = None
    tools: Tools | None = None
    mcp_servers: Servers | None = None
    skills: Skills | None = None
    metadata: Metadata | None = None
    multiagent: NotYet = None
    execution_identity: ServiceAccount | None = None


class UpdateAgent(Wire):
    """A change to an agent: what is left out stays, ``null`` clears, lists are replaced whole."""

    name: Name | None = None
    model: ModelField | None = None
    description: Description | None = None
    system: System | None = None
    tools: Tools | None = None
    mcp_servers: Servers | None = None
    skills: Skills | None = None
    metadata: MetadataPatch | None = None
    multiagent: NotYet = None
    execution_identity: ServiceAccount | None = None
    version: VersionNumber | None = None
    """The version that the client has seen; if there is a newer one, the change is refused."""


class Agent(Wire):
    """An agent, at one of its versions."""

    id: str
    type: Literal["agent"] = "agent"
    version: int
    name: str
    description: str | None
    model: ModelConfig
    system: str | None
    tools: tuple[ResolvedTool, ...]
    mcp_servers: tuple[McpServer, ...]
    skills: tuple[Skill, ...]
    multiagent: None = None
    execution_identity: ServiceAccount = ServiceAccount()
    metadata: dict[str, str]
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None


class AgentSnapshot(Wire):
    """The agent of a session, as it was when the session began or was last changed."""

    id: str
    type: Literal["agent"] = "agent"
    version: int
    name: str
    description: str | None
    model: ModelConfig
    system: str | None
    tools: tuple[ResolvedTool, ...]
    mcp_servers: tuple[McpServer, ...]
    skills: tuple[Skill, ...]
    multiagent: None = None
    execution_identity: ServiceAccount = ServiceAccount()


def new_definition(body: CreateAgent, names: ModelNames) -> AgentDefinition:
    """The definition of a new agent.

    Raises:
        InvalidRequestError: Fields do not go together; names the path.
    """
    tools = tuple(tool.stored() for tool in body.tools or ())
    servers = tuple(server.stored() for server in body.mcp_servers or ())
    check_tools(tools, servers)
    return AgentDefinition(
        name=body.name,
        model=names.ref(body.model, path="model"),
        description=body.description or None,
        system=body.system or None,
        tools=tools,
        mcp_servers=servers,
        skills=tuple(skill.stored() for skill in body.skills or ()),
        # The contract lets clients take as long as they like over the tools that they run.
        limits=Limits(custom_tool_timeout=None),
        metadata=body.metadata or {},
    )


def changed_definition(now: AgentDefinition, body: UpdateAgent, names: ModelNames) -> AgentDefinition:
    """The definition after a change.

    Raises:
        InvalidRequestError: Fields do not go together; names the path.
    """
    given = body.model_fields_set
    change: dict[str, object] = {}
    for field in ("name", "model"):
        if field in given and getattr(body, field) is None:
            raise InvalidRequestError(f"{field}: cannot be cleared; leave it out to keep it", param=field)
    if body.name is not None:
        change["name"] = body.name
    if body.model is not None:
        change["model"] = names.ref(body.model, path="model", current=now.model)
    change |= {field: getattr(body, field) or None for field in ("description", "system") if field in given}
    for field in ("tools", "mcp_servers", "skills"):
        if field in given:
            change[field] = tuple(each.stored() for each in getattr(body, field) or ())
    if "metadata" in given:
        change["metadata"] = patched(now.metadata, body.metadata)
    changed = now.model_copy(update=change)
    check_tools(changed.tools, changed.mcp_servers)
    try:
        return AgentDefinition.model_validate(changed.model_dump())
    except ValidationError as error:
        raise InvalidRequestError.from_validation(error) from None


def patched(now: dict[str, str], patch: MetadataPatch | None) -> dict[str, str]:
    """Metadata after a merge patch; no patch at all clears it."""
    if patch is None:
        return {}
    merged = {**now, **patch}
    return {key: value for key, value in merged.items() if value is not None}


def wire_agent(version: AgentVersion, first: AgentVersion, names: ModelNames) -> Agent:
    """An agent as replies show it.

    Args:
        version: Which of its versions.
        first: Its first version.
        names: What models are called.
    """
    stamps = [each for each in (version.created_at, version.archived_at) if each is not None]
    created = first.created_at or min(stamps)
    return Agent(
        **dict(snapshot(version, names)),
        metadata=version.definition.metadata,
        created_at=created,
        updated_at=max(stamps, default=created),
        archived_at=version.archived_at,
    )


def snapshot(version: AgentVersion, names: ModelNames) -> AgentSnapshot:
    """An agent as sessions show it."""
    definition = version.definition
    return AgentSnapshot(
        id=version.id,
        version=version.version,
        name=definition.name,
        description=definition.description,
        model=names.config(definition.model),
        system=definition.system,
        tools=tuple(resolved(tool) for tool in definition.tools),
        mcp_servers=definition.mcp_servers,
        skills=definition.skills,
    )
