"""Built-in tools in a session's workspace, on workers with a real sandbox (`local`, which every machine has)."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client

from sojourn.activities.workspace_folder import WorkspaceFolder
from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import (
    AgentToolset,
    CloudConfig,
    EnvironmentDefinition,
    InvalidRequestError,
    Limits,
    Packages,
    PermissionPolicy,
    RollOver,
    text_of,
)
from sojourn.types.agent import ToolOptions
from sojourn.types.error import StoreUnavailableError
from sojourn.types.event import AgentToolResult, AgentToolUse, SessionErrorEvent
from sojourn.types.name import CHECKPOINT_WORKSPACE_ACTIVITY, OPEN_WORKSPACE_ACTIVITY
from sojourn.types.payload import store_of
from sojourn.types.session import SessionInput
from sojourn.types.session_error import ErrorDetail
from sojourn.worker import SojournWorker, WorkerOptions

DONE = ScriptedTurn(text="done")
FREE = PermissionPolicy(default="allow")
TOOLS = AgentToolset(configs=tuple(ToolOptions(name=name, enabled=False) for name in ("web_fetch", "web_search")))
SOON = Limits(workspace_timeout=timedelta(seconds=2))
PATIENCE = 60

Eventually = Callable[[Callable[[], Awaitable[bool]], str], Awaitable[None]]


def bash(*commands: str) -> ScriptedTurn:
    return ScriptedTurn(calls=[ScriptedCall("bash", {"command": command}) for command in commands])


@dataclass
class Yard:
    """Workers with sandboxes, and an agent that may use the built-in tools."""

    stage: Any
    root: Path
    turns: tuple[ScriptedTurn, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)

    async def worker(self, place: str = "a", sandbox: str | None = "local") -> SojournWorker:
        options = WorkerOptions(
            sandbox=sandbox,
            workspaces=self.root / place,
            graceful_shutdown=timedelta(0),
            cleaning_interval=timedelta(milliseconds=200),
        )
        ours: Client = self.stage.client
        # The SDK wants a client for each worker of a task queue.
        client = await Client.connect(ours.service_client.config.target_host, data_converter=ours.data_converter)
        worker: SojournWorker = await self.stage.work(self.turns, options=options, client=client, **self.more)
        return worker

    async def session(self, *turns: ScriptedTurn, limits: Limits | None = None, **options: Any) -> Any:
        """A worker at place ``a``, and a session with it."""
        self.turns = turns
        await self.worker()
        return await self.open(limits=limits, **options)

    async def open(self, *, limits: Limits | None = None, **options: Any) -> Any:
        agent = await self.stage.agent(TOOLS, policy=FREE, limits=limits)
        return await self.stage.open(agent, **options)

    async def stop(self, place: int = 0) -> None:
        await self.stage.stop(self.stage.workers[place])

    def folders(self) -> list[Path]:
        """All workspaces on the machine."""
        return sorted(path.parent for path in self.root.rglob("meta.json"))

    async def stored(self, probe: Any) -> list[str]:
        """The checkpoints of a session."""
        store = store_of(self.stage.client)
        assert store is not None
        return [path async for path in store.paths(f"sessions/{probe.workflow_id}/workspaces")]


@pytest.fixture
def yard(stage: Any, tmp_path: Path) -> Yard:
    return Yard(stage, tmp_path / "workspaces")


def told(probe: Any) -> list[str]:
    """The results of all calls, in the order they came."""
    return [text_of(each.content) for each in probe.of(AgentToolResult)]


def errors(probe: Any) -> list[str]:
    return [each.error.type for each in probe.of(SessionErrorEvent)]


async def scheduled(probe: Any, activity: str, stage: Any) -> int:
    """How often the session has had an activity begun."""
    handle = stage.client.get_workflow_handle(probe.workflow_id)
    names = [
        event.activity_task_scheduled_event_attributes.activity_type.name
        async for event in handle.fetch_history_events()
    ]
    return names.count(activity)


class Gate:
    """Holds whoever prepares or harvests until it is opened; fails them if it is told to."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()
        self.failure: Exception | None = None

    async def prepare(
        self, start: SessionInput, folder: WorkspaceFolder, generation: int, report: Callable[[str], None]
    ) -> tuple[ErrorDetail, ...]:
        return await self.harvest(start, folder)

    async def harvest(self, start: SessionInput, folder: WorkspaceFolder) -> tuple[ErrorDetail, ...]:
        self.reached.set()
        if self.failure is not None:
            raise self.failure
        await self.open.wait()
        return ()

    async def is_reached(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.reached.wait()


async def talk(probe: Any, number: int) -> None:
    await probe.session.send(f"turn {number}")
    await probe.idle(number)


# --- opening and keeping -------------------------------------------------------------------------------------------


async def test_a_workspace_is_opened_once_for_parallel_calls(yard: Yard) -> None:
    probe = await yard.session(bash("echo a > a", "echo b > b", "echo c > c"), bash("cat a b c"), DONE)

    await talk(probe, 1)

    assert told(probe)[3] == "a\nb\nc"
    assert await scheduled(probe, OPEN_WORKSPACE_ACTIVITY, yard.stage) == 1


async def test_files_and_the_shell_are_kept_across_turns(yard: Yard) -> None:
    probe = await yard.session(bash("echo one > note; export WORD=two"), DONE, bash("cat note; echo $WORD"), DONE)

    await talk(probe, 1)
    await talk(probe, 2)

    assert told(probe)[1] == "one\ntwo"
    assert await scheduled(probe, OPEN_WORKSPACE_ACTIVITY, yard.stage) == 1


async def test_a_worker_that_is_started_again_goes_on_with_its_workspaces(yard: Yard) -> None:
    probe = await yard.session(bash("echo one > note; export WORD=two"), DONE, bash("cat note; echo $WORD"), DONE)
    await talk(probe, 1)
    queue = yard.stage.workers[0].own_queue

    await yard.stop()
    again = await yard.worker()
    await talk(probe, 2)

    assert again.own_queue == queue
    assert "the worker was restarted" in told(probe)[1]
    assert told(probe)[1].endswith("\none\n")
    assert await scheduled(probe, OPEN_WORKSPACE_ACTIVITY, yard.stage) == 1
    assert not errors(probe)


async def test_a_worker_that_comes_back_late_still_has_the_newest_files(yard: Yard, eventually: Eventually) -> None:
    """The workflow had given it up; what was changed since the last checkpoint is there all the same."""
    gate = Gate()
    gate.failure = StoreUnavailableError("memory://", reason="away")
    yard.more = {"harvests": (gate,)}
    probe = await yard.session(bash("echo one > note"), DONE, bash("cat note"), DONE, limits=SOON)
    await talk(probe, 1)
    await _stored(yard, probe, 1, eventually)
    await yard.stop()
    yard.more = {}

    none = await yard.worker(sandbox=None)
    await probe.session.send("turn 2")
    await probe.saw(AgentToolUse, 2)

    async def given_up() -> bool:
        return await scheduled(probe, OPEN_WORKSPACE_ACTIVITY, yard.stage) > 1

    await eventually(given_up, "the workflow asks for its workspace anew")
    await yard.worker()
    await yard.stage.stop(none)
    await probe.idle(2)

    assert told(probe)[1].endswith("one")
    assert not errors(probe)


# --- moving --------------------------------------------------------------------------------------------------------


async def test_the_workspace_moves_with_its_files_when_its_worker_is_gone(yard: Yard, eventually: Eventually) -> None:
    first = bash("echo one > note; ln -s note link; chmod 751 note; mkfifo pipe")
    probe = await yard.session(first, DONE, bash("cat link; ls"), DONE, limits=SOON)
    await talk(probe, 1)
    await _stored(yard, probe, 1, eventually)

    await yard.stop()
    await yard.worker("b")
    await talk(probe, 2)

    note, *rest = told(probe)[1].splitlines()
    assert rest == ["one", "link", "note"]
    assert note.startswith("[Note: the worker that held the workspace is gone; it is now on another, as of ")
    assert errors(probe) == ["workspace_moved_error"]
    assert oct((yard.folders()[-1] / "workspace/note").stat().st_mode & 0o777) == "0o751"


async def _stored(yard: Yard, probe: Any, number: int, eventually: Eventually) -> None:
    """Wait until the workflow knows so many checkpoints, or that there are none."""

    async def completed() -> bool:
        handle = yard.stage.client.get_workflow_handle(probe.workflow_id)
        ids, done = set(), 0
        async for event in handle.fetch_history_events():
            if event.activity_task_scheduled_event_attributes.activity_type.name == CHECKPOINT_WORKSPACE_ACTIVITY:
                ids.add(event.event_id)
            done += event.activity_task_completed_event_attributes.scheduled_event_id in ids
            done += event.activity_task_failed_event_attributes.scheduled_event_id in ids
        return done >= number

    await eventually(completed, f"{number} checkpoints of {probe.workflow_id}")


async def test_what_was_left_on_an_earlier_worker_is_never_used(yard: Yard, eventually: Eventually) -> None:
    """From a to b and back to a."""
    probe = await yard.session(
        bash("echo a > note; touch only-a"),
        DONE,
        bash("echo b > note; rm only-a"),
        DONE,
        bash("cat note; ls"),
        DONE,
        limits=SOON,
    )
    for number, place in enumerate(("a", "b", "a"), start=1):
        if number > 1:
            await yard.stop()
            await yard.worker(place)
        await talk(probe, number)
        await _stored(yard, probe, number, eventually)

    assert told(probe)[2].splitlines()[1:] == ["b", "note"]
    assert errors(probe) == ["workspace_moved_error"] * 2


async def test_a_workspace_that_was_never_stored_begins_empty_elsewhere(yard: Yard, eventually: Eventually) -> None:
    gate = Gate()
    gate.failure = StoreUnavailableError("memory://", reason="away")
    yard.more = {"harvests": (gate,)}
    probe = await yard.session(bash("echo one > note"), DONE, bash("ls"), DONE, limits=SOON)
    await talk(probe, 1)
    await _stored(yard, probe, 1, eventually)

    await yard.stop()
    await yard.worker("b")
    await talk(probe, 2)

    assert "empty, because it was never stored" in told(probe)[1]
    assert errors(probe) == ["workspace_moved_error"]


# --- interrupts, ends, roll-over -------------------------------------------------------------------------------------


async def test_an_interrupt_while_the_workspace_is_opened_ends_the_turn(yard: Yard) -> None:
    gate = Gate()
    yard.more = {"preparations": (gate,)}
    probe = await yard.session(bash("echo one > note"), bash("cat note"), DONE)
    await probe.session.send("turn 1")
    await gate.is_reached()

    await probe.session.interrupt()
    await probe.idle()
    gate.open.set()
    await talk(probe, 2)

    assert [each.outcome for each in probe.of(AgentToolResult)] == ["interrupted", "error"]
    assert await scheduled(probe, OPEN_WORKSPACE_ACTIVITY, yard.stage) == 1


async def test_an_interrupt_kills_what_the_command_has_started(yard: Yard, eventually: Eventually) -> None:
    probe = await yard.session(bash("sleep 4711 & sleep 4712; echo never"), bash("echo again"), DONE)
    await probe.session.send("turn 1")

    async def runs() -> bool:
        return bool(_sleeping())

    await eventually(runs, "the command")
    await probe.session.interrupt()
    await probe.idle()
    await talk(probe, 2)

    async def gone() -> bool:
        return not _sleeping()

    await eventually(gone, "the end of the command")
    assert probe.of(AgentToolResult)[0].outcome == "interrupted"
    assert told(probe)[1].endswith("again")


def _sleeping() -> list[int]:
    lines = {path: _line(path) for path in Path("/proc").glob("[0-9]*/cmdline")}
    return [int(path.parent.name) for path, line in lines.items() if line in (b"sleep\x004711\0", b"sleep\x004712\0")]


def _line(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


async def test_a_session_rolls_over_when_its_workspace_has_been_stored(yard: Yard) -> None:
    gate = Gate()
    yard.more = {"harvests": (gate,)}
    probe = await yard.session(bash("echo one > note"), DONE, bash("cat note"), DONE, roll_over=RollOver(max_events=20))
    await talk(probe, 1)
    await gate.is_reached()

    await probe.session.send("turn 2")
    gate.open.set()
    await probe.idle(2)

    assert told(probe)[1] == "one"
    assert await probe.runs() > 1
    assert not errors(probe)


async def test_a_session_can_be_archived_while_its_workspace_is_stored(yard: Yard) -> None:
    gate = Gate()
    yard.more = {"harvests": (gate,)}
    probe = await yard.session(bash("echo one > note"), DONE)
    await talk(probe, 1)
    await gate.is_reached()

    await probe.session.archive()
    await probe.ended()

    assert probe.story()[-1] == "session.status_terminated"


# --- what goes wrong -------------------------------------------------------------------------------------------------


async def test_a_session_whose_workspace_could_not_be_stored_goes_on(yard: Yard) -> None:
    gate = Gate()
    gate.failure = StoreUnavailableError("memory://", reason="away")
    yard.more = {"harvests": (gate,)}
    probe = await yard.session(bash("echo one > note"), DONE, bash("cat note"), DONE)

    await talk(probe, 1)
    await gate.is_reached()
    await talk(probe, 2)

    assert told(probe)[1] == "one"
    assert not await yard.stored(probe)


async def test_without_a_sandbox_calls_are_refused_and_the_session_can_be_used(yard: Yard) -> None:
    yard.turns = (bash("echo one"), DONE)
    probe = await yard.open()
    await yard.worker(sandbox=None)

    await talk(probe, 1)
    await talk(probe, 2)

    refused = "The tool did not run: the workspace could not be opened: no worker has a sandbox"
    assert [text.startswith(refused) for text in told(probe)] == [True, True]
    assert probe.texts() == ["done", "done"]


async def test_a_worker_without_a_sandbox_sends_sessions_to_those_with_one(yard: Yard) -> None:
    probe = await yard.session(bash("echo one"), bash("echo two"), DONE)
    for _ in range(2):
        await yard.worker(sandbox=None)

    for number in range(1, 3):
        await talk(probe, number)

    assert told(probe) == ["one", "two"] * 2


async def test_a_session_that_needs_a_sandbox_is_refused_where_there_is_none(yard: Yard) -> None:
    yard.turns = (DONE,)
    await yard.worker(sandbox=None)

    with pytest.raises(InvalidRequestError, match="no worker has a sandbox") as error:
        await yard.open()

    assert error.value.param == "tools.0"


async def test_a_workspace_that_is_too_large_is_said_and_the_session_goes_on(yard: Yard) -> None:
    grow = "for each in 1 2 3 4 5; do truncate -s 1900M $each; done"
    probe = await yard.session(bash(grow), DONE, bash("rm [1-5]; echo small > note"), DONE)

    await talk(probe, 1)
    said = await probe.saw(SessionErrorEvent)
    await talk(probe, 2)

    assert said.error.type == "workspace_error"
    assert "larger than 8,589,934,592 bytes" in said.error.message
    assert len(probe.of(SessionErrorEvent)) == 1


async def test_packages_that_no_sandbox_can_install_are_refused(yard: Yard) -> None:
    yard.turns = (DONE,)
    await yard.worker()
    config = CloudConfig(packages=Packages(apt=("git",)))
    made = await yard.stage.runtime.create_environment(EnvironmentDefinition(name="apt", config=config))

    with pytest.raises(InvalidRequestError, match="cannot install packages with apt") as error:
        await yard.open(environment_id=made.id)

    assert error.value.param == "environment_id"


async def test_a_sandbox_that_dies_is_started_anew(yard: Yard) -> None:
    probe = await yard.session(bash("echo one > note; kill -9 $PPID"), bash("cat note"), DONE)

    await talk(probe, 1)

    died, after = told(probe)
    assert probe.of(AgentToolResult)[0].outcome == "error"
    assert "Files are kept" in died
    assert after.endswith("one")


# --- cleaning up -----------------------------------------------------------------------------------------------------


async def test_a_deleted_session_leaves_neither_folder_nor_checkpoint(yard: Yard, eventually: Eventually) -> None:
    probe = await yard.session(bash("echo one > note"), DONE)
    await talk(probe, 1)
    await _stored(yard, probe, 1, eventually)
    assert len(yard.folders()) == len(await yard.stored(probe)) == 1

    probe.forget()
    await probe.session.delete()

    async def gone() -> bool:
        return not yard.folders() and not await yard.stored(probe)

    await eventually(gone, "the end of the workspace")


async def test_only_the_latest_checkpoints_are_kept(yard: Yard, eventually: Eventually) -> None:
    probe = await yard.session(*[turn for number in range(4) for turn in (bash(f"echo {number} > note"), DONE)])

    for number in range(1, 5):
        await talk(probe, number)
        await _stored(yard, probe, number, eventually)

    assert len(await yard.stored(probe)) == 2


async def test_a_workspace_that_has_not_changed_is_not_stored_again(yard: Yard, eventually: Eventually) -> None:
    probe = await yard.session(bash("echo one > note"), DONE, bash("cat note"), DONE)

    await talk(probe, 1)
    await _stored(yard, probe, 1, eventually)
    (first,) = await yard.stored(probe)
    await talk(probe, 2)
    await _stored(yard, probe, 2, eventually)

    assert await yard.stored(probe) == [first]
