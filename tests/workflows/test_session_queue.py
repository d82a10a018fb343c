"""Messages that arrive while a turn is in progress, and what counts as the same message."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from temporalio.client import WorkflowHandle

from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import (
    InvalidRequestError,
    ModelRequestStart,
    RollOver,
    SessionRunning,
    SessionStateError,
    TextBlock,
    UserInterrupt,
    UserMessage,
)
from sojourn.types.id import new_event_id
from sojourn.types.name import USER_EVENTS_SIGNAL
from sojourn.types.record import UserEvents

if TYPE_CHECKING:
    from tests.conftest import Probe, Stage


def _messages(number: int) -> list[UserMessage]:
    return [UserMessage.text(f"{place}") for place in range(number)]


async def test_messages_run_one_after_another_in_the_order_they_came(stage: "Stage") -> None:
    running, release = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        running.set()
        await release.wait()

    turns = [ScriptedTurn(calls=[ScriptedCall("hold")]), *(ScriptedTurn(text=f"{place}") for place in range(4))]
    probe = await stage.session(*turns, tools=[hold])
    sent = [await probe.session.send("first")]
    await running.wait()

    sent += [await probe.session.send(f"{place}") for place in range(3)]
    await probe.caught_up()
    assert len(probe.of(SessionRunning)) == 1
    release.set()
    await probe.idle(4)

    assert [event.user_event_id for event in probe.of(SessionRunning)] == [event.id for event in sent]
    assert probe.texts() == ["0", "1", "2", "3"]


async def test_many_messages_in_one_call(stage: "Stage") -> None:
    probe = await stage.session()

    sent = await stage.runtime.send_event(probe.session, *_messages(40))
    await probe.idle(40)

    assert [event.id for event in probe.of(UserMessage)] == [event.id for event in sent]
    assert probe.texts() == [f"You said: {place}" for place in range(40)]


async def test_many_senders_at_once_lose_and_repeat_nothing(stage: "Stage") -> None:
    probe = await stage.session()

    sent = await asyncio.gather(*(probe.session.send(f"{place}") for place in range(30)))
    await probe.idle(30)

    logged = [event.id for event in probe.of(UserMessage)]
    assert sorted(logged) == sorted(event.id for event in sent)
    assert [event.user_event_id for event in probe.of(SessionRunning)] == logged


async def test_messages_interrupts_and_pauses_from_all_sides_lose_no_message(stage: "Stage") -> None:
    words = ScriptedTurn(text="a b c d e", chunk_delay=timedelta(milliseconds=10))
    probe = await stage.session(words, roll_over=RollOver(max_events=40))
    number = 15

    async def talk() -> None:
        for place in range(number):
            await probe.session.send(f"{place}")

    async def interrupt() -> None:
        for place in range(number):
            await probe.saw(UserMessage, place + 1)
            await probe.session.interrupt()

    async def hold() -> None:
        for _ in range(number):
            with suppress(SessionStateError):
                await probe.session.pause()
            with suppress(SessionStateError):
                await probe.session.resume()

    await asyncio.gather(talk(), interrupt(), hold())
    await probe.saw(SessionRunning, number, where=lambda event: event.user_event_id is not None)
    await probe.session.wait_idle(timeout=timedelta(seconds=60))
    await probe.caught_up()

    begun = [event.user_event_id for event in probe.of(SessionRunning) if event.user_event_id is not None]
    assert begun == [event.id for event in probe.of(UserMessage)]


async def test_the_same_event_sent_again_is_one_event(stage: "Stage") -> None:
    probe = await stage.session()
    message = UserMessage.text("once", id=new_event_id())

    await asyncio.gather(*(probe.session.send(message) for _ in range(5)))
    await probe.idle()
    await probe.session.send(message)
    await probe.session.send_and_wait("other")
    await probe.idle(2)

    assert probe.texts() == ["You said: once", "You said: other"]
    assert len(probe.of(UserMessage)) == 2


async def test_the_same_event_in_another_call_is_one_event(stage: "Stage") -> None:
    probe = await stage.session()
    first, second = UserMessage.text("1", id=new_event_id()), UserMessage.text("2", id=new_event_id())

    await stage.runtime.send_event(probe.session, first)
    await stage.runtime.send_event(probe.session, first, second)
    await stage.runtime.send_event(probe.session, second, first)
    await probe.idle(2)
    await probe.caught_up()

    assert probe.texts() == ["You said: 1", "You said: 2"]


async def test_the_same_event_after_continue_as_new_is_one_event(stage: "Stage") -> None:
    probe = await stage.session(roll_over=RollOver(max_events=20))
    message = UserMessage.text("once", id=new_event_id())
    await probe.session.send(message)
    await probe.idle()
    for _ in range(3):
        await probe.session.send_and_wait("more")
    assert await probe.runs() > 1

    await probe.session.send(message)
    await probe.session.send_and_wait("last")
    await probe.idle(5)

    assert probe.texts().count("You said: once") == 1
    assert len(probe.of(UserMessage)) == 5


async def test_two_events_of_one_call_cannot_share_an_id(stage: "Stage") -> None:
    probe = await stage.session()
    id = new_event_id()

    with pytest.raises(InvalidRequestError):
        await stage.runtime.send_event(probe.session, UserMessage.text("a", id=id), UserMessage.text("b", id=id))

    assert await stage.runtime.list_events(probe.session) == []


async def test_a_call_with_an_invalid_event_stores_nothing(stage: "Stage") -> None:
    probe = await stage.session()

    with pytest.raises(InvalidRequestError):
        await stage.runtime.send_event(probe.session, UserMessage.text("good"), UserMessage.text("  "))

    assert await stage.runtime.list_events(probe.session) == []


async def test_events_of_one_call_stay_together_and_in_order(stage: "Stage") -> None:
    probe = await stage.session()

    batches = [[f"{name}{place}" for place in range(5)] for name in "abcd"]
    calls = (stage.runtime.send_event(probe.session, *map(UserMessage.text, batch)) for batch in batches)
    await asyncio.gather(*calls)
    await probe.idle(20)

    logged = [block.text for event in probe.of(UserMessage) for block in event.content if isinstance(block, TextBlock)]
    assert sorted(logged[place : place + 5] for place in range(0, 20, 5)) == batches


async def test_a_message_with_an_interrupt_behind_it_in_one_call_is_kept(stage: "Stage") -> None:
    probe = await stage.session()
    await probe.session.send_and_wait("zero")

    await stage.runtime.send_event(probe.session, UserMessage.text("one"), UserInterrupt())
    await probe.saw(ModelRequestStart, 2)
    await probe.session.wait_idle()
    await probe.caught_up()

    assert probe.texts() == ["You said: zero", "You said: one"]


def _handle(probe: "Probe", stage: "Stage") -> "WorkflowHandle[object, object]":
    return stage.client.get_workflow_handle(probe.workflow_id)


async def test_a_signal_that_cannot_be_read_is_dropped_by_workflow_and_reader_alike(stage: "Stage") -> None:
    probe = await stage.session()
    await probe.session.send_and_wait("before")

    await _handle(probe, stage).signal(USER_EVENTS_SIGNAL, {"sent": [{"type": "user.message", "content": []}]})
    await _handle(probe, stage).signal(USER_EVENTS_SIGNAL, "rubbish")
    await _handle(probe, stage).signal(USER_EVENTS_SIGNAL, args=[UserEvents(sent=(UserMessage.text("two"),)), "two"])
    await _handle(probe, stage).signal(USER_EVENTS_SIGNAL, args=["two", 2])
    await _handle(probe, stage).signal("another_signal", "rubbish")
    await probe.session.send_and_wait("after")
    await probe.idle(2)

    assert probe.texts() == ["You said: before", "You said: after"]


async def test_a_signal_without_an_argument_does_not_stop_the_session(stage: "Stage") -> None:
    probe = await stage.session()
    await probe.session.send_and_wait("before")

    await _handle(probe, stage).signal(USER_EVENTS_SIGNAL)
    await probe.session.send("after")
    await probe.idle(2)

    assert probe.texts() == ["You said: before", "You said: after"]


async def test_events_signalled_without_ids_get_the_same_ids_everywhere(stage: "Stage") -> None:
    """As an operator does it, with the `temporal` command."""
    probe = await stage.session()

    await _handle(probe, stage).signal(USER_EVENTS_SIGNAL, UserEvents(sent=(UserMessage.text("by hand"),)))
    await _handle(probe, stage).signal(USER_EVENTS_SIGNAL, UserEvents(sent=(UserMessage.text("by hand"),)))
    await probe.idle(2)

    assert probe.texts() == ["You said: by hand"] * 2
    assert [event.user_event_id for event in probe.of(SessionRunning)] == [event.id for event in probe.of(UserMessage)]
