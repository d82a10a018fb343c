"""Plays with workspaces, which `record.py` records: they bring workers with sandboxes, and take them away."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from play import DONE, idle, saw
from temporalio.client import Client

from sojourn.activities.workspace_folder import WorkspaceFolder
from sojourn.client import AgentRuntime, SessionHandle
from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import AgentDefinition, AgentToolset, Limits, ModelRef, Owner, PermissionPolicy, RollOver
from sojourn.types.agent import ToolOptions
from sojourn.types.error import StoreUnavailableError
from sojourn.types.event import AgentToolUse, SessionIdle
from sojourn.types.name import CHECKPOINT_WORKSPACE_ACTIVITY, RUN_TOOL_ACTIVITY
from sojourn.types.need import SANDBOX
from sojourn.types.session import SessionInput
from sojourn.types.session_error import ErrorDetail
from sojourn.types.workspace import CheckSandboxInput
from sojourn.worker import SojournWorker, WorkerOptions

OWNER = Owner("recorded", "ada")
TOOLS = AgentToolset(configs=tuple(ToolOptions(name=name, enabled=False) for name in ("web_fetch", "web_search")))


def bash(*commands: str) -> ScriptedTurn:
    return ScriptedTurn(calls=[ScriptedCall("bash", {"command": command}) for command in commands])


class Gate:
    """Holds whoever opens or stores a workspace until it is opened, or fails them."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()
        self.failure = failure

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
        async with asyncio.timeout(60):
            await self.reached.wait()


class Yard:
    """The workers and the session of one play."""

    def __init__(self, client: Client, name: str, folder: Path, *turns: ScriptedTurn) -> None:
        self._client, self._name, self._folder, self._turns = client, name, folder, turns
        self.runtime = AgentRuntime(client, owner=OWNER, task_queue=name)

    @asynccontextmanager
    async def worker(
        self,
        place: str = "a",
        *,
        sandbox: str | None = "local",
        preparation: Gate | None = None,
        harvest: Gate | None = None,
    ) -> AsyncGenerator[None, None]:
        """A worker while the block runs, with a client of its own, as the SDK wants it."""
        ours = self._client
        client = await Client.connect(ours.service_client.config.target_host, data_converter=ours.data_converter)
        options = WorkerOptions(
            task_queue=self._name,
            identity="recorder",
            graceful_shutdown=timedelta(0),
            sandbox=sandbox,
            workspaces=self._folder / place,
        )
        async with SojournWorker(
            client,
            scripts={self._name: self._turns},
            options=options,
            preparations=(preparation,) if preparation else (),
            harvests=(harvest,) if harvest else (),
        ):
            yield

    async def session(self, **options: RollOver) -> SessionHandle:
        definition = AgentDefinition(
            name=self._name,
            model=ModelRef.of(f"scripted:{self._name}"),
            tools=(TOOLS,),
            permission_policy=PermissionPolicy(default="allow"),
            limits=Limits(workspace_timeout=timedelta(seconds=1)),
        )
        agent = await self.runtime.create(definition)
        return await self.runtime.start_session(
            agent, session_id=f"sesn_{self._name}", title=self._name, roll_over=options.get("roll_over")
        )

    async def ended(self, id: str) -> None:
        """Wait for the end of a workflow that is no session."""
        await self._client.get_workflow_handle(f"{OWNER.workspace}/{id}").result()

    async def called(self, session: SessionHandle, number: int) -> None:
        """Wait until so many tool calls have been handed to workers."""
        handle = self._client.get_workflow_handle(f"{OWNER.workspace}/{session.id}")
        async with asyncio.timeout(60):
            async for event in handle.fetch_history_events(wait_new_event=True):
                number -= event.activity_task_scheduled_event_attributes.activity_type.name == RUN_TOOL_ACTIVITY
                if number == 0:
                    return

    async def stored(self, session: SessionHandle, number: int) -> None:
        """Wait until the session knows of so many checkpoints, or of their failure."""
        handle = self._client.get_workflow_handle(f"{OWNER.workspace}/{session.id}")
        ids: set[int] = set()
        async with asyncio.timeout(60):
            async for event in handle.fetch_history_events(wait_new_event=True):
                if event.activity_task_scheduled_event_attributes.activity_type.name == CHECKPOINT_WORKSPACE_ACTIVITY:
                    ids.add(event.event_id)
                ended = {
                    event.activity_task_completed_event_attributes.scheduled_event_id,
                    event.activity_task_failed_event_attributes.scheduled_event_id,
                }
                number -= bool(ids & ended)
                if number == 0:
                    return


