"""The runtime on a real server: starting, sending, lists, waiting, and whose session it is."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from sojourn.client import AgentRuntime, SessionHandle
from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import (
    ActionRequiredError,
    AgentMessage,
    InvalidRequestError,
    ModelRequestStart,
    Owner,
    PermissionPolicy,
    SessionExistsError,
    SessionNotFoundError,
    SessionStatus,
    UserMessage,
)
from sojourn.types.session import UpdateSessionInput

if TYPE_CHECKING:
    from tests.conftest import Eventually, Stage

DONE = ScriptedTurn(text="done")


def _pay() -> None:
    return None


async def _first(runtime: AgentRuntime, session: SessionHandle) -> None:
    async for _ in runtime.stream_events(session, from_seq=0):
        return


OPERATIONS: dict[str, Callable[[AgentRuntime, SessionHandle], Awaitable[object]]] = {
    "send": lambda runtime, session: session.send("hi"),
    "send_and_wait": lambda runtime, session: session.send_and_wait("hi"),
    "confirm": lambda runtime, session: session.confirm("sevt_x", allow=True),
    "answer": lambda runtime, session: session.answer("sevt_x", "text"),
    "interrupt": lambda runtime, session: session.interrupt(),
    "pause": lambda runtime, session: session.pause(),
    "resume": lambda runtime, session: session.resume(),
    "update": lambda runtime, session: session.update(UpdateSessionInput(title="mine now")),
    "archive": lambda runtime, session: session.archive(),
    "delete": lambda runtime, session: session.delete(),
    "status": lambda runtime, session: session.status(),
    "info": lambda runtime, session: session.info(),
    "pending_actions": lambda runtime, session: session.pending_actions(),
    "wait_idle": lambda runtime, session: session.wait_idle(),
    "list_events": lambda runtime, session: runtime.list_events(session),
    "stream_events": _first,
}


@pytest.mark.parametrize("stranger", ["other user", "other workspace"])
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_session_of_somebody_else_does_not_exist(stage: "Stage", operation: str, stranger: str) -> None:
    probe = await stage.open(await stage.agent(model="scripted:echo"))
    workspace = stage.owner.workspace
    owner = Owner(workspace, "eve") if stranger == "other user" else Owner(f"{workspace}-b", "ada")

    # The runtime has met the session; what it remembers must not help a stranger.
    await probe.session.info()
    with pytest.raises(SessionNotFoundError):
        await OPERATIONS[operation](stage.runtime, stage.runtime.session(probe.session.id, owner=owner))

    assert await stage.runtime.list_events(probe.session) == []
    assert (await probe.session.info()).title is None
    probe.forget()


async def test_lists_show_the_owners_sessions_only(stage: "Stage", eventually: "Eventually") -> None:
    agent = await stage.agent(model="scripted:echo")
    users = {user: Owner(stage.owner.workspace, user) for user in ("ada", "bob")}
    sessions = {user: await stage.runtime.start_session(agent, owner=owner) for user, owner in users.items()}

    async def listed() -> bool:
        return len((await stage.runtime.list_sessions(every_user=True)).data) == 2

    await eventually(listed, "both sessions are listed for an operator")
    for user, owner in users.items():
        assert [each.id for each in (await stage.runtime.list_sessions(owner=owner)).data] == [sessions[user].id]
    assert (await stage.runtime.list_sessions(owner=Owner("elsewhere", "ada"))).data == []


async def test_lists_can_be_narrowed_and_come_in_pages(stage: "Stage", eventually: "Eventually") -> None:
    await stage.work()
    one, two = await stage.agent(model="scripted:echo", name="one"), await stage.agent(model="scripted:echo")
    mine = [await stage.runtime.start_session(one) for _ in range(3)]
    other = await stage.runtime.start_session(two)
    await other.send_and_wait("hi")

    async def listed() -> bool:
        idle = await stage.runtime.list_sessions(statuses=[SessionStatus.IDLE])
        return len((await stage.runtime.list_sessions()).data) == 4 and len(idle.data) == 1

    await eventually(listed, "four sessions are listed, one of them idle")
    of_one = await stage.runtime.list_sessions(agent=one)
    first = await stage.runtime.list_sessions(agent=one, limit=2)
    rest = await stage.runtime.list_sessions(agent=one, limit=2, page=first.next_page)

    assert {each.id for each in of_one.data} == {session.id for session in mine}
    assert [each.id for each in [*first.data, *rest.data]] == [each.id for each in of_one.data]
    assert (await stage.runtime.list_sessions(stop_reason="end_turn")).data[0].id == other.id


async def test_a_session_id_can_be_taken_once(stage: "Stage") -> None:
    await stage.work()
    agent = await stage.agent(model="scripted:echo")
    probe = await stage.open(agent, session_id="order-17")

    with pytest.raises(SessionExistsError) as error:
        await stage.runtime.start_session(agent, session_id="order-17")

    assert error.value.session_id == "order-17"
    await probe.session.archive()
    with pytest.raises(SessionExistsError):
        await stage.runtime.start_session(agent, session_id="order-17")


async def test_the_same_id_in_two_workspaces_is_two_sessions(stage: "Stage") -> None:
    await stage.work()
    here = await stage.open(await stage.agent(model="scripted:echo"), session_id="same")
    other = Owner(f"{stage.owner.workspace}-b", "ada")
    agent = await stage.runtime.create((await (await stage.agent(model="scripted:echo")).get()).definition, owner=other)
    there = stage.watch(await stage.runtime.start_session(agent, session_id="same"))

    await here.session.send_and_wait("here")
    await there.session.send_and_wait("there")

    assert (here.texts(), there.texts()) == (["You said: here"], ["You said: there"])


async def test_send_and_wait_gives_the_answer_of_its_own_turn(stage: "Stage") -> None:
    probe = await stage.session()

    answers = await asyncio.gather(*(probe.session.send_and_wait(f"{place}") for place in range(5)))

    assert [answer.text for answer in answers] == [f"You said: {place}" for place in range(5)]


async def test_send_and_wait_gives_the_last_thing_said(stage: "Stage") -> None:
    probe = await stage.session(
        ScriptedTurn(text="first", calls=[ScriptedCall("_pay")]), ScriptedTurn(text="last"), tools=[_pay]
    )

    answer = await probe.session.send_and_wait("go")

    assert isinstance(answer, AgentMessage)
    assert answer.text == "last"


async def test_send_and_wait_says_that_an_answer_is_needed(stage: "Stage") -> None:
    probe = await stage.session(
        ScriptedTurn(calls=[ScriptedCall("_pay")]), DONE, tools=[_pay], policy=PermissionPolicy(default="ask")
    )

    with pytest.raises(ActionRequiredError) as error:
        await probe.session.send_and_wait("go")

    assert error.value.event_ids == await probe.parked()


async def test_a_wait_that_is_given_up_leaves_the_turn_running(stage: "Stage") -> None:
    release = asyncio.Event()

    async def hold() -> None:
        await release.wait()

    probe = await stage.session(ScriptedTurn(calls=[ScriptedCall("hold")]), DONE, tools=[hold])
    with pytest.raises(TimeoutError):
        await probe.session.send_and_wait("go", timeout=timedelta(milliseconds=200))
    with pytest.raises(TimeoutError):
        await probe.session.wait_idle(timeout=timedelta(milliseconds=200))

    release.set()

    assert await probe.session.wait_idle() is SessionStatus.IDLE
    assert probe.texts() == ["done"]


async def test_wait_idle_waits_for_what_was_sent_before(stage: "Stage") -> None:
    probe = await stage.session()

    for place in range(5):
        await probe.session.send(f"{place}")
        assert await probe.session.wait_idle() is SessionStatus.IDLE
        stored = await stage.runtime.list_events(probe.session)
        assert [event.text for event in stored if isinstance(event, AgentMessage)][-1] == f"You said: {place}"


async def test_wait_idle_after_an_answer_waits_for_what_comes_of_it(stage: "Stage") -> None:
    probe = await stage.session(
        ScriptedTurn(calls=[ScriptedCall("_pay")]), DONE, tools=[_pay], policy=PermissionPolicy(default="ask")
    )
    await probe.session.send("go")
    (call,) = await probe.parked()

    await probe.session.confirm(call, allow=True)
    await probe.session.wait_idle()

    stored = await stage.runtime.list_events(probe.session)
    assert [event.text for event in stored if isinstance(event, AgentMessage)] == ["done"]


async def test_wait_idle_is_not_fooled_by_a_reader_that_lags_a_run_behind(stage: "Stage") -> None:
    """A reader without a long poll may still be in the run before when the session has rolled over."""
    from sojourn.types import RollOver

    turns = [*([ScriptedTurn(text="t")] * 3), ScriptedTurn(stall=True)]
    probe = await stage.session(*turns, roll_over=RollOver(max_events=20))
    lagging = stage.another_runtime(long_polls=0)
    slow = lagging.session(probe.session.id)
    for _ in range(3):
        await probe.session.send_and_wait("go")
        await slow.wait_idle()
    await probe.session.send("stall")
    await probe.saw(ModelRequestStart, 4)

    with pytest.raises(TimeoutError):
        await slow.wait_idle(timeout=timedelta(milliseconds=500))

    assert await probe.runs() > 1


async def test_a_session_with_too_much_metadata_is_refused(stage: "Stage") -> None:
    agent = await stage.agent(model="scripted:echo")

    with pytest.raises(InvalidRequestError, match="metadata"):
        await stage.runtime.start_session(agent, metadata={f"k{place}": "v" for place in range(17)})
    with pytest.raises(InvalidRequestError, match="title"):
        await stage.runtime.start_session(agent, title="x" * 1001)


async def test_an_empty_message_is_refused(stage: "Stage") -> None:
    probe = await stage.session()

    with pytest.raises(InvalidRequestError):
        await probe.session.send("  ")

    assert await stage.runtime.list_events(probe.session) == []


async def test_a_large_message_passes(stage: "Stage") -> None:
    probe = await stage.session(script=lambda request: DONE)

    assert (await probe.session.send_and_wait("x" * 1_500_000)).text == "done"


async def test_an_event_comes_back_with_its_id(stage: "Stage") -> None:
    probe = await stage.session()

    (sent,) = await stage.runtime.send_event(probe.session, UserMessage.text("hi"))
    await probe.idle()

    assert sent.id.startswith("sevt_")
    assert probe.log[0].id == sent.id


async def test_an_unknown_session_is_not_found(stage: "Stage") -> None:
    session = stage.runtime.session("sesn_nothing")

    for operation in OPERATIONS.values():
        with pytest.raises(SessionNotFoundError):
            await operation(stage.runtime, session)


async def test_a_session_started_in_one_runtime_is_answered_from_another(stage: "Stage") -> None:
    probe = await stage.session(
        ScriptedTurn(calls=[ScriptedCall("_pay")]), DONE, tools=[_pay], policy=PermissionPolicy(default="ask")
    )
    second, third = (stage.another_runtime().session(probe.session.id) for _ in range(2))
    await probe.session.send("go")
    await probe.parked()

    (action,) = await second.pending_actions()
    await third.confirm(action, allow=True)

    assert await second.wait_idle() is SessionStatus.IDLE
    assert probe.texts() == ["done"]


async def test_deletion_is_told_to_one_who_has_seen_the_end_before(stage: "Stage") -> None:
    probe = await stage.session()
    await probe.session.send_and_wait("hello")
    probe.forget()

    async with stage.runtime.follow(probe.session) as events:
        reading = asyncio.create_task(anext(events))
        await probe.session.delete()

        with pytest.raises(SessionNotFoundError):
            await asyncio.wait_for(reading, 60)


async def test_deletion_is_told_inside_the_block_that_follows(stage: "Stage") -> None:
    probe = await stage.session()
    await probe.session.send_and_wait("hello")
    probe.forget()

    async with stage.runtime.follow(probe.session) as events:
        await probe.session.delete()

        with pytest.raises(SessionNotFoundError):
            async for _ in events:
                pass
