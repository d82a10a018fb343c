"""Shared fixtures: one Temporal server for the whole run, and a stage for each test: task queue, workers, runtime."""

import asyncio
import gc
import os
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from temporalio.api.workflowservice.v1 import UpdateNamespaceRequest
from temporalio.client import Client
from temporalio.worker._workflow import _WorkflowWorker
from tests.guard import Guard

from sojourn.activities.conversation import AssistantTurn, SystemTurn, ToolResults, UserTurn
from sojourn.activities.hook import Hook, HookSource
from sojourn.activities.model import ModelRequest
from sojourn.activities.tool import Toolbox
from sojourn.client import AgentHandle, AgentRuntime, SessionHandle
from sojourn.testing import Script, ScriptedTurn, log_faults
from sojourn.types import (
    AgentCustomToolUse,
    AgentDefinition,
    AgentMcpToolResult,
    AgentMcpToolUse,
    AgentMessage,
    AgentToolResult,
    AgentToolUse,
    AskUserTool,
    Compaction,
    CustomTool,
    Event,
    EventDelta,
    EventStart,
    FunctionTool,
    Limits,
    ModelRef,
    Owner,
    PermissionPolicy,
    RollOver,
    SessionEvent,
    SessionIdle,
    SessionTerminated,
    SojournError,
    text_of,
)
from sojourn.types.agent import ToolConfig
from sojourn.types.name import AGENT_STATE_QUERY, STORE_KEY, STORE_MARK_KEY
from sojourn.types.session import AgentState, SessionResult
from sojourn.worker import EmbeddedServer, SojournWorker, ToolSource, WorkerOptions, embedded_server

E = TypeVar("E", bound=Event)

PATIENCE = timedelta(seconds=45)
"""Longest wait for anything; what is waited for comes within milliseconds unless it never comes."""

_IDLE = "session.status_idle"
_ASIDE = ("span.model_request_start", "span.model_request_end", "session.usage")


# Four processes share the machine: how long an example takes says nothing about it.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


# Four Temporal servers and four processes of tests share two cores: this takes a fifth of a server's work away.
os.environ.setdefault("GOMAXPROCS", "1")
os.environ.setdefault("GOGC", "400")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Guard(config))


def pytest_collection_finish() -> None:
    # The modules and tests of a process: a million objects that nothing frees, and that no collection need look at.
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _patient_detector() -> Generator[None, None, None]:
    """A workflow task may take longer than two seconds of a machine that does four things: no test is about that."""
    begin = _WorkflowWorker.__init__

    def patient(self: Any, **options: Any) -> None:
        begin(self, **options)
        assert self._deadlock_timeout_seconds == 2
        self._deadlock_timeout_seconds = PATIENCE.total_seconds()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_WorkflowWorker, "__init__", patient)
        yield


