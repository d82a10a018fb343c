"""Model calls that fail, and limits that are met."""

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from sojourn.testing import ScriptedCall, ScriptedFailure, ScriptedTurn
from sojourn.types import (
    Limits,
    ModelNotFoundError,
    ModelRequestEnd,
    ModelRequestStart,
    ProviderError,
    SessionClosedError,
    SessionErrorEvent,
    SessionRescheduled,
    SessionStatus,
    SessionTerminated,
    ToolNotFoundError,
    WorkerUnavailableError,
)

if TYPE_CHECKING:
    from tests.conftest import Eventually, PlayedModel, Stage

QUICK = Limits(retry_interval=timedelta(milliseconds=10), model_attempts=3)
DONE = ScriptedTurn(text="done")


def _failing(attempts: int = 1, **fields: object) -> ScriptedTurn:
    return ScriptedTurn(text="at last", failure=ScriptedFailure(attempts=attempts, **fields))  # type: ignore[arg-type]


async def test_a_failed_attempt_is_shown_and_tried_again(stage: "Stage") -> None:
    probe = await stage.session(_failing(2), limits=QUICK)

    answer = await probe.session.send_and_wait("go")
    await probe.idle(reason="end_turn")

    assert answer.text == "at last"
    retry = [
        "span.model_request_start",
        "span.model_request_end",
        "session.error",
        "session.status_rescheduled",
        "session.status_running",
    ]
    answered = ["span.model_request_start", "agent.message", "span.model_request_end"]
    types = [event.type for event in probe.log]
    assert types == [
        "user.message",
        "session.status_running",
        *retry,
        *retry,
        *answered,
        "session.usage",
        "session.status_idle",
    ]
    assert [end.is_error for end in probe.of(ModelRequestEnd)] == [True, True, False]
    assert {event.error.retry_status.type for event in probe.of(SessionErrorEvent)} == {"retrying"}


async def test_the_model_sees_its_message_once_however_often_it_failed(
    stage: "Stage", played: "type[PlayedModel]"
) -> None:
    model = played(_failing(2))
    probe = await stage.session(script=model, limits=QUICK)

    await probe.session.send_and_wait("go")

    assert [request.attempt for request in model.requests] == [1, 2, 3]
    assert [model.context(place) for place in range(3)] == [[("user", "go")]] * 3


async def test_a_rate_limit_waits_as_long_as_the_provider_wants(stage: "Stage") -> None:
    wait = timedelta(milliseconds=700)
    probe = await stage.session(_failing(kind="rate_limited", retry_after=wait), limits=QUICK)

    await probe.session.send_and_wait("go")
    await probe.idle()

    assert probe.of(SessionErrorEvent)[0].error.type == "model_rate_limited_error"
    failed, again = probe.of(ModelRequestEnd)[0].processed_at, probe.of(ModelRequestStart)[1].processed_at
    assert failed is not None
    assert again is not None
    assert again - failed >= wait


async def test_a_retry_that_waits_shows_as_rescheduling(stage: "Stage", eventually: "Eventually") -> None:
    probe = await stage.session(_failing(9), limits=Limits(retry_interval=timedelta(minutes=1)))
    await probe.session.send("go")
    await probe.saw(SessionRescheduled)

    async def listed() -> bool:
        page = await stage.runtime.list_sessions(statuses=[SessionStatus.RESCHEDULING])
        return [each.id for each in page.data] == [probe.session.id]

    await eventually(listed, "the session is listed as rescheduling")
    assert await probe.session.status() is SessionStatus.RESCHEDULING


async def test_used_up_retries_leave_the_session_usable(stage: "Stage") -> None:
    turns = iter([_failing(9)] * 3 + [DONE])
    probe = await stage.session(script=lambda _: next(turns), limits=QUICK)

    with pytest.raises(ProviderError, match="scripted failure"):
        await probe.session.send_and_wait("go")
    await probe.idle(reason="retries_exhausted")
    assert len(probe.of(ModelRequestStart)) == 3
    assert probe.of(SessionErrorEvent)[-1].error.retry_status.type == "exhausted"

    assert (await probe.session.send_and_wait("again")).text == "done"


