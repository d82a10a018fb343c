import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta

import pytest

from sojourn.client.outcome import TurnWatch, patiently
from sojourn.types.content import TextBlock
from sojourn.types.error import (
    ActionRequiredError,
    CheckpointError,
    ProviderError,
    SessionClosedError,
    SojournError,
    ToolNotFoundError,
    TurnInterruptedError,
    WorkerUnavailableError,
)
from sojourn.types.event import (
    AgentMessage,
    AgentToolResult,
    SessionErrorEvent,
    SessionEvent,
    SessionIdle,
    SessionRescheduled,
    SessionRunning,
    SessionTerminated,
    UserInterrupt,
    UserMessage,
)
from sojourn.types.id import EventId, SessionId
from sojourn.types.preview import EventStart, Preview, PreviewedEvent
from sojourn.types.session import (
    EndTurn,
    MaxTokens,
    Refusal,
    RequiresAction,
    RetriesExhausted,
    SessionStatus,
    StopReason,
)
from sojourn.types.session_error import ErrorDetail, RetryStatus

SESSION, MINE, OTHER = SessionId("sesn_1"), EventId("sevt_mine"), EventId("sevt_other")
BEGUN = SessionRunning(user_event_id=MINE)


def said(text: str) -> AgentMessage:
    return AgentMessage(content=(TextBlock(text=text),))


def idle(reason: StopReason | None = None) -> SessionIdle:
    return SessionIdle(stop_reason=reason or EndTurn())


def failed(error_class: str | None = None) -> SessionErrorEvent:
    return SessionErrorEvent(
        error=ErrorDetail(
            type="model_overloaded_error",
            message="too busy",
            retry_status=RetryStatus(type="exhausted"),
            error_class=error_class,
        )
    )


async def never_asked() -> None:
    raise AssertionError("nobody has been silent")


async def stream(*events: SessionEvent | Preview) -> AsyncGenerator[SessionEvent | Preview, None]:
    for event in events:
        yield event


async def silence() -> AsyncGenerator[SessionEvent | Preview, None]:
    await asyncio.Event().wait()
    yield BEGUN


async def result(*events: SessionEvent | Preview) -> AgentMessage:
    return await TurnWatch(SESSION, MINE).result(stream(*events), never_asked, timeout=None)


async def error(*events: SessionEvent | Preview) -> SojournError:
    with pytest.raises(SojournError) as found:
        await result(*events)
    return found.value


async def test_last_message_of_the_turn_is_the_result() -> None:
    found = await result(UserMessage.text("hi", id=MINE), BEGUN, said("first"), said("last"), idle())

    assert found == said("last")


async def test_what_belongs_to_the_turn_before_does_not_count() -> None:
    before: list[SessionEvent] = [
        SessionRunning(user_event_id=OTHER),
        said("theirs"),
        failed(),
        UserInterrupt(),
        idle(),
    ]

    assert await result(*before, BEGUN, said("mine"), idle()) == said("mine")


async def test_turn_that_goes_on_after_a_retry_is_the_same_turn() -> None:
    found = await result(BEGUN, failed(), SessionRescheduled(), SessionRunning(), said("at last"), idle())

    assert found == said("at last")


async def test_turn_without_a_word_is_an_empty_message() -> None:
    assert await result(BEGUN, idle()) == AgentMessage(content=())


async def test_answer_that_was_cut_at_its_limit_is_a_result() -> None:
    assert await result(BEGUN, said("and so"), idle(MaxTokens())) == said("and so")


async def test_previews_and_tool_results_do_not_matter() -> None:
    preview = EventStart(event=PreviewedEvent(type="agent.message", id=OTHER))

    assert await result(preview, BEGUN, preview, AgentToolResult(tool_use_id=OTHER), said("x"), idle()) == said("x")


async def test_turn_that_waits_for_the_caller_says_for_what() -> None:
    found = await error(BEGUN, said("may I?"), idle(RequiresAction(event_ids=(OTHER,))))

    assert isinstance(found, ActionRequiredError)
    assert found.event_ids == [OTHER]


async def test_interrupted_turn_is_an_error() -> None:
    assert isinstance(await error(BEGUN, said("I was ab"), UserInterrupt(), idle()), TurnInterruptedError)


async def test_refusal_is_the_providers() -> None:
    found = await error(BEGUN, idle(Refusal()))

    assert isinstance(found, ProviderError)
    assert found.category == "refusal"


async def test_failed_turn_is_the_providers_error_in_its_words() -> None:
    found = await error(BEGUN, failed(), idle(RetriesExhausted()))

    assert isinstance(found, ProviderError)
    assert (str(found), found.category) == ("too busy", "model_overloaded_error")


@pytest.mark.parametrize("kind", [ToolNotFoundError, CheckpointError])
async def test_failed_turn_is_of_the_class_that_the_log_names(kind: type[SojournError]) -> None:
    found = await error(BEGUN, failed(kind.__name__), idle(RetriesExhausted()))

    assert type(found) is kind
    assert str(found) == "too busy"


@pytest.mark.parametrize("before", [[], [BEGUN, said("I was ab")]], ids=["waiting", "in its turn"])
async def test_session_that_ends_first_is_an_error(before: list[SessionEvent]) -> None:
    found = await error(*before, SessionTerminated(status=SessionStatus.ARCHIVED))

    assert isinstance(found, SessionClosedError)
    assert (found.session_id, found.status) == (SESSION, SessionStatus.ARCHIVED)


async def test_log_that_ends_without_a_word_is_a_session_that_failed() -> None:
    found = await error(BEGUN)

    assert isinstance(found, SessionClosedError)
    assert found.status is SessionStatus.FAILED


@pytest.mark.parametrize("timeout", [timedelta(0), timedelta(milliseconds=20)], ids=str)
async def test_wait_ends_with_its_time(timeout: timedelta) -> None:
    with pytest.raises(TimeoutError):
        await TurnWatch(SESSION, MINE).result(silence(), never_asked, timeout=timeout)


async def test_check_is_asked_in_a_silence_and_may_end_it() -> None:
    async def nobody() -> None:
        raise WorkerUnavailableError("sojourn")

    with pytest.raises(WorkerUnavailableError):
        await anext(patiently(silence(), nobody, silence=timedelta(0)))


async def test_silence_loses_no_event() -> None:
    checks = 0
    enough = asyncio.Event()

    async def check() -> None:
        nonlocal checks
        checks += 1
        if checks == 3:
            enough.set()

    async def late() -> AsyncGenerator[SessionEvent | Preview, None]:
        yield BEGUN
        await enough.wait()
        yield idle()

    found = [event async for event in patiently(late(), check, silence=timedelta(milliseconds=1))]

    assert found == [BEGUN, idle()]
    assert checks >= 3


async def test_source_is_not_left_running_by_one_who_stops_waiting() -> None:
    ended = asyncio.Event()

    async def source() -> AsyncGenerator[SessionEvent | Preview, None]:
        try:
            yield BEGUN
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        await TurnWatch(SESSION, MINE).result(source(), never_asked, timeout=timedelta(milliseconds=20))

    await asyncio.wait_for(ended.wait(), 45)
