"""`/v1/agents` (Managed Agents API §1.1)."""

import asyncio
from datetime import datetime
from typing import Annotated

from pydantic import Field

from sojourn.client import CreatedRange
from sojourn.gateway.endpoint import Call, Endpoint
from sojourn.gateway.idempotency import Creation, attempt, create_once
from sojourn.gateway.wire.agent import (
    Agent,
    CreateAgent,
    UpdateAgent,
    VersionNumber,
    changed_definition,
    new_definition,
    wire_agent,
)
from sojourn.gateway.wire.cursor import bad_cursor, cursor, read_cursor
from sojourn.gateway.wire.page import ListPage
from sojourn.types import AgentExistsError, AgentNotFoundError, AgentVersion, ConflictError, VersionConflictError
from sojourn.types.wire import Wire

_WRITES = 10
"""How often a change is made again because another one came first."""

_AT_A_TIME = 10
"""Agents whose versions are read side by side for a list."""


class VersionQuery(Wire):
    """Which version."""

    version: VersionNumber | None = None
    """``None`` is the latest."""


class PageQuery(Wire):
    """Which part of a list."""

    limit: int = Field(default=20, ge=1, le=100)
    page: str | None = None


class AgentsQuery(PageQuery):
    """Which agents."""

    include_archived: bool = False
    created_since: Annotated[datetime | None, Field(alias="created_at[gte]")] = None
    created_until: Annotated[datetime | None, Field(alias="created_at[lte]")] = None


async def create(call: Call[CreateAgent, None]) -> Agent:
    definition = new_definition(call.body, call.models)

    async def make(id: str) -> AgentVersion:
        made = await call.runtime.create(definition, owner=call.owner, agent_id=id)
        return await made.get()

    async def find(id: str) -> AgentVersion:
        return (await call.runtime.agent_versions(id, owner=call.owner))[-1]

    def same(found: AgentVersion) -> bool:
        return found.definition == definition

    made = await create_once(call, Creation("agent_", make, find, AgentExistsError, same))
    return wire_agent(made, made, call.models)


async def retrieve(call: Call[None, VersionQuery]) -> Agent:
    id = call.path["agent_id"]
    versions = await call.runtime.agent_versions(id, owner=call.owner)
    number = call.query.version or versions[0].version
    found = next((each for each in versions if each.version == number), None)
    if found is None:
        raise AgentNotFoundError(id, version=number)
    return wire_agent(found, versions[-1], call.models)


async def update(call: Call[UpdateAgent, None]) -> Agent:
    """Fields are changed, and definitions are stored whole; so a change is made to the version that was read."""
    id = call.path["agent_id"]
    expected = call.body.version
    for _ in range(_WRITES):
        versions = await call.runtime.agent_versions(id, owner=call.owner)
        now = versions[0]
        definition = changed_definition(now.definition, call.body, call.models)
        if expected not in (None, now.version):
            if _is_done(call, versions):
                return wire_agent(now, versions[-1], call.models)
            raise VersionConflictError(id, expected=expected, actual=now.version)
        try:
            done = await call.runtime.update_agent(id, definition, version=expected or now.version, owner=call.owner)
        except VersionConflictError:
            if expected is not None:
                raise
        else:
            return wire_agent(done, versions[-1], call.models)
    raise ConflictError(f"agent {id!r} was changed {_WRITES} times meanwhile; try again")


def _is_done(call: Call[UpdateAgent, None], versions: list[AgentVersion]) -> bool:
    """Whether an SDK's retry finds the change that its first attempt has made."""
    newest, *others = versions
    if attempt(call) == 0 or not others or others[0].version != call.body.version:
        return False
    return newest.definition == changed_definition(others[0].definition, call.body, call.models)


async def list_agents(call: Call[None, AgentsQuery]) -> ListPage[Agent]:
    query = call.query
    found = await call.runtime.list_agents(
        include_archived=query.include_archived,
        limit=query.limit,
        page=_server_page(query.page),
        created=CreatedRange(gte=query.created_since, lte=query.created_until),
        owner=call.owner,
    )
    some = asyncio.Semaphore(_AT_A_TIME)

    async def read(id: str) -> Agent | None:
        async with some:
            try:
                versions = await call.runtime.agent_versions(id, owner=call.owner)
            except AgentNotFoundError:
                return None
        return wire_agent(versions[0], versions[-1], call.models)

    agents = await asyncio.gather(*(read(info.id) for info in found.data))
    next_page = cursor("agents", at=found.next_page) if found.next_page else None
    return ListPage(data=tuple(each for each in agents if each is not None), next_page=next_page)


def _server_page(page: str | None) -> str | None:
    if not page:
        return None
    at = read_cursor("agents", page).get("at")
    if not isinstance(at, str):
        raise bad_cursor()
    return at


async def archive(call: Call[None, None]) -> Agent:
    id = call.path["agent_id"]
    await call.runtime.archive_agent(id, owner=call.owner)
    versions = await call.runtime.agent_versions(id, owner=call.owner)
    return wire_agent(versions[0], versions[-1], call.models)


async def list_versions(call: Call[None, PageQuery]) -> ListPage[Agent]:
    id, query = call.path["agent_id"], call.query
    versions = await call.runtime.agent_versions(id, owner=call.owner)
    if query.page:
        below = read_cursor("versions", query.page).get("below")
        if not isinstance(below, int):
            raise bad_cursor()
        wanted = [each for each in versions if each.version < below]
    else:
        wanted = versions
    shown = wanted[: query.limit]
    more = len(wanted) > len(shown)
    return ListPage(
        data=tuple(wire_agent(each, versions[-1], call.models) for each in shown),
        next_page=cursor("versions", below=shown[-1].version) if more else None,
    )


_ONE = "/v1/agents/{agent_id}"

ENDPOINTS = (
    Endpoint("POST", "/v1/agents", "agents.create", create, "write", "Create an agent", CreateAgent, reply=Agent),
    Endpoint(
        "GET", "/v1/agents", "agents.list", list_agents, "read", "List agents", None, AgentsQuery, ListPage[Agent]
    ),
    Endpoint("GET", _ONE, "agents.retrieve", retrieve, "read", "Get an agent", None, VersionQuery, Agent),
    Endpoint("POST", _ONE, "agents.update", update, "write", "Change an agent", UpdateAgent, reply=Agent),
    Endpoint("POST", f"{_ONE}/archive", "agents.archive", archive, "control", "Archive an agent", reply=Agent),
    Endpoint(
        "GET",
        f"{_ONE}/versions",
        "agents.versions",
        list_versions,
        "read",
        "List an agent's versions, newest first",
        None,
        PageQuery,
        ListPage[Agent],
    ),
)
