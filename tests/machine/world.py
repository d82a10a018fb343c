"""The stage of the state machine: a worker whose models and tools do what the test says, and three clients."""

import asyncio
import threading
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import activity
from temporalio.client import Client
from tests.machine.model import ASK, CUSTOM, DENIED, GHOST, Model, in_order

from sojourn.activities import ToolContext, tool
from sojourn.activities.model import ModelRequest
from sojourn.client import AgentHandle, AgentRuntime, SessionHandle, connect_client
from sojourn.testing import ScriptedTurn
from sojourn.types import (
    AgentDefinition,
    AgentVersion,
    CustomTool,
    FunctionTool,
    Limits,
    Owner,
    PermissionPolicy,
    RollOver,
    SessionEvent,
    SojournError,
    UserCustomToolResult,
    UserToolConfirmation,
    text_of,
)
from sojourn.types.event import Event
from sojourn.types.name import AGENT_STATE_QUERY, PENDING_ACTIONS_QUERY, USER_EVENTS_SIGNAL
from sojourn.types.record import UserEvents
from sojourn.types.session import AgentState, PendingAction
from sojourn.worker import SojournWorker, WorkerOptions

T = TypeVar("T")

PATIENCE = 30
"""Seconds; what is waited for comes within milliseconds unless it never comes."""

STRANGER = "eve"


class Director:
    """Holds every model step and tool call until the test lets it go."""

    def __init__(self) -> None:
        self._steps: dict[str, asyncio.Future[ScriptedTurn]] = {}
        self._tools: dict[str, asyncio.Future[bool]] = {}
        self._came = asyncio.Condition()
        self.runs: list[str] = []
        """Tool-use ids, once for each time that a tool began."""

    async def script(self, request: ModelRequest) -> ScriptedTurn:
        return await self._held(self._steps, activity.info().workflow_id or "")

    async def tool(self, context: ToolContext) -> str:
        self.runs.append(context.tool_use_id)
        if not await self._held(self._tools, context.tool_use_id):
            raise ValueError("the tool failed")
        return "ok"

    async def step(self, workflow_id: str, turn: ScriptedTurn) -> None:
        await self._let_go(self._steps, workflow_id, turn)

    async def returns(self, tool_use_id: str, well: bool) -> None:
        await self._let_go(self._tools, tool_use_id, well)

    def forget(self) -> None:
        """Whatever was held died with its worker."""
        self._steps.clear()
        self._tools.clear()

    async def thinks(self, workflow_id: str) -> None:
        await self._present(self._steps, workflow_id)

    async def began(self, tool_use_id: str) -> None:
        await self._present(self._tools, tool_use_id)

    async def _held(self, where: dict[str, asyncio.Future[T]], key: str) -> T:
        where[key] = asyncio.get_running_loop().create_future()
        async with self._came:
            self._came.notify_all()
        return await where[key]

    async def _let_go(self, where: dict[str, asyncio.Future[T]], key: str, value: T) -> None:
        await self._present(where, key)
        where.pop(key).set_result(value)

    async def _present(self, where: dict[str, asyncio.Future[T]], key: str) -> None:
        def there() -> bool:
            return key in where and not where[key].done()

        async with asyncio.timeout(PATIENCE), self._came:
            await self._came.wait_for(there)


