"""Talking to an agent, ours or raw, as its caller does: send, watch, know when the turn is over."""

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

from process import LONG_POLLS
from raw import RAW_MODEL, RawAgent, RawMessage
from script import QUESTION
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHandle

from sojourn.client import AgentRuntime, SessionHandle
from sojourn.types import (
    AgentDefinition,
    AgentMessage,
    AgentVersion,
    SessionEvent,
    SessionIdle,
    UserMessage,
)


class Talk(Protocol):
    """One conversation."""

    workflow_id: str

    async def start(self) -> float:
        """Begin with a message and wait for the end of its turn. Gives the seconds until its reply was seen."""
        ...

    async def turn(self) -> float:
        """The same with one more message."""
        ...

    async def close(self) -> None:
        """Stop watching. The conversation stays."""
        ...


class OurTalk:
    """Ours: a handle and the event stream. The turn is over with `session.status_idle`."""

    def __init__(self, runtime: AgentRuntime, agent: AgentVersion) -> None:
        self.workflow_id = ""
        self._runtime = runtime
        self._agent = agent
        self._session: SessionHandle
        self._events: AsyncIterator[SessionEvent]
        self._stack = AsyncExitStack()

    async def start(self) -> float:
        began = perf_counter()
        message = UserMessage.text(QUESTION)
        self._session = await self._runtime.start_session(self._agent, initial_events=[message])
        self.workflow_id = f"{self._runtime.owner.workspace}/{self._session.id}"
        follow = self._runtime.follow(self._session, from_seq=0)
        self._events = await self._stack.enter_async_context(follow)  # type: ignore[assignment]
        return await self._reply() - began

    async def turn(self) -> float:
        began = perf_counter()
        await self._session.send(QUESTION)
        return await self._reply() - began

    async def close(self) -> None:
        await self._stack.aclose()

    async def _reply(self) -> float:
        seen = 0.0
        while True:
            match await anext(self._events):
                case AgentMessage():
                    seen = perf_counter()
                case SessionIdle():
                    return seen


class RawTalk:
    """Raw: a history long poll. The turn is over with the workflow task after the answer, the peer of our idle."""

    def __init__(self, client: Client, task_queue: str) -> None:
        self.workflow_id = f"raw-{uuid.uuid4().hex}"
        self._client = client
        self._task_queue = task_queue
        self._events: AsyncIterator[HistoryEvent]
        self._handle: WorkflowHandle[RawAgent, None]
        self._models: set[int] = set()

    async def start(self) -> float:
        began = perf_counter()
        self._handle = await self._client.start_workflow(
            RawAgent.run,
            id=self.workflow_id,
            task_queue=self._task_queue,
            start_signal="message",
            start_signal_args=[QUESTION],
        )
        self._events = aiter(self._handle.fetch_history_events(wait_new_event=True))
        return await self._reply() - began

    async def turn(self) -> float:
        began = perf_counter()
        await self._handle.signal(RawAgent.message, QUESTION)
        return await self._reply() - began

    async def close(self) -> None:
        return

    async def _reply(self) -> float:
        seen = 0.0
        while True:
            event = await anext(self._events)
            match event.event_type:
                case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                    if event.activity_task_scheduled_event_attributes.activity_type.name == RAW_MODEL:
                        self._models.add(event.event_id)
                case EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
                    if await self._is_answer(event):
                        seen = perf_counter()
                case EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED if seen:
                    return seen

    async def _is_answer(self, event: HistoryEvent) -> bool:
        completed = event.activity_task_completed_event_attributes
        if completed.scheduled_event_id not in self._models:
            return False
        answer: RawMessage
        (answer,) = await self._client.data_converter.decode(completed.result.payloads, [RawMessage])
        return answer.call is None


@dataclass(frozen=True)
class Ours:
    """Makes conversations with our agents."""

    runtime: AgentRuntime
    agent: AgentVersion
    """Read once, as a service does that starts many sessions of one agent."""
    name: str = "sojourn"

    @classmethod
    async def make(cls, client: Client, task_queue: str, *, script: str = "turn") -> "Ours":
        """An agent that answers from a script, and a client of its own."""
        runtime = AgentRuntime(client, task_queue=task_queue, long_polls=LONG_POLLS)
        definition = AgentDefinition.model_validate(
            {"name": f"bench {script}", "model": f"scripted:{script}", "tools": ["look_up"]}
        )
        agent = await (await runtime.create(definition)).get()
        return cls(runtime, agent)

    def talk(self) -> OurTalk:
        return OurTalk(self.runtime, self.agent)


@dataclass(frozen=True)
class Raw:
    """Makes conversations with the raw agent."""

    client: Client
    task_queue: str
    name: str = "raw"

    def talk(self) -> RawTalk:
        return RawTalk(self.client, self.task_queue)


Side = Ours | Raw