async def test_used_up_retries_end_the_session_if_the_agent_says_so(stage: "Stage") -> None:
    limits = QUICK.model_copy(update={"on_exhausted": "failed"})
    probe = await stage.session(_failing(9), limits=limits)

    with pytest.raises(ProviderError, match="scripted failure"):
        await probe.session.send_and_wait("go")
    await probe.ended()

    with pytest.raises(SessionClosedError) as error:
        await probe.session.send("more")
    assert error.value.status is SessionStatus.FAILED
    assert await probe.session.status() is SessionStatus.FAILED
    assert probe.of(SessionErrorEvent)[-1].error.retry_status.type == "terminal"
    assert probe.of(SessionTerminated)[0].status is SessionStatus.FAILED
    assert probe.story()[-2:] == ["session.error", "session.status_terminated"]


async def test_a_fatal_failure_is_not_tried_again(stage: "Stage") -> None:
    probe = await stage.session(_failing(9, kind="fatal", message="no such model"), limits=QUICK)

    with pytest.raises(ProviderError, match="no such model"):
        await probe.session.send_and_wait("go")
    await probe.idle(reason="retries_exhausted")

    assert len(probe.of(ModelRequestStart)) == 1
    assert probe.of(SessionErrorEvent)[0].error.type == "model_request_failed_error"


async def test_a_refused_request_is_not_tried_again(stage: "Stage") -> None:
    probe = await stage.session(_failing(9, kind="refused"), limits=QUICK)

    with pytest.raises(ProviderError):
        await probe.session.send_and_wait("go")

    assert len(probe.of(ModelRequestStart)) == 1


async def test_the_limit_of_steps_ends_the_turn_and_not_the_session(stage: "Stage") -> None:
    ran = []

    def more() -> None:
        ran.append(1)

    turn = ScriptedTurn(calls=[ScriptedCall("more")])
    probe = await stage.session(turn, turn, turn, DONE, tools=[more], limits=Limits(max_steps=3))

    with pytest.raises(ProviderError, match="3 model steps"):
        await probe.session.send_and_wait("go")
    await probe.idle(reason="retries_exhausted")

    assert len(ran) == 3
    assert probe.of(SessionErrorEvent)[0].error.type == "tool_use_limit_reached_error"
    assert (await probe.session.send_and_wait("finish")).text == "done"


async def test_a_model_that_the_worker_does_not_have_is_named(stage: "Stage") -> None:
    await stage.work()
    probe = await stage.open(await stage.agent(model="scripted:unknown"))

    with pytest.raises(ModelNotFoundError, match="unknown"):
        await probe.session.send_and_wait("go")

    assert await probe.session.wait_idle() is SessionStatus.IDLE


async def test_a_tool_that_the_worker_does_not_have_is_named(stage: "Stage") -> None:
    await stage.work([DONE])
    probe = await stage.open(await stage.agent("absent"))

    with pytest.raises(ToolNotFoundError, match="absent"):
        await probe.session.send_and_wait("go")

    assert await probe.session.wait_idle() is SessionStatus.IDLE


async def test_a_model_call_over_its_time_limit_is_tried_again(stage: "Stage") -> None:
    turns = iter([ScriptedTurn(text="half a", stall=True), DONE])
    limits = QUICK.model_copy(update={"model_timeout": timedelta(milliseconds=500)})
    probe = await stage.session(script=lambda _: next(turns, DONE), limits=limits)

    assert (await probe.session.send_and_wait("go")).text == "done"


async def test_waiting_without_a_worker_says_so(stage: "Stage") -> None:
    agent = await stage.agent()
    probe = await stage.open(agent)
    probe.forget()

    with pytest.raises(WorkerUnavailableError):
        await probe.session.send_and_wait("is anybody there?")

    assert probe.story() == ["user.message"]


async def test_what_was_sent_without_a_worker_is_done_when_one_comes(stage: "Stage") -> None:
    probe = await stage.open(await stage.agent(model="scripted:echo"))
    await probe.session.send("hello?")
    assert await probe.session.status() is SessionStatus.QUEUED

    await stage.work()
    await probe.idle()

    assert probe.texts() == ["You said: hello?"]


async def test_one_session_that_fails_does_not_hold_up_another(stage: "Stage") -> None:
    await stage.work([ScriptedTurn(stall=True)])
    stalled = await stage.open(await stage.agent())
    healthy = await stage.open(await stage.agent(model="scripted:echo"))
    await stalled.session.send("stall")
    await stalled.saw(ModelRequestStart)

    answers = await asyncio.gather(*(healthy.session.send_and_wait(f"{place}") for place in range(3)))

    assert sorted(answer.text for answer in answers) == ["You said: 0", "You said: 1", "You said: 2"]
