"""A client in a process of its own, for the nursery.

It plays the scripts of its sessions, several at once, and may be killed at any moment: what it wants to send is in its
journal before it is sent, and after a restart it goes on where it was, with the same ids.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from zlib import crc32

from pydantic import TypeAdapter
from temporalio.service import RPCError
from tests.chaos.journal import Done, Effect, Journal, Sent, read
from tests.chaos.life import connected
from tests.chaos.plan import Move, SessionPlan, Setting, event_id, session
from tests.chaos.script import ASKS

from sojourn.client import AgentRuntime, SessionHandle
from sojourn.types import (
    AgentCustomToolUse,
    AgentToolResult,
    AgentToolUse,
    ConflictError,
    EventId,
    InternalError,
    ModelRequestEnd,
    ModelRequestStart,
    NotFoundError,
    Owner,
    RequiresAction,
    RollOver,
    SessionEvent,
    SessionExistsError,
    SessionIdle,
    SessionRunning,
    SessionTerminated,
    SojournError,
    SystemMessage,
    TextBlock,
    UpdateSessionInput,
    UserCustomToolResult,
    UserInterrupt,
    UserMessage,
    UserToolConfirmation,
)
from sojourn.types.event import UserEvent
from sojourn.types.name import USER_EVENTS_SIGNAL

_USER_EVENT: TypeAdapter[UserEvent] = TypeAdapter(UserEvent)

AGAIN = 0.2
"""Seconds before something that failed is tried again."""


class Player:
    """Plays the script of one session."""

    def __init__(self, runtime: AgentRuntime, agent: str, plan: SessionPlan, folder: Path) -> None:
        self._runtime = runtime
        self._agent = agent
        self._plan = plan
        self._folder = folder
        path = folder / "sent" / f"{plan.id}.jsonl"
        self._sent = [line for line in read(path, Sent) if line.state == "intent"]
        self._states = {line.id: line.state for line in read(path, Sent)}
        self._made = max((line.move for line in read(path, Done)), default=-1)
        self._journal = Journal(path)
        self._log: list[SessionEvent] = []
        self._changed = asyncio.Event()
        self._holding = False
        """Leave calls unanswered, because an interrupt shall find them."""

    async def play(self) -> None:
        """From where the last process stopped to the end of the script."""
        handle = await self._start()
        await self._send_again(handle)
        watching = asyncio.create_task(self._watch(handle))
        try:
            for place, move in enumerate(self._plan.moves):
                if place > self._made:
                    reason = await self._make(handle, place, move)
                    self._journal.write(Done(move=place, reason=reason))
            await self._until(self._over)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            self._journal.close()

    # --- moves -----------------------------------------------------------------------------------------------------

    async def _start(self) -> SessionHandle:
        first = self._event(0, self._plan.moves[0]) if self._plan.first else None
        initial = [first] if isinstance(first, UserMessage) else []
        for event in initial:
            self._intend(event)
        while True:
            try:
                handle = await self._runtime.start_session(
                    self._agent,
                    session_id=self._plan.id,
                    initial_events=initial,
                    roll_over=RollOver(max_events=self._plan.max_events),
                )
                break
            except SessionExistsError:
                handle = self._runtime.session(self._plan.id)
                break
            except InternalError:
                await asyncio.sleep(AGAIN)
        for event in initial:
            self._note(event.id, "accepted")
        return handle

    async def _make(self, handle: SessionHandle, place: int, move: Move) -> str:
        """Make a move; why it was refused, if it was."""
        match move.kind:
            case "say" | "system":
                event = self._event(place, move)
                assert event is not None
                await self._send(handle, event)
            case "settle":
                await self._until(self._over)
            case "interrupt":
                await self._interrupt(handle, place, move)
            case "garbage":
                await self._garbage(handle)
            case "pause" | "resume" | "archive" | "rename":
                return await self._control(handle, place, move.kind)
        return ""

    def _event(self, place: int, move: Move) -> UserMessage | SystemMessage | None:
        id = EventId(event_id(self._plan.id, str(place)))
        if move.kind == "system":
            return SystemMessage(id=id, content=(TextBlock(text=f"instruction {place}"),))
        if move.order is None:
            return None
        return UserMessage.text(f"message {place}\n{move.order.model_dump_json()}", id=id)

    async def _interrupt(self, handle: SessionHandle, place: int, move: Move) -> None:
        self._holding = move.when == "park"
        if move.when != "now":
            said = max(at for at in range(place) if _stalls(self._plan.moves[at]))
            await self._until(lambda: self._reached(said, move.when))
        await self._send(handle, UserInterrupt(id=EventId(event_id(self._plan.id, str(place)))))
        self._holding = False

    def _reached(self, said: int, when: str) -> bool:
        """Whether the turn of that message is where the interrupt shall find it, or past it."""
        turn = self._turn(EventId(event_id(self._plan.id, str(said))))
        if not turn:
            return False
        if any(isinstance(event, SessionIdle | SessionTerminated) for event in turn):
            return True
        if when == "step":
            return any(isinstance(event, ModelRequestStart) for event in turn)
        if when == "effect":
            keys = {event.id for event in turn if isinstance(event, AgentToolUse)}
            return any(effect.key in keys for effect in read(self._folder / "ledger.jsonl", Effect))
        return False

    async def _garbage(self, handle: SessionHandle) -> None:
        workflow = self._runtime.client.get_workflow_handle(f"{handle.owner.workspace}/{handle.id}")
        for arguments in (["one", "two"], [{"sent": [{"type": "user.message"}]}], []):
            with suppress(RPCError):
                await workflow.signal(USER_EVENTS_SIGNAL, args=arguments)
        with suppress(RPCError):
            await workflow.signal("no_such_signal", "rubbish")

    async def _control(self, handle: SessionHandle, place: int, kind: str) -> str:
        """An update. One whose answer was lost is refused the second time, which is an answer too."""
        make: Callable[[], Awaitable[None]] = {
            "pause": handle.pause,
            "resume": handle.resume,
            "archive": handle.archive,
            "rename": lambda: handle.update(UpdateSessionInput(title=f"title {place}")),
        }[kind]
        while True:
            try:
                await make()
            except ConflictError as error:
                return f"{type(error).__name__}: {error}"
            except InternalError:
                await asyncio.sleep(AGAIN)
            else:
                return ""

    # --- sending ---------------------------------------------------------------------------------------------------

    async def _send(self, handle: SessionHandle, event: UserEvent) -> None:
        if self._states.get(event.id) in ("accepted", "refused"):
            return
        self._intend(event)
        while True:
            try:
                await self._runtime.send_event(handle, event)
            except (ConflictError, NotFoundError) as error:
                return self._note(event.id, "refused", f"{type(error).__name__}: {error}")
            except SojournError:
                await asyncio.sleep(AGAIN)
            else:
                return self._note(event.id, "accepted")

    async def _send_again(self, handle: SessionHandle) -> None:
        """Send what the last process may have sent, with the same ids."""
        for line in self._sent:
            if self._states[line.id] == "intent":
                await self._send(handle, _USER_EVENT.validate_python(line.event))

    def _intend(self, event: UserEvent) -> None:
        if event.id not in self._states:
            self._states[event.id] = "intent"
            self._journal.write(Sent(id=event.id, state="intent", event=event.model_dump(mode="json")))

    def _note(self, id: str, state: str, reason: str = "") -> None:
        if self._states.get(id) == "intent":
            self._states[id] = state
            self._journal.write(Sent(id=id, state=state, reason=reason))

    # --- watching --------------------------------------------------------------------------------------------------

    async def _watch(self, handle: SessionHandle) -> None:
        while True:
            with suppress(SojournError):
                async for event in self._runtime.stream_events(handle, from_seq=len(self._log)):
                    assert not isinstance(event, str)
                    self._log.append(event)  # type: ignore[arg-type]
                    self._changed.set()
                if self._log and isinstance(self._log[-1], SessionTerminated):
                    return
            await asyncio.sleep(AGAIN)

    async def _until(self, holds: Callable[[], bool]) -> None:
        """Wait, and answer what the session asks meanwhile."""
        handle = self._runtime.session(self._plan.id)
        while not holds() and not (self._log and isinstance(self._log[-1], SessionTerminated)):
            parked = self._parked()
            if self._holding and parked:
                return
            for call in () if self._holding else parked or self._asked():
                await self._answer(handle, call)
            self._changed.clear()
            # The ledger tells nobody when it grows, so there is a look at it now and then.
            with suppress(TimeoutError):
                async with asyncio.timeout(AGAIN):
                    await self._changed.wait()

    def _over(self) -> bool:
        """Whether every message that was accepted has had its turn."""
        events = [event for event in self._log if isinstance(event, SessionRunning | SessionIdle)]
        begun = {event.user_event_id for event in events if isinstance(event, SessionRunning)}
        said = [event_id(self._plan.id, str(at)) for at, move in enumerate(self._plan.moves) if move.kind == "say"]
        if not all(id in begun for id in said if self._states.get(id) == "accepted"):
            return False
        last = events[-1] if events else None
        return isinstance(last, SessionIdle) and not isinstance(last.stop_reason, RequiresAction)

    def _turn(self, message: EventId) -> list[SessionEvent]:
        """The events since the turn of a message began; none if it has not."""
        for place, event in enumerate(self._log):
            if isinstance(event, SessionRunning) and event.user_event_id == message:
                return self._log[place:]
        return []

    def _parked(self) -> list[EventId]:
        for event in reversed(self._log):
            if isinstance(event, SessionIdle):
                return list(event.stop_reason.event_ids) if isinstance(event.stop_reason, RequiresAction) else []
            if isinstance(event, SessionRunning):
                return []
        return []

    def _asked(self) -> list[EventId]:
        """Calls of the step in progress that will wait for an answer, for those who answer early."""
        found: list[EventId] = []
        for event in reversed(self._log) if self._plan.early else ():
            if isinstance(event, AgentCustomToolUse) or (isinstance(event, AgentToolUse) and event.name == ASKS):
                found.append(event.id)
            elif not isinstance(event, AgentToolUse | AgentToolResult | ModelRequestEnd):
                break
        return found

    async def _answer(self, handle: SessionHandle, call: EventId) -> None:
        id = EventId(event_id(self._plan.id, f"answer {call}"))
        custom = any(event.id == call and isinstance(event, AgentCustomToolUse) for event in self._log)
        if custom:
            await self._send(handle, UserCustomToolResult(id=id, custom_tool_use_id=call, content=_TEXT))
        else:
            result = "allow" if crc32(call.encode()) % 10 < 7 else "deny"
            await self._send(handle, UserToolConfirmation(id=id, tool_use_id=call, result=result))  # type: ignore[arg-type]


_TEXT = (TextBlock(text="signed"),)


def _stalls(move: Move) -> bool:
    """Whether the message is one that only an interrupt ends."""
    order = move.order
    return order is not None and (order.stall or bool(order.steps))


def agent_file(folder: Path, *, shell: bool) -> Path:
    """Where the supervisor says which agent sessions have, without the shell or with it."""
    return folder / ("agent-shell" if shell else "agent")


async def play(folder: Path, number: int) -> None:
    """Keep so many sessions in flight, until the file ``stop`` says that no more shall begin."""
    setting = Setting.load(folder)
    client = await connected(setting.address)
    owner = Owner(setting.workspace, "ada")
    runtime = AgentRuntime(client, owner=owner, task_queue=setting.queue)
    done = folder / "done"
    free = asyncio.Semaphore(setting.in_flight)
    running: set[asyncio.Task[None]] = set()

    async def one(plan: SessionPlan) -> None:
        try:
            agent = await asyncio.to_thread(agent_file(folder, shell=plan.shell).read_text)
            await Player(runtime, agent, plan, folder).play()
            (done / plan.id).touch()
        finally:
            free.release()

    place = number
    while True:
        plan = session(setting.seed, place, shell=setting.shell)
        begun = folder / "begun" / plan.id
        await free.acquire()
        if (folder / "stop").exists() and not begun.exists():
            break
        place += setting.clients
        if (done / plan.id).exists():
            free.release()
            continue
        begun.write_text(str(place - setting.clients))
        task = asyncio.create_task(one(plan))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    (folder / f"client-{number}.finished").touch()
    await runtime.close()