@pytest.fixture(scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[EmbeddedServer, None]:
    # A folder, which the processes that some tests start can reach too.
    async with embedded_server(store=str(tmp_path_factory.mktemp("store"))) as server:
        # Some tests bring a store of their own; the namespace names none, so that their workers may start.
        request = UpdateNamespaceRequest(namespace=server.client.namespace)
        request.update_info.data.update({STORE_KEY: "", STORE_MARK_KEY: ""})
        await server.client.workflow_service.update_namespace(request)
        yield server


@pytest.fixture
async def stage(server: EmbeddedServer) -> AsyncGenerator["Stage", None]:
    """Where one test plays. After the test the logs of all its sessions are checked (`check_log`)."""
    stage = Stage(server.client)
    try:
        yield stage
        await stage.check()
    finally:
        await stage.close()


class PlayedModel:
    """A script that remembers what it was asked."""

    def __init__(self, *turns: ScriptedTurn) -> None:
        self.requests: list[ModelRequest] = []
        self._turns = turns

    def __call__(self, request: ModelRequest) -> ScriptedTurn:
        self.requests.append(request)
        return self._turns[request.step % len(self._turns)]

    def context(self, request: int = -1) -> list[tuple[str, str]]:
        """The messages of one request, as pairs of role and text."""
        return [pair for message in self.requests[request].messages for pair in _pairs(message)]


class Probe:
    """A session, and everything that its live stream has shown from the start."""

    def __init__(self, stage: "Stage", session: SessionHandle, *, checked: bool = True) -> None:
        self.session = session
        self._checked = checked
        self.log: list[SessionEvent] = []
        self.failure: SojournError | None = None
        self._stage = stage
        self._grown = asyncio.Event()
        self._task = asyncio.create_task(self._follow())

    async def saw(self, kind: type[E], number: int = 1, *, where: Callable[[E], bool] = lambda event: True) -> E:
        """Wait until the stream has shown this many events of a kind; the last of them."""
        try:
            async with asyncio.timeout(PATIENCE.total_seconds()):
                while True:
                    grown = self._grown
                    found = [event for event in self.log if isinstance(event, kind) and where(event)]
                    if len(found) >= number:
                        return found[number - 1]
                    assert not self._task.done(), f"the stream ended without it ({self.failure!r}): {self.story()}"
                    await grown.wait()
        except TimeoutError:
            raise AssertionError(f"no {kind.__name__} number {number} in {self.story()}") from None

    async def idle(self, number: int = 1, reason: str | None = None) -> SessionIdle:
        """Wait until the stream has shown this many idles; the last of them."""
        event = await self.saw(SessionIdle, number)
        assert reason is None or event.stop_reason.type == reason, self.story()
        return event

    async def parked(self, number: int = 1) -> list[str]:
        """Wait until the stream has shown this many parks; what the last of them asks for."""
        event = await self.saw(SessionIdle, number, where=lambda idle: idle.stop_reason.type == "requires_action")
        return [str(id) for id in getattr(event.stop_reason, "event_ids", ())]

    async def written(self, text: str) -> None:
        """Wait until the previews have shown this much of what the agent is writing."""
        shown = ""
        try:
            async with asyncio.timeout(PATIENCE.total_seconds()):
                follow = self._stage.runtime.follow(self.session, from_seq=0, previews=True)
                async with follow as events:
                    async for event in events:
                        if isinstance(event, EventStart):
                            shown = ""
                        elif isinstance(event, EventDelta):
                            shown += event.delta.content.text
                        if text in shown:
                            return
        except TimeoutError:
            raise AssertionError(f"previews have shown {shown!r} only") from None

    async def caught_up(self) -> None:
        """Wait until the workflow has taken up, and the stream has shown, all that was sent so far."""
        stored = len(await self._stage.runtime.list_events(self.session))

        async def shown() -> bool:
            return len(self.log) >= stored and await self.count() >= stored

        await eventually(shown, f"{stored} events of {self.session.id}")

    def forget(self) -> None:
        """Do not check the log at the end: the session is gone, or was ended from outside."""
        self._checked = False

    async def ended(self) -> None:
        """Wait until the stream ends by itself."""
        async with asyncio.timeout(PATIENCE.total_seconds()):
            await asyncio.wait({self._task})

    def of(self, kind: type[E]) -> list[E]:
        """All events of a kind so far."""
        return [event for event in self.log if isinstance(event, kind)]

    def texts(self) -> list[str]:
        """What the agent has said."""
        return [event.text for event in self.of(AgentMessage)]

    def results(self) -> dict[str, AgentToolResult | AgentMcpToolResult]:
        """Results by the name of the tool."""
        names = {use.id: use.name for use in self.of(AgentToolUse)}
        names |= {use.id: use.name for use in self.of(AgentCustomToolUse)}
        names |= {use.id: use.name for use in self.of(AgentMcpToolUse)}
        results: list[AgentToolResult | AgentMcpToolResult] = [*self.of(AgentToolResult), *self.of(AgentMcpToolResult)]
        return {names[result.tool_use_id]: result for result in results}

    def story(self) -> list[str]:
        """Types of the events, without spans and usage, which come with every step."""
        return [event.type for event in self.log if event.type not in _ASIDE]

    async def count(self) -> int:
        """How many events the workflow itself has counted."""
        state: AgentState = await self.query(AGENT_STATE_QUERY, AgentState)
        return state.seq

    async def query(self, name: str, kind: type[Any]) -> Any:
        """Ask the workflow itself."""
        return await self._handle.query(name, result_type=kind)

    async def runs(self) -> int:
        """How many runs the session has had."""
        number, run_id = 0, None
        while True:
            number += 1
            events = self._stage.client.get_workflow_handle(self.workflow_id, run_id=run_id).fetch_history_events()
            first = await anext(events)
            run_id = first.workflow_execution_started_event_attributes.continued_execution_run_id
            if not run_id:
                return number

    @property
    def workflow_id(self) -> str:
        return f"{self.session.owner.workspace}/{self.session.id}"

    async def check(self, *, served: bool) -> None:
        """Live stream, second reading and the workflow's own count agree, and the log holds the rules of all logs."""
        if self.failure is not None or not self._checked:
            return
        if served:
            await eventually(self._agrees, f"the workflow's count and the log of {self.session.id}")
        check_log(self.log)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def _handle(self) -> Any:
        return self._stage.client.get_workflow_handle(self.workflow_id)

    async def _agrees(self) -> bool:
        if any(isinstance(event, SessionTerminated) for event in self.log):
            result: SessionResult = await self._stage.client.get_workflow_handle(
                self.workflow_id, result_type=SessionResult
            ).result()
            counted = result.seq
        else:
            counted = await self.count()
        stored = await self._stage.runtime.list_events(self.session)
        return len(stored) == counted and stored == self.log

    async def _follow(self) -> None:
        try:
            async for event in self._stage.runtime.stream_events(self.session, from_seq=0):
                assert isinstance(event, Event)
                self.log.append(event)
                self._notify()
        except SojournError as error:
            self.failure = error
        finally:
            self._notify()

    def _notify(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()


class Stage:
    """A task queue and a workspace of its own, with workers and a runtime."""

    def __init__(self, client: Client) -> None:
        self.client = client
        name = uuid.uuid4().hex[:12]
        self.task_queue = f"test-{name}"
        self.owner = Owner(f"test-{name}", "ada")
        self.runtime = self.another_runtime()
        self._runtimes = [self.runtime]
        self.workers: list[SojournWorker] = []
        self._probes: list[Probe] = []

    def another_runtime(self, **options: Any) -> AgentRuntime:
        """A second client, with a reader and a cache of its own."""
        runtime = AgentRuntime(self.client, owner=self.owner, task_queue=self.task_queue, **options)
        self.__dict__.setdefault("_runtimes", []).append(runtime)
        return runtime

    async def work(
        self,
        script: Script | None = None,
        *,
        summary: Script | None = None,
        tools: Iterable[ToolSource] = (),
        hooks: Iterable[HookSource] = (),
        options: WorkerOptions | None = None,
        client: Client | None = None,
        **more: Any,
    ) -> SojournWorker:
        """Start a worker; ``script`` answers for the model ``scripted:play``, and ``summary`` its compactions.

        A second one at the same time needs a client of its own.
        """
        scripts = {"play": script, "play/compaction": summary}
        options = options or WorkerOptions(graceful_shutdown=timedelta(0))
        worker = SojournWorker(
            client or self.client,
            tools=tools,
            hooks=hooks,
            scripts={name: each for name, each in scripts.items() if each is not None},
            options=replace(options, task_queue=self.task_queue),
            **more,
        )
        await worker.__aenter__()
        self.workers.append(worker)
        return worker

    async def stop(self, worker: SojournWorker) -> None:
        """Stop a worker in order."""
        self.workers.remove(worker)
        await worker.__aexit__(None, None, None)

    async def agent(
        self,
        *tools: str | ToolConfig,
        model: str = "scripted:play",
        name: str = "actor",
        policy: PermissionPolicy | None = None,
        limits: Limits | None = None,
        compaction: Compaction | None = None,
        system: str | None = None,
        hooks: Sequence[str] = (),
    ) -> AgentHandle:
        """Create an agent."""
        definition = AgentDefinition(
            name=name,
            model=ModelRef.of(model),
            system=system,
            tools=tuple(FunctionTool(name=tool) if isinstance(tool, str) else tool for tool in tools),
            permission_policy=policy or PermissionPolicy(),
            hooks=tuple(hooks),
            limits=limits or Limits(),
            compaction=compaction or Compaction(),
        )
        return await self.runtime.create(definition)

    async def open(self, agent: AgentHandle, **options: Any) -> Probe:
        """Start a session and watch it."""
        return self.watch(await self.runtime.start_session(agent, **options))

    async def watched(self, starting: Awaitable[SessionHandle]) -> Probe:
        """Watch a session that is being started."""
        return self.watch(await starting)

    def watch(self, session: SessionHandle, *, checked: bool = True) -> Probe:
        """Watch a session; its log is checked at the end of the test."""
        probe = Probe(self, session, checked=checked)
        self._probes.append(probe)
        return probe

    async def session(
        self,
        *turns: ScriptedTurn,
        script: Script | None = None,
        tools: Sequence[ToolSource] = (),
        custom: Sequence[CustomTool | AskUserTool] = (),
        hooks: Sequence[Hook] = (),
        policy: PermissionPolicy | None = None,
        limits: Limits | None = None,
        compaction: Compaction | None = None,
        summary: Script | None = None,
        roll_over: RollOver | None = None,
        options: WorkerOptions | None = None,
        **session: Any,
    ) -> Probe:
        """A worker with the script and the tools, an agent that may use them, and a session of it."""
        await self.work(script or turns or None, summary=summary, tools=tools, hooks=hooks, options=options)
        model = "scripted:play" if script or turns else "scripted:echo"
        names = Toolbox.of(tools).names
        agent = await self.agent(
            *names,
            *custom,
            model=model,
            policy=policy,
            limits=limits,
            compaction=compaction,
            hooks=[each.name for each in hooks if not each.always],
        )
        return await self.open(agent, roll_over=roll_over, **session)

    async def check(self) -> None:
        for probe in self._probes:
            await probe.check(served=bool(self.workers))

    async def close(self) -> None:
        await asyncio.gather(*(probe.close() for probe in self._probes))
        await asyncio.gather(*(runtime.close() for runtime in self._runtimes))
        await asyncio.gather(*(self.stop(worker) for worker in list(self.workers)))


@pytest.fixture
def played() -> type[PlayedModel]:
    """Makes scripts that remember what they were asked."""
    return PlayedModel


Eventually = Callable[[Callable[[], Awaitable[bool]], str], Awaitable[None]]


@pytest.fixture(name="eventually")
def _eventually() -> Eventually:
    """Waits, with a bound, for something that cannot be watched, such as the visibility store."""
    return eventually


async def eventually(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE.total_seconds()) as patience:
            while not await holds():  # noqa: ASYNC110 (what is waited for cannot be watched)
                await asyncio.sleep(0.02)
    except TimeoutError:
        if not patience.expired():
            raise
        raise AssertionError(f"never came true: {what}") from None


def check_log(log: Sequence[SessionEvent]) -> None:
    """The rules that hold for every log, whatever the session did (seed-systems.md, ordering and exactly-once)."""
    assert not list(log_faults(log))
    bare = [each.seq for before, each in pairwise(log) if each.type == _IDLE and before.type != "session.usage"]
    assert not bare, f"idle without its usage right before it: {bare}"


def _pairs(message: object) -> list[tuple[str, str]]:
    match message:
        case UserTurn():
            return [("summary" if message.summary else "user", text_of(message.content))]
        case SystemTurn():
            return [("system", message.text)]
        case AssistantTurn():
            return [("assistant", getattr(part, "text", "") or getattr(part, "name", "")) for part in message.parts]
        case ToolResults():
            return [("error" if each.is_error else "tool", text_of(each.content)) for each in message.results]
        case _:
            raise AssertionError(message)
