"""Workspaces on a worker, with real sandboxes (`local`) and no server."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from sojourn.activities.workspace import Equipment, WorkspaceLostError, Workspaces
from sojourn.activities.workspace_folder import FolderRecord, folder_name
from sojourn.sandbox.local import LocalSandbox
from sojourn.types.agent import AgentDefinition, AgentVersion
from sojourn.types.id import AgentId, SessionId
from sojourn.types.model import ModelRef
from sojourn.types.session import Owner, SessionInput

Eventually = Callable[[Callable[[], Awaitable[bool]], str], Awaitable[None]]
START = SessionInput(
    session_id=SessionId("sesn_1"),
    owner=Owner(),
    agent=AgentVersion(
        id=AgentId("agent_1"), version=1, definition=AgentDefinition(name="a", model=ModelRef.of("scripted:echo"))
    ),
)


@asynccontextmanager
async def held(root: Path, *sessions: str, **options: object) -> AsyncGenerator[Workspaces, None]:
    """A worker's workspaces, with an open one for each session, of generation 1."""
    workspaces = Workspaces(root, "queue", Equipment(LocalSandbox(), **options))  # type: ignore[arg-type]
    for session in sessions:
        workspace = workspaces.at(session)
        workspace.folder.make(None)
        await workspace.write(FolderRecord(workflow_id=session, first_run_id="run", generation=1))
    workspaces.begin()
    try:
        yield workspaces
    finally:
        await workspaces.close()


async def ran(workspaces: Workspaces, session: str, command: str) -> tuple[str, str]:
    """What a command has written, and what the model is told before it."""
    async with workspaces.using(session, 1, START) as workspace:
        guest = await workspace.guest()
        answer = await guest.call("run", {"argv": ["sh", "-c", command], "timeout_seconds": 60})
        return str(answer), workspace.notice()


async def test_a_sandbox_that_nobody_uses_is_ended_and_the_next_call_tells(
    tmp_path: Path, eventually: Eventually
) -> None:
    async with held(tmp_path, "a", idle=timedelta(milliseconds=200)) as workspaces:
        assert (await ran(workspaces, "a", "echo kept > note"))[1] == ""

        async def ended() -> bool:
            return not workspaces.at("a").lives

        await eventually(ended, "the end of the sandbox")
        output, notice = await ran(workspaces, "a", "cat note")

    assert "kept" in output
    assert "the sandbox was started anew (no tool was called for" in notice


async def test_a_sandbox_makes_room_for_another_sessions(tmp_path: Path) -> None:
    async with held(tmp_path, "a", "b", max_sandboxes=1) as workspaces:
        await ran(workspaces, "a", "true")
        await ran(workspaces, "b", "true")

        assert [workspaces.at(each).lives for each in "ab"] == [False, True]
        _, notice = await ran(workspaces, "a", "true")

    assert "another session needed its place" in notice


async def test_a_call_waits_while_all_sandboxes_are_busy(tmp_path: Path, eventually: Eventually) -> None:
    async with held(tmp_path, "a", "b", max_sandboxes=1) as workspaces:
        async with workspaces.using("a", 1, START) as busy:
            await busy.guest()
            waiting = asyncio.create_task(ran(workspaces, "b", "echo mine"))

            async def waits() -> bool:
                return workspaces.at("b").starting.locked()

            await eventually(waits, "the second call waits")
            assert workspaces.at("a").lives

        async with asyncio.timeout(60):
            output, _ = await waiting

    assert "mine" in output


async def test_only_the_generation_that_was_opened_is_there(tmp_path: Path) -> None:
    async with held(tmp_path, "a") as workspaces:
        for session, generation in (("a", 2), ("b", 1)):
            with pytest.raises(WorkspaceLostError):
                async with workspaces.using(session, generation, START):
                    pass


async def test_a_workspace_whose_folder_somebody_removed_is_lost(tmp_path: Path) -> None:
    async with held(tmp_path, "a") as workspaces:
        await ran(workspaces, "a", "true")
        async with workspaces.at("a").lock:
            await workspaces.remove(workspaces.at("a"))

        with pytest.raises(WorkspaceLostError):
            await ran(workspaces, "a", "true")
        assert not workspaces.at("a").folder.path.exists()


async def test_another_worker_of_the_slot_finds_the_workspaces(tmp_path: Path) -> None:
    async with held(tmp_path, "a") as workspaces:
        await ran(workspaces, "a", "echo kept > note")

    again = Workspaces(tmp_path, "queue", Equipment(LocalSandbox()))
    output, notice = await ran(again, "a", "cat note")
    await again.close()

    assert "kept" in output
    assert "the worker was restarted" in notice


def test_folders_have_names_that_no_two_sessions_share() -> None:
    ids = ["a--b/c", "a/b--c", "a/b:c", "a/b-c", "w" * 128 + "/" + "s" * 128, "w" * 128 + "/" + "s" * 127]
    names = [folder_name(id) for id in ids]

    assert len(set(names)) == len(ids)
    assert all(len(name) < 128 and "/" not in name for name in names)
