"""Agents and their versions."""

import asyncio
from typing import TYPE_CHECKING

import pytest

from sojourn.testing import ScriptedTurn
from sojourn.types import (
    AgentArchivedError,
    AgentDefinition,
    AgentNotFoundError,
    InvalidRequestError,
    ModelRef,
    Owner,
    PermissionPolicy,
    VersionConflictError,
    WorkerUnavailableError,
)
from sojourn.types.name import AGENT_STATE_QUERY
from sojourn.types.session import AgentState

if TYPE_CHECKING:
    from tests.conftest import Eventually, Stage

FIRST = AgentDefinition(name="first", model=ModelRef.of("scripted:echo"), system="one")


def _with(**fields: object) -> AgentDefinition:
    return FIRST.model_copy(update=fields)


async def test_a_new_agent_is_version_one(stage: "Stage") -> None:
    agent = await stage.runtime.create(FIRST)

    stored = await agent.get()

    assert (stored.id, stored.version, stored.definition, stored.archived_at) == (agent.id, 1, FIRST, None)
    assert stored.created_at is not None


async def test_reading_needs_no_worker(stage: "Stage", eventually: "Eventually") -> None:
    agent = await stage.runtime.create(FIRST)

    assert [each.version for each in await agent.versions()] == [1]
    assert (await agent.get(version=1)).definition == FIRST

    async def listed() -> bool:
        return [each.id for each in (await stage.runtime.list_agents()).data] == [agent.id]

    await eventually(listed, "the agent is listed")


async def test_every_change_is_a_version_and_all_stay_readable(stage: "Stage") -> None:
    await stage.work()
    agent = await stage.runtime.create(FIRST)

    for number in (2, 3, 4):
        version = await agent.update(_with(system=f"{number}"))
        assert version.version == number

    assert [each.version for each in await agent.versions()] == [4, 3, 2, 1]
    assert [each.definition.system for each in await agent.versions()] == ["4", "3", "2", "one"]
    assert (await agent.get(version=2)).definition.system == "2"
    assert (await agent.get()).version == 4


async def test_an_update_that_changes_nothing_is_no_version(stage: "Stage") -> None:
    await stage.work()
    agent = await stage.runtime.create(FIRST)

    assert (await agent.update(FIRST)).version == 1
    await agent.update(_with(system="two"))
    assert (await agent.update(_with(system="two"))).version == 2

    assert [each.version for each in await agent.versions()] == [2, 1]


async def test_a_version_may_return_to_an_older_definition(stage: "Stage") -> None:
    await stage.work()
    agent = await stage.runtime.create(FIRST)

    await agent.update(_with(system="two"))
    back = await agent.update(FIRST)

    assert (back.version, back.definition) == (3, FIRST)


async def test_an_update_of_an_old_version_is_refused(stage: "Stage") -> None:
    await stage.work()
    agent = await stage.runtime.create(FIRST)
    await agent.update(_with(system="two"), version=1)

    with pytest.raises(VersionConflictError) as error:
        await agent.update(_with(system="three"), version=1)

    assert (error.value.expected, error.value.actual) == (1, 2)
    assert (await agent.get()).version == 2


async def test_of_two_updates_at_once_one_wins(stage: "Stage") -> None:
    await stage.work()
    agent = await stage.runtime.create(FIRST)

    updates = (agent.update(_with(system=text), version=1) for text in ("a", "b"))
    outcomes = await asyncio.gather(*updates, return_exceptions=True)

    assert sorted(isinstance(outcome, VersionConflictError) for outcome in outcomes) == [False, True]
    assert (await agent.get()).version == 2


async def test_an_archived_agent_can_be_read_and_nothing_else(stage: "Stage", eventually: "Eventually") -> None:
    await stage.work()
    agent = await stage.runtime.create(FIRST)

    await agent.archive()
    await agent.archive()

    stored = await agent.get()
    assert stored.archived_at is not None
    assert stored.definition == FIRST
    with pytest.raises(AgentArchivedError):
        await agent.update(_with(system="two"))
    with pytest.raises(AgentArchivedError):
        await stage.runtime.start_session(agent)

    async def listed() -> bool:
        shown = [each.id for each in (await stage.runtime.list_agents()).data]
        every = (await stage.runtime.list_agents(include_archived=True)).data
        return shown == [] and [(each.id, each.archived) for each in every] == [(agent.id, True)]

    await eventually(listed, "the agent is listed as archived only")


async def test_sessions_of_an_archived_agent_go_on(stage: "Stage") -> None:
    await stage.work()
    agent = await stage.runtime.create(FIRST)
    probe = await stage.open(agent)

    await agent.archive()

    assert (await probe.session.send_and_wait("hi")).text == "You said: hi"