async def _kept(yard: Yard) -> str:
    """Parallel calls, a second turn in the same files, an interrupt while a command runs."""
    async with yard.worker():
        session = await yard.session()
        await session.send("write")
        await idle(session, 1)
        await yard.stored(session, 1)
        await session.send("run for ever")
        await yard.called(session, 3)
        await session.interrupt()
        await idle(session, 2)
        await session.send("read")
        await idle(session, 3)
        await yard.stored(session, 3)
        await session.archive()
    return session.id


async def _moved(yard: Yard) -> str:
    async with yard.worker("a"):
        session = await yard.session()
        await session.send("write")
        await idle(session, 1)
        await yard.stored(session, 1)
    async with yard.worker("b"):
        await session.send("read")
        await idle(session, 2)
        await yard.stored(session, 2)
        await session.archive()
    return session.id


async def _refused(yard: Yard) -> str:
    """No worker has a sandbox; then one has, and the other sends the session there."""
    session = await yard.session()
    async with yard.worker(sandbox=None):
        await session.send("write")
        await idle(session, 1)
        async with yard.worker("b"):
            for number in range(2, 6):
                await session.send("write")
                await idle(session, number)
            await session.archive()
    return session.id


async def _rolling(yard: Yard) -> str:
    gate = Gate()
    async with yard.worker(harvest=gate):
        session = await yard.session(roll_over=RollOver(max_events=20))
        await session.send("write")
        await idle(session, 1)
        await gate.is_reached()
        await session.send("read")
        gate.open.set()
        await idle(session, 2)
        await session.archive()
    return session.id


async def _opening(yard: Yard) -> str:
    """Interrupted, and archived, while the workspace is opened."""
    gate = Gate()
    async with yard.worker(preparation=gate):
        session = await yard.session()
        await session.send("write")
        await gate.is_reached()
        await session.interrupt()
        await idle(session, 1)
        await session.send("read")
        await saw(session, AgentToolUse, 2)
        await session.archive()
    return session.id


async def _storing(yard: Yard) -> str:
    """Archived while the workspace is stored."""
    gate = Gate()
    async with yard.worker(harvest=gate):
        session = await yard.session()
        await session.send("write")
        await saw(session, SessionIdle)
        await gate.is_reached()
        await session.archive()
    return session.id


async def _unstored(yard: Yard) -> str:
    gate = Gate(StoreUnavailableError("memory://", reason="away"))
    async with yard.worker(harvest=gate):
        session = await yard.session()
        await session.send("write")
        await idle(session, 1)
        await yard.stored(session, 1)
        await session.send("read")
        await idle(session, 2)
        await session.archive()
    return session.id


_READ = (bash("echo one > note", "echo two > more"), DONE, bash("cat note"), DONE)

_PLAYS: dict[str, tuple[Callable[[Yard], Awaitable[str]], tuple[ScriptedTurn, ...]]] = {
    "workspace": (_kept, (*_READ[:2], bash("sleep 1000"), *_READ[2:])),
    "workspace-moved": (_moved, _READ),
    "workspace-opening": (_opening, _READ[::2]),
    "workspace-refused": (_refused, (bash("echo one"), DONE)),
    "workspace-rolling": (_rolling, _READ),
    "workspace-storing": (_storing, _READ),
    "workspace-unstored": (_unstored, _READ),
}


def _recorded(name: str) -> Callable[[Client], Awaitable[str]]:
    async def play(client: Client) -> str:
        act, turns = _PLAYS[name]
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            yard = Yard(client, name, Path(folder), *turns)
            try:
                return await act(yard)
            finally:
                await yard.runtime.close()

    return play


YARD = {name: _recorded(name) for name in _PLAYS}
"""Each gives the id of its session, which has ended."""


async def ask_for_sandbox(client: Client) -> str:
    """A worker without a sandbox, which sends whoever asks to one with it; the id of the question."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yard = Yard(client, "ask", Path(folder))
        async with yard.worker(), yard.worker(sandbox=None):
            for number in range(50):
                handle = await client.start_workflow(
                    "CheckSandboxWorkflow",
                    CheckSandboxInput(needs=(SANDBOX, "pip")),
                    id=f"check-sandbox/{number}",
                    task_queue="ask",
                )
                await handle.result()
                events = [event async for event in handle.fetch_history_events()]
                if sum(event.HasField("activity_task_scheduled_event_attributes") for event in events) > 1:
                    return handle.id
        await yard.runtime.close()
    raise AssertionError("the worker with a sandbox was always asked first")
