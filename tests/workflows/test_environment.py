"""Environments from create to delete, on a real server."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from temporalio.common import SearchAttributePair, TypedSearchAttributes

from sojourn.client.claim import NameClaims
from sojourn.client.environment import EnvironmentStore
from sojourn.client.update import execute_update
from sojourn.types import (
    CloudConfig,
    ConflictError,
    Environment,
    EnvironmentArchivedError,
    EnvironmentChange,
    EnvironmentDefinition,
    EnvironmentExistsError,
    EnvironmentId,
    EnvironmentInUseError,
    EnvironmentNameTakenError,
    EnvironmentNotFoundError,
    InvalidRequestError,
    LimitedNetwork,
    NotFoundError,
    Owner,
    Packages,
    SelfHostedConfig,
    WorkerUnavailableError,
)
from sojourn.types.id import new_environment_id, new_session_id
from sojourn.types.name import (
    ENVIRONMENT_ATTRIBUTE,
    HOLD_ENVIRONMENT_UPDATE,
    SESSION_WORKFLOW,
    WORKSPACE_ATTRIBUTE,
)

if TYPE_CHECKING:
    from tests.conftest import Eventually, Stage

PYTHON = EnvironmentDefinition(
    name="python",
    description="for numbers",
    config=CloudConfig(packages=Packages(pip=("pandas",))),
    metadata={"a": "1"},
)
PLAIN = EnvironmentDefinition(name="plain")


def named(name: str) -> EnvironmentDefinition:
    return EnvironmentDefinition(name=name)


def store(stage: "Stage") -> EnvironmentStore:
    return EnvironmentStore(stage.client, task_queue=stage.task_queue)


async def occupy(stage: "Stage", environment: Environment) -> Any:
    """What the server knows of a session in the environment."""
    workspace = stage.owner.workspace
    attributes = [
        SearchAttributePair(WORKSPACE_ATTRIBUTE, workspace),
        SearchAttributePair(ENVIRONMENT_ATTRIBUTE, environment.id),
    ]
    return await stage.client.start_workflow(
        SESSION_WORKFLOW,
        id=f"{workspace}/{new_session_id()}",
        task_queue=f"{stage.task_queue}-nobody",
        search_attributes=TypedSearchAttributes(attributes),
    )


async def test_an_environment_is_stored_and_read_without_a_worker(stage: "Stage", eventually: "Eventually") -> None:
    made = await stage.runtime.create_environment(PYTHON)

    assert made.id.startswith("env_")
    assert (made.name, made.config, made.metadata) == (PYTHON.name, PYTHON.config, PYTHON.metadata)
    assert made.created_at == made.updated_at
    assert await stage.runtime.get_environment(made.id) == made

    async def listed() -> bool:
        return list((await stage.runtime.list_environments()).data) == [made]

    await eventually(listed, "the environment is listed as it was made")


async def test_a_change_is_seen_by_all_readers(stage: "Stage", eventually: "Eventually") -> None:
    await stage.work()
    made = await stage.runtime.create_environment(PYTHON)

    changed = await stage.runtime.update_environment(
        made, EnvironmentChange(description=None, metadata={"a": None, "b": "2"})
    )

    assert changed.description is None
    assert changed.metadata == {"b": "2"}
    assert changed.config == PYTHON.config
    assert changed.updated_at > made.updated_at
    assert await stage.runtime.get_environment(made) == changed

    async def listed() -> bool:
        return list((await stage.runtime.list_environments()).data) == [changed]

    await eventually(listed, "the list shows the change")


async def test_a_change_that_changes_nothing_leaves_the_time_alone(stage: "Stage") -> None:
    await stage.work()
    made = await stage.runtime.create_environment(PYTHON)

    assert await stage.runtime.update_environment(made, EnvironmentChange(name="python", metadata={"a": "1"})) == made


async def test_a_change_that_cannot_be_is_refused(stage: "Stage") -> None:
    made = await stage.runtime.create_environment(PYTHON)

    with pytest.raises(InvalidRequestError) as error:
        await stage.runtime.update_environment(made, EnvironmentChange(config=SelfHostedConfig()))

    assert error.value.code == "invalid_config_type_change"
    assert await stage.runtime.get_environment(made) == made


async def test_an_archived_environment_is_read_and_nothing_else(stage: "Stage", eventually: "Eventually") -> None:
    await stage.work()
    made = await stage.runtime.create_environment(PLAIN)

    archived = await stage.runtime.archive_environment(made)
    again = await stage.runtime.archive_environment(made)

    assert archived.archived_at is not None
    assert again == archived == await stage.runtime.get_environment(made)
    with pytest.raises(EnvironmentArchivedError):
        await stage.runtime.update_environment(made, EnvironmentChange(name="other"))
    with pytest.raises(EnvironmentArchivedError):
        await store(stage).admit(made.id, workspace=stage.owner.workspace)

    async def hidden() -> bool:
        shown = (await stage.runtime.list_environments()).data
        every = (await stage.runtime.list_environments(include_archived=True)).data
        return list(shown) == [] and list(every) == [archived]

    await eventually(hidden, "the environment is listed as archived only")


# --- names ---------------------------------------------------------------------------------------------------------


async def test_a_name_is_taken_once_in_a_workspace(stage: "Stage") -> None:
    await stage.runtime.create_environment(PLAIN)

    with pytest.raises(EnvironmentNameTakenError):
        await stage.runtime.create_environment(PLAIN)
    elsewhere = await stage.runtime.create_environment(PLAIN, owner=Owner(f"{stage.owner.workspace}-2", "ada"))
    assert elsewhere.name == "plain"
    assert (await stage.runtime.create_environment(named("Plain"))).name == "Plain"


async def test_of_many_who_want_a_name_at_once_one_gets_it(stage: "Stage") -> None:
    attempts = [stage.runtime.create_environment(PLAIN) for _ in range(20)]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)

    assert sorted(type(each).__name__ for each in outcomes) == ["Environment", *["EnvironmentNameTakenError"] * 19]


async def test_a_name_is_free_again_after_archive_rename_and_delete(stage: "Stage") -> None:
    await stage.work()
    archived, renamed, deleted = [await stage.runtime.create_environment(named(name)) for name in "abc"]

    await stage.runtime.archive_environment(archived)
    await stage.runtime.update_environment(renamed, EnvironmentChange(name="z"))
    await stage.runtime.delete_environment(deleted)

    assert [(await stage.runtime.create_environment(named(name))).name for name in "abc"] == ["a", "b", "c"]
    with pytest.raises(EnvironmentNameTakenError):
        await stage.runtime.create_environment(named("z"))


async def test_a_rename_to_a_taken_name_is_refused_and_changes_nothing(stage: "Stage") -> None:
    await stage.work()
    made = await stage.runtime.create_environment(named("a"))
    await stage.runtime.create_environment(named("b"))

    with pytest.raises(EnvironmentNameTakenError):
        await stage.runtime.update_environment(made, EnvironmentChange(name="b"))

    assert (await stage.runtime.get_environment(made)).name == "a"


async def test_of_many_renames_to_one_name_one_is_done(stage: "Stage") -> None:
    await stage.work()
    made = [await stage.runtime.create_environment(named(f"n{number}")) for number in range(5)]

    renames = (stage.runtime.update_environment(each, EnvironmentChange(name="best")) for each in made)
    outcomes = await asyncio.gather(*renames, return_exceptions=True)

    assert sum(isinstance(each, Environment) for each in outcomes) == 1
    names = [(await stage.runtime.get_environment(each)).name for each in made]
    assert names.count("best") == 1
    # Those of the others are still theirs.
    for name in names:
        with pytest.raises(EnvironmentNameTakenError):
            await stage.runtime.create_environment(named(name))


async def test_renames_of_one_environment_at_once_leave_one_name_taken(stage: "Stage") -> None:
    await stage.work()
    made = await stage.runtime.create_environment(named("a"))

    renames = (stage.runtime.update_environment(made, EnvironmentChange(name=name)) for name in "bcd")
    await asyncio.gather(*renames)

    name = (await stage.runtime.get_environment(made)).name
    free = sorted({"a", "b", "c", "d"} - {name})
    assert [(await stage.runtime.create_environment(named(each))).name for each in free] == free


async def test_a_refused_rename_sets_the_name_free(stage: "Stage") -> None:
    await stage.work()
    made = await stage.runtime.create_environment(named("a"))
    await hold(stage, made, wanted=True)

    with pytest.raises(ConflictError):
        await stage.runtime.update_environment(made, EnvironmentChange(name="b"))

    assert (await stage.runtime.create_environment(named("b"))).name == "b"


async def test_a_name_that_was_left_behind_is_taken_over_in_time(stage: "Stage") -> None:
    """Whoever took it was cut off before there was an environment."""
    workspace, lost, mine = stage.owner.workspace, new_environment_id(), new_environment_id()
    at_once = NameClaims(stage.client, task_queue=stage.task_queue, settling=timedelta(seconds=-60))
    patient = NameClaims(stage.client, task_queue=stage.task_queue)
    await patient.take("x", lost, workspace=workspace)

    with pytest.raises(EnvironmentNameTakenError):
        await patient.take("x", mine, workspace=workspace)
    await at_once.take("x", mine, workspace=workspace)
    await patient.take("x", mine, workspace=workspace)
    await patient.release("x", lost, workspace=workspace)

    with pytest.raises(EnvironmentNameTakenError):
        await patient.take("x", lost, workspace=workspace)


async def test_a_name_in_use_is_never_taken_over(stage: "Stage") -> None:
    await stage.runtime.create_environment(PLAIN)
    at_once = NameClaims(stage.client, task_queue=stage.task_queue, settling=timedelta(seconds=-60))

    with pytest.raises(EnvironmentNameTakenError):
        await at_once.take(PLAIN.name, new_environment_id(), workspace=stage.owner.workspace)


async def test_an_id_of_ones_own_makes_one_environment(stage: "Stage") -> None:
    made = await stage.runtime.create_environment(PLAIN, environment_id="env_mine")

    with pytest.raises(EnvironmentExistsError):
        await stage.runtime.create_environment(PLAIN, environment_id="env_mine")
    with pytest.raises(EnvironmentExistsError):
        await stage.runtime.create_environment(named("other"), environment_id="env_mine")
    assert await stage.runtime.get_environment("env_mine") == made
    assert (await stage.runtime.create_environment(named("other"))).name == "other"


async def test_of_many_who_make_one_id_at_once_one_does_and_no_name_is_lost(stage: "Stage") -> None:
    attempts = [stage.runtime.create_environment(named(f"n{n % 4}"), environment_id="env_mine") for n in range(12)]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)

    assert sorted({type(each).__name__ for each in outcomes}) == ["Environment", "EnvironmentExistsError"]
    name = (await stage.runtime.get_environment("env_mine")).name
    with pytest.raises(EnvironmentNameTakenError):
        await stage.runtime.create_environment(named(name))
    free = sorted({"n0", "n1", "n2", "n3"} - {name})
    assert [(await stage.runtime.create_environment(named(each))).name for each in free] == free


@pytest.mark.parametrize("id", ["mine", "env_", "env_a/b", "env_" + "x" * 65, "sesn_1"])
async def test_an_id_that_is_none_is_refused(stage: "Stage", id: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        await stage.runtime.create_environment(PLAIN, environment_id=id)

    assert error.value.param == "environment_id"


# --- sessions in it ------------------------------------------------------------------------------------------------


async def test_an_environment_that_asks_for_nothing_admits_sessions(stage: "Stage") -> None:
    made = await stage.runtime.create_environment(PLAIN)

    assert await store(stage).admit(made.id, workspace=stage.owner.workspace) == made


async def test_a_self_hosted_environment_is_admitted(stage: "Stage") -> None:
    made = await stage.runtime.create_environment(EnvironmentDefinition(name="n", config=SelfHostedConfig()))

    assert await store(stage).admit(made.id, workspace=stage.owner.workspace) == made


@pytest.mark.parametrize(
    "config",
    [CloudConfig(networking=LimitedNetwork()), CloudConfig(packages=Packages(apt=("git",)))],
    ids=["limited", "packages"],
)
async def test_an_environment_that_needs_a_sandbox_is_refused_by_workers_without(stage: "Stage", config: Any) -> None:
    await stage.work()
    agent = await stage.agent(model="scripted:echo")
    made = await stage.runtime.create_environment(EnvironmentDefinition(name="n", config=config))

    with pytest.raises(InvalidRequestError, match="no worker has a sandbox") as error:
        await stage.runtime.start_session(agent, environment_id=made.id)

    assert error.value.param == "environment_id"


async def test_a_session_begins_in_an_environment_that_admits_it(stage: "Stage") -> None:
    await stage.work()
    agent = await stage.agent(model="scripted:echo")
    made = await stage.runtime.create_environment(PLAIN)
    limited = await stage.runtime.create_environment(
        EnvironmentDefinition(name="n", config=CloudConfig(networking=LimitedNetwork()))
    )

    probe = await stage.open(agent, environment_id=made.id)

    assert (await probe.session.info()).environment_id == made.id
    assert (await probe.session.send_and_wait("hi")).text == "You said: hi"
    for wrong, error in (
        (limited.id, InvalidRequestError),
        ("env_nothing", EnvironmentNotFoundError),
        ((await stage.runtime.archive_environment(made)).id, EnvironmentArchivedError),
    ):
        with pytest.raises(error):
            await stage.runtime.start_session(agent, environment_id=wrong)
    # Those that run go on.
    assert (await probe.session.send_and_wait("again")).text == "You said: again"
    with pytest.raises(EnvironmentInUseError):
        await stage.runtime.delete_environment(made)


# --- deleting ------------------------------------------------------------------------------------------------------


async def hold(stage: "Stage", environment: Environment, *, wanted: bool) -> None:
    await execute_update(
        stage.client,
        f"{stage.owner.workspace}/{environment.id}",
        HOLD_ENVIRONMENT_UPDATE,
        wanted,
        result=None,
        missing=EnvironmentNotFoundError(environment.id),
        task_queue=stage.task_queue,
    )


async def test_a_deleted_environment_is_gone(stage: "Stage", eventually: "Eventually") -> None:
    await stage.work()
    made = await stage.runtime.create_environment(PLAIN)

    await stage.runtime.delete_environment(made)

    for attempt in (
        stage.runtime.get_environment(made),
        stage.runtime.update_environment(made, EnvironmentChange(name="x")),
        stage.runtime.archive_environment(made),
        stage.runtime.delete_environment(made),
        store(stage).admit(made.id, workspace=stage.owner.workspace),
    ):
        with pytest.raises(EnvironmentNotFoundError):
            await attempt

    async def forgotten() -> bool:
        return list((await stage.runtime.list_environments(include_archived=True)).data) == []

    await eventually(forgotten, "no list shows the environment")


async def test_an_archived_environment_can_be_deleted(stage: "Stage") -> None:
    await stage.work()
    made = await stage.runtime.create_environment(PLAIN)
    await stage.runtime.archive_environment(made)
    await stage.runtime.create_environment(PLAIN)

    await stage.runtime.delete_environment(made)

    # The name is its successor's.
    with pytest.raises(EnvironmentNameTakenError):
        await stage.runtime.create_environment(PLAIN)


async def test_an_environment_with_sessions_stays(stage: "Stage") -> None:
    await stage.work()
    made = await stage.runtime.create_environment(PLAIN)
    session = await occupy(stage, made)

    with pytest.raises(EnvironmentInUseError) as error:
        await stage.runtime.delete_environment(made)

    assert error.value.sessions == 1
    assert await store(stage).admit(made.id, workspace=stage.owner.workspace) == made
    await session.terminate()
    with pytest.raises(EnvironmentInUseError):
        await stage.runtime.delete_environment(made)


async def test_no_session_begins_while_an_environment_is_being_deleted(stage: "Stage") -> None:
    await stage.work()
    made = await stage.runtime.create_environment(PLAIN)
    await hold(stage, made, wanted=True)

    with pytest.raises(EnvironmentNotFoundError):
        await store(stage).admit(made.id, workspace=stage.owner.workspace)
    with pytest.raises(ConflictError):
        await stage.runtime.update_environment(made, EnvironmentChange(description="x"))
    assert await stage.runtime.get_environment(made) == made

    await hold(stage, made, wanted=False)
    assert await store(stage).admit(made.id, workspace=stage.owner.workspace) == made


async def test_of_many_who_delete_at_once_nobody_fails_but_by_not_finding_it(stage: "Stage") -> None:
    await stage.work()
    made = await stage.runtime.create_environment(PLAIN)

    attempts = (stage.runtime.delete_environment(made) for _ in range(5))
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)

    assert [each for each in outcomes if each is not None and not isinstance(each, EnvironmentNotFoundError)] == []
    assert None in outcomes


# --- whose it is ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", ["env_nothing", "agent_1", "../x", "", "env_" + "9" * 32])
async def test_an_unknown_environment_is_not_found(stage: "Stage", id: str) -> None:
    with pytest.raises(NotFoundError):
        await stage.runtime.get_environment(id)


async def test_an_environment_of_another_workspace_does_not_exist(stage: "Stage") -> None:
    made = await stage.runtime.create_environment(PLAIN)
    stranger = Owner("elsewhere", "ada")

    attempts: list[Callable[[], Any]] = [
        lambda: stage.runtime.get_environment(made, owner=stranger),
        lambda: stage.runtime.update_environment(made, EnvironmentChange(name="x"), owner=stranger),
        lambda: stage.runtime.archive_environment(made, owner=stranger),
        lambda: stage.runtime.delete_environment(made, owner=stranger),
    ]
    for attempt in attempts:
        with pytest.raises(EnvironmentNotFoundError):
            await attempt()
    assert list((await stage.runtime.list_environments(owner=stranger)).data) == []
    assert await stage.runtime.get_environment(made, owner=Owner(stage.owner.workspace, "bob")) == made


async def test_an_agent_is_no_environment_and_no_session_takes_its_id(stage: "Stage") -> None:
    agent = await stage.agent()

    with pytest.raises(EnvironmentNotFoundError):
        await stage.runtime.get_environment(EnvironmentId(agent.id))
    with pytest.raises(InvalidRequestError):
        await stage.runtime.start_session(agent, session_id="env_1")


async def test_a_change_without_a_worker_says_so(stage: "Stage") -> None:
    made = await stage.runtime.create_environment(PLAIN)

    with pytest.raises(WorkerUnavailableError):
        await stage.runtime.update_environment(made, EnvironmentChange(description="x"))


async def test_lists_come_in_pages_newest_first(stage: "Stage", eventually: "Eventually") -> None:
    made = [(await stage.runtime.create_environment(named(f"n{number}"))).id for number in range(5)]

    async def all_listed() -> bool:
        return len((await stage.runtime.list_environments(limit=100)).data) == 5

    await eventually(all_listed, "five environments are listed")
    found, cursor = [], None
    while True:
        page = await stage.runtime.list_environments(limit=2, page=cursor)
        assert len(page.data) <= 2
        found += [each.id for each in page.data]
        if (cursor := page.next_page) is None:
            break

    assert found == list(reversed(made))


async def test_environments_and_their_names_are_no_sessions_and_no_agents(stage: "Stage") -> None:
    made = await stage.runtime.create_environment(PLAIN)

    assert list((await stage.runtime.list_agents(include_archived=True)).data) == []
    assert list((await stage.runtime.list_sessions(every_user=True)).data) == []
    with pytest.raises(NotFoundError):
        await stage.runtime.status(str(made.id))