async def test_a_session_keeps_the_version_it_was_started_with(stage: "Stage") -> None:
    await stage.work()
    agent = await stage.runtime.create(FIRST)
    old = await agent.get()
    await agent.update(_with(system="two"))

    pinned = await stage.watched(stage.runtime.start_session(old))
    latest = await stage.watched(stage.runtime.start_session(agent))
    await agent.update(_with(system="three"))

    assert (await pinned.query(AGENT_STATE_QUERY, AgentState)).agent.version == 1
    assert (await latest.query(AGENT_STATE_QUERY, AgentState)).agent.version == 2


async def test_lists_come_in_pages_newest_first(stage: "Stage", eventually: "Eventually") -> None:
    made = [(await stage.runtime.create(_with(name=f"agent {place}"))).id for place in range(5)]

    async def all_listed() -> bool:
        return len((await stage.runtime.list_agents(limit=100)).data) == 5

    await eventually(all_listed, "five agents are listed")
    pages, cursor = [], None
    while True:
        page = await stage.runtime.list_agents(limit=2, page=cursor)
        pages.append([each.id for each in page.data])
        if (cursor := page.next_page) is None:
            break

    found = [id for page in pages for id in page]
    assert sorted(found) == sorted(made)
    assert all(len(page) <= 2 for page in pages)
    listed = await stage.runtime.list_agents(limit=100)
    assert [each.created_at for each in listed.data] == sorted((a.created_at for a in listed.data), reverse=True)


async def test_a_list_shows_the_latest_name_and_version(stage: "Stage", eventually: "Eventually") -> None:
    await stage.work()
    agent = await stage.runtime.create(FIRST)
    await agent.update(_with(name="second"))

    async def listed() -> bool:
        return [(each.name, each.version) for each in (await stage.runtime.list_agents()).data] == [("second", 2)]

    await eventually(listed, "the list shows the new name")


@pytest.mark.parametrize("limit", [0, 1001])
async def test_a_limit_out_of_range_is_refused(stage: "Stage", limit: int) -> None:
    with pytest.raises(InvalidRequestError):
        await stage.runtime.list_agents(limit=limit)


async def test_a_cursor_of_somebody_else_is_refused(stage: "Stage") -> None:
    with pytest.raises(InvalidRequestError):
        await stage.runtime.list_agents(page="no cursor")


async def test_an_agent_of_another_workspace_does_not_exist(stage: "Stage") -> None:
    await stage.work()
    agent = await stage.runtime.create(FIRST)
    other = stage.runtime.agent(agent.id, owner=Owner("elsewhere", "ada"))

    for attempt in (other.get(), other.versions(), other.update(FIRST), other.archive()):
        with pytest.raises(AgentNotFoundError):
            await attempt
    with pytest.raises(AgentNotFoundError):
        await stage.runtime.start_session(agent, owner=Owner("elsewhere", "ada"))
    assert (await stage.runtime.list_agents(owner=Owner("elsewhere", "ada"))).data == []


async def test_an_agent_belongs_to_the_whole_workspace(stage: "Stage") -> None:
    agent = await stage.runtime.create(FIRST)

    found = await stage.runtime.get_agent(agent.id, owner=Owner(stage.owner.workspace, "bob"))

    assert found.id == agent.id


async def test_an_unknown_agent_or_version_is_not_found(stage: "Stage") -> None:
    agent = await stage.runtime.create(FIRST)

    with pytest.raises(AgentNotFoundError):
        await stage.runtime.get_agent("agent_nothing")
    with pytest.raises(AgentNotFoundError):
        await agent.get(version=7)


async def test_a_session_is_no_agent(stage: "Stage") -> None:
    probe = await stage.session(ScriptedTurn(text="hi"))

    with pytest.raises(AgentNotFoundError):
        await stage.runtime.get_agent(str(probe.session.id))


async def test_an_agent_is_no_session(stage: "Stage") -> None:
    from sojourn.types import SessionNotFoundError

    agent = await stage.runtime.create(FIRST)

    for attempt in (stage.runtime.status(str(agent.id)), stage.runtime.list_events(str(agent.id))):
        with pytest.raises(SessionNotFoundError):
            await attempt


async def test_an_update_without_a_worker_says_so(stage: "Stage") -> None:
    agent = await stage.runtime.create(FIRST)

    with pytest.raises(WorkerUnavailableError):
        await agent.update(_with(permission_policy=PermissionPolicy(default="ask")))
