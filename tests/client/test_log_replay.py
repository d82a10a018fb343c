"""Whatever a session did: the log read from any place is the tail of the whole log, and counts as the workflow does."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sojourn.activities.conversation import UserTurn
from sojourn.activities.model import ModelRequest
from sojourn.testing import ScriptedCall, ScriptedFailure, ScriptedTurn
from sojourn.types import (
    ConflictError,
    CustomTool,
    Limits,
    NotFoundError,
    PermissionPolicy,
    RollOver,
    SessionEvent,
    SystemMessage,
    TextBlock,
    UserInterrupt,
    UserMessage,
    text_of,
)
from sojourn.types.event import Event
from sojourn.types.session import UpdateSessionInput

if TYPE_CHECKING:
    from tests.conftest import Probe, Stage

    from sojourn.client import AgentRuntime, SessionHandle

LOOK = CustomTool(name="look", description="Look.", input_schema={"type": "object"})

STEPS = {
    "talk": ScriptedTurn(text="a few words"),
    "think": ScriptedTurn(thinking="hm", text="well"),
    "add": ScriptedTurn(text="adding", calls=[ScriptedCall("add"), ScriptedCall("add")]),
    "pay": ScriptedTurn(calls=[ScriptedCall("pay"), ScriptedCall("add")]),
    "look": ScriptedTurn(calls=[ScriptedCall("look"), ScriptedCall("nothing")]),
    "fail": ScriptedTurn(text="at last", failure=ScriptedFailure()),
    "stall": ScriptedTurn(text="half a", stall=True),
}

OPERATION = st.one_of(
    st.sampled_from(sorted(STEPS)).map(lambda name: f"say {name}"),
    st.sampled_from(["interrupt", "pause", "resume", "note", "batch", "answer", "idle", "again", "title"]),
)


def _script(request: ModelRequest) -> ScriptedTurn:
    """What the last message asks for, once; then a word to end the turn."""
    last = request.messages[-1] if request.messages else None
    if not isinstance(last, UserTurn):
        return ScriptedTurn(text="done")
    return STEPS.get(text_of(last.content), STEPS["talk"])


def add() -> int:
    return 3


def pay() -> str:
    return "paid"


@settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    program=st.lists(OPERATION, min_size=4, max_size=14),
    max_events=st.sampled_from([20, 35, 1500]),
    long_polls=st.sampled_from([0, 300]),
)
async def test_every_place_of_any_log_can_be_read_from(
    stage: "Stage", program: list[str], max_events: int, long_polls: int
) -> None:
    if not stage.workers:
        await stage.work(_script, tools=[add, pay])
    agent = await stage.agent(
        "add",
        "pay",
        LOOK,
        policy=PermissionPolicy(tools={"pay": "ask"}),
        limits=Limits(retry_interval=Limits().retry_interval / 100),
    )
    probe = await stage.open(agent, roll_over=RollOver(max_events=max_events))
    reader = stage.another_runtime(long_polls=long_polls)
    watching = asyncio.create_task(_read(reader, probe.session, 0))

    for operation in program:
        await _perform(stage, probe, operation)
    await probe.caught_up()
    await probe.check(served=True)
    await probe.session.archive()
    await probe.ended()

    await probe.check(served=True)
    log, places = probe.log, range(len(probe.log) + 1)
    assert await watching == log
    assert await asyncio.gather(*(reader.list_events(probe.session, from_seq=place) for place in places)) == [
        log[place:] for place in places
    ]
    assert await asyncio.gather(*(_read(reader, probe.session, place) for place in places)) == [
        log[place:] for place in places
    ]
    await reader.close()


async def _perform(stage: "Stage", probe: "Probe", operation: str) -> None:
    session = probe.session
    match operation.split():
        case ["say", what]:
            await session.send(what)
        case ["interrupt"]:
            await session.interrupt()
        case ["note"]:
            await session.send(SystemMessage(content=(TextBlock(text="note"),)))
        case ["batch"]:
            await stage.runtime.send_event(session, UserMessage.text("add"), UserInterrupt(), UserMessage.text("talk"))
        case ["again"]:
            sent = [event for event in probe.log if isinstance(event, UserMessage)]
            for event in sent[-1:]:
                await session.send(event)
        case ["title"]:
            await session.update(UpdateSessionInput(title="t", metadata={"k": "v"}))
        case ["pause" | "resume" as verb]:
            await _tried(getattr(session, verb)())
        case ["answer"]:
            for action in await session.pending_actions():
                if action.kind == "confirmation":
                    await _tried(session.confirm(action, allow=len(probe.log) % 2 == 0))
                else:
                    await _tried(session.answer(action, "seen"))
        case ["idle"]:
            await probe.caught_up()


async def _tried(attempt: Awaitable[None]) -> None:
    """Try what may be refused in the state that the session happens to be in."""
    with suppress(ConflictError, NotFoundError):
        await attempt


async def _read(runtime: "AgentRuntime", session: "SessionHandle", place: int) -> list[SessionEvent]:
    async with asyncio.timeout(60):
        stream = runtime.stream_events(session, from_seq=place)
        return [event async for event in stream if isinstance(event, Event)]