class World:
    """What all programs share. Lives in an event loop of its own, because hypothesis knows none."""

    def __init__(self, address: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._address = address
        self.task_queue = f"machine-{uuid.uuid4().hex[:12]}"
        self.run(self._open())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in the loop of the world."""
        running = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return running.result(4 * PATIENCE)
        except FutureTimeoutError:
            running.cancel()
            raise

    async def _open(self) -> None:
        self.director = Director()
        self.clients = [await connect_client(self._address) for _ in range(3)]
        polls = (300, 0, 300)
        self.runtimes = [
            AgentRuntime(client, task_queue=self.task_queue, long_polls=number)
            for client, number in zip(self.clients, polls, strict=True)
        ]
        await self._start_worker()

    async def _start_worker(self) -> None:
        @tool(idempotent=True)
        async def work(context: ToolContext) -> str:
            return await self.director.tool(context)

        @tool
        async def once(context: ToolContext) -> str:
            return await self.director.tool(context)

        @tool
        async def pay(context: ToolContext) -> str:
            return await self.director.tool(context)

        @tool
        async def forbidden(context: ToolContext) -> str:
            return await self.director.tool(context)

        self._worker = SojournWorker(
            self.clients[0],
            tools=[work, once, pay, forbidden],
            scripts={"play": self.director.script},
            options=WorkerOptions(task_queue=self.task_queue, graceful_shutdown=timedelta(0)),
        )
        await self._worker.__aenter__()

    async def restart_worker(self) -> None:
        await self._worker.__aexit__(None, None, None)
        self.director.forget()
        await self._start_worker()

    def close(self) -> None:
        self.run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        await asyncio.gather(*(runtime.close() for runtime in self.runtimes))
        await self._worker.__aexit__(None, None, None)


DEFINITION = AgentDefinition(
    name="actor",
    model="scripted:play",
    tools=(
        FunctionTool(name="work"),
        FunctionTool(name="once"),
        FunctionTool(name=ASK),
        FunctionTool(name=DENIED),
        CustomTool(name=CUSTOM, description="Look.", input_schema={"type": "object"}),
    ),
    permission_policy=PermissionPolicy(tools={ASK: "ask", DENIED: "deny"}),
    limits=Limits(custom_tool_timeout=None, model_attempts=100, tool_timeout=timedelta(minutes=10)),
)


class Play:
    """One program: a session of its own, everything its clients see, and what they should see."""

    def __init__(self, world: World, model: Model, *, max_events: int) -> None:
        self.world = world
        self.model = model
        self.owner = Owner(f"machine-{uuid.uuid4().hex[:12]}", "ada")
        self.live: list[list[SessionEvent]] = [[], []]
        self.deleted = False
        self.ids: dict[int, str] = {}
        """The event ids of the tool calls, by their number."""
        self._grown = asyncio.Event()
        world.run(self._begin(max_events))

    async def _begin(self, max_events: int) -> None:
        runtime = self.world.runtimes[0]
        self.agent: AgentHandle = await runtime.create(DEFINITION, owner=self.owner)
        session = await runtime.start_session(self.agent, owner=self.owner, roll_over=RollOver(max_events=max_events))
        self.id = session.id
        self.workflow_id = f"{self.owner.workspace}/{self.id}"
        self._readers = [asyncio.create_task(self._read(place)) for place in (0, 1)]

    async def _read(self, place: int) -> None:
        """Follow the session from its beginning to its end, or to its deletion."""
        with suppress(SojournError):
            async for event in self.world.runtimes[place].stream_events(self.id, from_seq=0, owner=self.owner):
                assert isinstance(event, Event)
                self.live[place].append(event)
                self._grown.set()
                self._grown = asyncio.Event()

    def session(self, client: int, *, user: str = "ada") -> SessionHandle:
        return self.world.runtimes[client].session(self.id, owner=Owner(self.owner.workspace, user))

    async def version(self) -> AgentVersion:
        return await self.agent.get()

    # --- acting ----------------------------------------------------------------------------------------------------

    async def step(self, turn: ScriptedTurn) -> None:
        await self.world.director.step(self.workflow_id, turn)

    async def returns(self, number: int, *, well: bool) -> None:
        await self.world.director.returns(self.ids[number], well)

    async def signal(self, *events: Any) -> None:
        """Send past all checks of the client, as anybody with access to the server can."""
        await self._handle(2).signal(USER_EVENTS_SIGNAL, UserEvents(sent=events))

    async def attempt(self, act: Awaitable[object], refusal: type[SojournError] | None) -> None:
        """Do something that must be refused in this way, or not at all."""
        (error,) = await self.together(act)
        if refusal is None:
            assert error is None, f"refused a legal move: {error!r} at {self.model.log}"
        else:
            assert error is not None, f"took an illegal move ({self.model.status}) without {refusal.__name__}"
            assert isinstance(error, refusal), f"{error!r} is no {refusal.__name__}"

    async def together(self, *acts: Awaitable[object]) -> list[BaseException | None]:
        """Do things at the same time; what became of each."""
        done = await asyncio.gather(*acts, return_exceptions=True)
        return [each if isinstance(each, BaseException) else None for each in done]

    async def use(self, number: int) -> str:
        """The id of a tool call, as soon as the live stream shows it."""
        async with asyncio.timeout(PATIENCE):
            while number not in self.ids:
                grown = self._grown
                lines(self.live[0], self.ids)
                if number not in self.ids:
                    await grown.wait()
        return self.ids[number]

    # --- comparing -------------------------------------------------------------------------------------------------

    async def settle(self, *others: Model) -> None:
        """Wait until the log is what the model says (or one of the other models: then that is what happened)."""
        candidates = [self.model, *others]
        try:
            async with asyncio.timeout(PATIENCE):
                while (found := self._matching(candidates)) is None:
                    await self._grown.wait()
        except TimeoutError:
            shown = in_order(lines(self.live[0], self.ids))
            wanted = "\n or ".join(str(in_order(model.log)) for model in candidates)
            raise AssertionError(f"the log is\n    {shown}\n and should be\n    {wanted}") from None
        self.model = found
        await self._compare()

    def _matching(self, candidates: Sequence[Model]) -> Model | None:
        shown = in_order(lines(self.live[0], self.ids))
        return next((model for model in candidates if in_order(model.log) == shown), None)

    async def _compare(self) -> None:
        """Nothing more has happened than what the log shows, and everybody says the same."""
        model, session = self.model, self.session(1)
        waiting = [self.ids[call.number] for call in model.waiting]
        if not model.closed:
            state: AgentState = await self._handle(0).query(AGENT_STATE_QUERY, result_type=AgentState)
            assert (state.seq, state.queued, state.turns) == (len(model.log), len(model.queue), model.turns)
            pending = await self._handle(0).query(PENDING_ACTIONS_QUERY, result_type=list[PendingAction])
            queried = [action.id for action in pending]
            assert queried == waiting, f"the query says {queried}, the model {waiting}, the log {self.live[0][-12:]}"
        assert (await session.status()).value == model.status
        told = [action.id for action in await session.pending_actions()]
        assert told == waiting, f"the client says {told}, the model {waiting}, the log {self.live[0][-12:]}"
        if model.phase == "step":
            await self.world.director.thinks(self.workflow_id)
        for call in model.running:
            await self.world.director.began(self.ids[call.number])

    async def unchanged(self, act: Awaitable[object], refusal: type[SojournError] | None) -> None:
        """Do something that leaves no trace, refused or not."""
        before = len(self.model.log)
        await self.attempt(act, refusal)
        await self._compare()
        assert len(await self.world.runtimes[2].list_events(self.id, owner=self.owner)) == before

    async def end(self) -> list[SessionEvent]:
        """Archive what lives, and read the log in every way."""
        if self.deleted:
            await asyncio.wait(self._readers, timeout=PATIENCE)
            return []
        if not self.model.closed:
            self.model.archive()
            await self.session(0).archive()
        await self.settle()
        _, late = await asyncio.wait(self._readers, timeout=PATIENCE)
        assert not late, "a stream did not end with its session"
        log = await self.world.runtimes[2].list_events(self.id, owner=self.owner)
        assert self.live == [log, log]
        return log

    async def close(self) -> None:
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        with suppress(SojournError):
            if not self.deleted:
                await self.session(0).archive()

    def _handle(self, client: int) -> Any:
        handle: Client = self.world.clients[client]
        return handle.get_workflow_handle(self.workflow_id)


def answer_to(id: str, kind: str, answer: str, *, event_id: str = "") -> UserToolConfirmation | UserCustomToolResult:
    """An answer of a kind to a call."""
    if kind == CUSTOM:
        content = [{"type": "text", "text": answer}]
        return UserCustomToolResult.model_validate({"id": event_id, "custom_tool_use_id": id, "content": content})
    return UserToolConfirmation.model_validate({"id": event_id, "tool_use_id": id, "result": answer})


def lines(log: Sequence[SessionEvent], ids: dict[int, str]) -> list[str]:
    """The log in the words of the model; ``ids`` gets the calls that it shows."""
    numbers = {id: f"#{number}" for number, id in ids.items()}
    shown = []
    for event in log:
        if event.type in ("agent.tool_use", "agent.custom_tool_use") and event.id not in numbers:
            ids[len(numbers) + 1] = event.id
            numbers[event.id] = f"#{len(numbers) + 1}"
        shown.append(_WORDS[event.type](event, numbers))
    return shown


def _idle(event: Any, numbers: dict[str, str]) -> str:
    asked = [numbers[id] for id in getattr(event.stop_reason, "event_ids", ())]
    return " ".join(["idle", event.stop_reason.type, *asked])


_WORDS: dict[str, Callable[[Any, dict[str, str]], str]] = {
    "user.message": lambda event, _: f"message {event.id}",
    "user.interrupt": lambda event, _: "interrupt",
    "user.tool_confirmation": lambda event, numbers: f"answer {numbers.get(event.tool_use_id, '#?')} {event.result}",
    "user.custom_tool_result": lambda event, numbers: (
        f"answer {numbers.get(event.custom_tool_use_id, '#?')} {text_of(event.content)}"
    ),
    "system.message": lambda event, _: "note",
    "agent.message": lambda event, _: "text cut" if event.incomplete else "text",
    "agent.thinking": lambda event, _: "thinking",
    "agent.tool_use": lambda event, numbers: f"use {event.name} {numbers[event.id]}",
    "agent.custom_tool_use": lambda event, numbers: f"custom {event.name} {numbers[event.id]}",
    "agent.tool_result": lambda event, numbers: f"result {numbers[event.tool_use_id]} {event.outcome}",
    "session.status_running": lambda event, _: f"running {event.user_event_id}" if event.user_event_id else "running",
    "session.status_idle": _idle,
    "session.status_rescheduled": lambda event, _: "rescheduled",
    "session.status_paused": lambda event, _: "paused",
    "session.status_resumed": lambda event, _: f"resumed {event.status.value}",
    "session.status_terminated": lambda event, _: f"terminated {event.status.value}",
    "session.updated": lambda event, _: "updated",
    "session.usage": lambda event, _: "usage",
    "session.error": lambda event, _: f"error {event.error.retry_status.type}",
    "span.model_request_start": lambda event, _: "step>",
    "span.model_request_end": lambda event, _: "step<!" if event.is_error else "step<",
}

__all__ = ["GHOST", "PATIENCE", "STRANGER", "Play", "World", "answer_to", "lines"]
