"""Compaction of the model's context: when it happens, what it leaves, and what goes wrong with it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from sojourn.activities.estimate import tokens_of
from sojourn.activities.model import ModelRequest
from sojourn.testing import ScriptedCall, ScriptedFailure, ScriptedTurn
from sojourn.types import (
    AgentToolResult,
    Compaction,
    ContextCompacted,
    Limits,
    ModelRequestEnd,
    ModelRequestStart,
    ProviderError,
    RollOver,
    SessionErrorEvent,
    SessionUsage,
    SystemMessage,
    TextBlock,
    Usage,
    UserMessage,
)
from sojourn.types.name import STATUS_QUERY
from sojourn.types.session import StatusReport

if TYPE_CHECKING:
    from tests.conftest import Eventually, PlayedModel, Probe, Stage

WINDOW = 1000
SMALL = Compaction(window_tokens=WINDOW)
QUICK = Limits(retry_interval=timedelta(milliseconds=10), model_attempts=3)
FULL = Usage(input_tokens=800, output_tokens=50)
LONG = "word " * 160
"""200 tokens."""
TOO_LONG = ScriptedFailure("fatal", "prompt is too long", too_long=True)
REQUEST = ["span.model_request_start", "span.model_request_end"]


ONE = ScriptedTurn(text=f"one {LONG}", usage=Usage(input_tokens=10, output_tokens=210))
TWO = ScriptedTurn(text=f"two {LONG}", usage=FULL)
UNCOUNTED = ScriptedTurn(text=f"one {LONG}", usage=Usage())


def counted(request: ModelRequest, turn: ScriptedTurn) -> ScriptedTurn:
    """The turn with a usage that a provider might count, or its refusal."""
    needed = sum(map(tokens_of, request.messages))
    if needed > WINDOW:
        return ScriptedTurn(failure=ScriptedFailure("fatal", "prompt is too long", too_long=True, attempts=99))
    used = Usage(input_tokens=needed, output_tokens=len(turn.text) // 4)
    return ScriptedTurn(text=turn.text, calls=turn.calls, usage=used)


class Windowed:
    """A model with a window: it counts what it is shown, and refuses what is too long."""

    def __init__(self, played: "PlayedModel") -> None:
        self.played = played
        self.largest = 0

    def __call__(self, request: ModelRequest) -> ScriptedTurn:
        self.largest = max(self.largest, sum(map(tokens_of, request.messages)))
        return counted(request, self.played(request))


def shown(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """A context in short: first words only, and of a summary what it says."""
    return [(role, _said(text) if role == "summary" else text.split()[0]) for role, text in pairs]


def _said(text: str) -> str:
    return text.split("<summary>")[1].split("</summary>")[0].strip()


async def _filled(stage: "Stage", script: "Callable[[ModelRequest], ScriptedTurn]", **options: object) -> "Probe":
    """A session whose two turns have filled the window."""
    probe = await stage.session(script=script, **{"compaction": SMALL, "limits": QUICK, **options})  # type: ignore[arg-type]
    await probe.session.send_and_wait("first")
    await probe.session.send_and_wait("second")
    await probe.idle(2)
    return probe


async def test_a_full_window_is_compacted_before_the_next_turns_step(
    stage: "Stage", played: "type[PlayedModel]", eventually: "Eventually"
) -> None:
    model = played(ONE, TWO, ScriptedTurn(text="three"))
    probe = await _filled(stage, model)
    before = len(probe.log)

    await probe.session.send_and_wait("third")
    await probe.idle(3)

    assert [event.type for event in probe.log[before:]] == [
        "user.message",
        "session.status_running",
        "span.model_request_start",
        "agent.thread_context_compacted",
        "span.model_request_end",
        "span.model_request_start",
        "agent.message",
        "span.model_request_end",
        "session.usage",
        "session.status_idle",
    ]
    assert [len(start.consumed_event_ids) for start in probe.of(ModelRequestStart)] == [1, 1, 0, 1]
    assert shown(model.context()) == [("summary", "A summary of 4 messages."), ("user", "third")]


async def test_newest_messages_and_instructions_stay_word_for_word(stage: "Stage", played: "type[PlayedModel]") -> None:
    model = played(ONE, TWO, ScriptedTurn(text="three"), ScriptedTurn(text="four", usage=FULL))
    probe = await stage.session(script=model, compaction=Compaction(window_tokens=WINDOW, keep=0.3))
    rule = SystemMessage(content=(TextBlock(text="rule"),))
    await stage.runtime.send_event(probe.session, rule, UserMessage.text("first"))
    await probe.idle()
    for text in ("second", "third", "fourth", "fifth"):
        await probe.session.send_and_wait(text)

    assert shown(model.context()) == [
        ("system", "rule"),
        ("summary", "A summary of 4 messages."),
        ("user", "third"),
        ("assistant", "three"),
        ("user", "fourth"),
        ("assistant", "four"),
        ("user", "fifth"),
    ]


async def test_summary_is_made_of_what_was_said_and_of_the_wishes(stage: "Stage", played: "type[PlayedModel]") -> None:
    summary = played(ScriptedTurn(text="They spoke."))
    wishes = Compaction(window_tokens=WINDOW, instructions="Keep all prices.")
    probe = await _filled(stage, played(ONE, TWO), compaction=wishes, summary=summary)

    await probe.session.send_and_wait("third")

    (request,) = summary.requests
    ((_, asked),) = summary.context()
    assert request.compacts == 4
    assert request.tools == ()
    assert all(words in asked for words in ("first", "one word", "second", "two word", "Keep all prices."))
    assert "third" not in asked


async def test_tool_results_that_fill_the_window_are_compacted_within_the_turn(
    stage: "Stage", played: "type[PlayedModel]"
) -> None:
    def read(page: int) -> str:
        return f"page{page} {LONG}"

    turns = [ScriptedTurn(calls=[ScriptedCall("read", {"page": page})]) for page in range(12)]
    model = Windowed(played(*turns, ScriptedTurn(text="read it all")))
    probe = await stage.session(script=model, tools=[read], compaction=SMALL)

    answer = await probe.session.send_and_wait("read everything")
    await probe.idle()

    assert answer.text == "read it all"
    assert len(probe.of(ContextCompacted)) >= 2
    assert len(probe.of(AgentToolResult)) == 12
    assert model.largest <= WINDOW
    assert not probe.of(SessionErrorEvent)
    context = shown(model.played.context())
    assert context[0][0] == "summary"
    assert context[1] == ("user", "read")
    assert context[-2:] == [("assistant", "read"), ("tool", "page11")]


async def test_a_result_that_bursts_the_window_is_compacted_before_it_is_sent(
    stage: "Stage", played: "type[PlayedModel]"
) -> None:
    def read() -> str:
        return LONG * 6

    model = Windowed(played(ScriptedTurn(calls=[ScriptedCall("read")]), ScriptedTurn(text="too much")))
    probe = await stage.session(script=model, tools=[read], compaction=SMALL)

    answer = await probe.session.send_and_wait("read")
    await probe.idle()

    assert answer.text == "too much"
    assert len(model.played.requests) == 2
    assert shown(model.played.context()) == [("summary", "A summary of 2 messages."), ("user", "read")]
    assert [error.error.retry_status.type for error in probe.of(SessionErrorEvent)] == ["retrying"]
    assert "about 1," in probe.of(SessionErrorEvent)[0].error.message


async def test_a_conversation_that_the_provider_refuses_is_compacted_once_and_tried_again(
    stage: "Stage", played: "type[PlayedModel]"
) -> None:
    """Nobody knows the window of such a model, so nothing has warned of it."""
    model = played(UNCOUNTED, ScriptedTurn(text="two", failure=TOO_LONG))
    probe = await stage.session(script=model)
    await probe.session.send_and_wait("first")

    answer = await probe.session.send_and_wait("second")
    await probe.idle(2)

    assert answer.text == "two"
    assert [event.type for event in probe.log[9:]] == [
        "span.model_request_start",
        "span.model_request_end",
        "session.error",
        "span.model_request_start",
        "agent.thread_context_compacted",
        "span.model_request_end",
        "span.model_request_start",
        "agent.message",
        "span.model_request_end",
        "session.usage",
        "session.status_idle",
    ]
    assert [end.is_error for end in probe.of(ModelRequestEnd)] == [False, True, False, False]
    assert [request.attempt for request in model.requests] == [1, 1, 2]
    assert shown(model.context()) == [("summary", "A summary of 2 messages."), ("user", "second")]


async def test_a_conversation_that_stays_too_long_ends_the_turn_and_not_the_session(
    stage: "Stage", played: "type[PlayedModel]"
) -> None:
    refused = ScriptedTurn(text="two", failure=replace(TOO_LONG, attempts=2))
    model = played(UNCOUNTED, refused)
    # Without a step that was answered, the next turn is at the same place of the script.
    answers = iter([ONE])
    probe = await stage.session(
        script=lambda request: model(request) if len(model.requests) < 3 else next(answers), compaction=Compaction()
    )
    await probe.session.send_and_wait("first")

    with pytest.raises(ProviderError, match="does not fit the model's window: it is too long even compacted"):
        await probe.session.send_and_wait("second")
    await probe.idle(2, "retries_exhausted")

    last = probe.of(SessionErrorEvent)[-1].error
    assert (last.type, last.retry_status.type) == ("compaction_limit_reached_error", "exhausted")
    assert "prompt is too long" in last.message
    assert len(probe.of(ContextCompacted)) == 1
    assert (await probe.session.send_and_wait("third")).text.startswith("one")


async def test_a_message_that_is_too_long_itself_is_summed_up(stage: "Stage", played: "type[PlayedModel]") -> None:
    model = played(ScriptedTurn(text="I see", failure=TOO_LONG))
    probe = await stage.session(script=model)

    assert (await probe.session.send_and_wait(LONG)).text == "I see"
    assert shown(model.context()) == [("summary", "A summary of 1 messages.")]


async def test_a_conversation_that_has_nothing_to_sum_up_ends_the_turn(stage: "Stage") -> None:
    probe = await stage.session(ScriptedTurn(failure=replace(TOO_LONG, attempts=99)))
    with pytest.raises(ProviderError, match="too long even compacted"):
        await probe.session.send_and_wait("go")

    with pytest.raises(ProviderError, match="there is nothing to compact"):
        await probe.session.send_and_wait("again")

    await probe.idle(2, "retries_exhausted")


async def test_nothing_is_compacted_where_it_is_switched_off(stage: "Stage", played: "type[PlayedModel]") -> None:
    model = played(ONE, TWO, ScriptedTurn(text="three", failure=TOO_LONG))
    off = Compaction(enabled=False, window_tokens=WINDOW)
    probe = await _filled(stage, model, compaction=off)

    with pytest.raises(ProviderError, match="prompt is too long"):
        await probe.session.send_and_wait("third")
    await probe.idle(3, "retries_exhausted")

    assert not probe.of(ContextCompacted)
    assert len(model.context()) == 5


# --- failures and interrupts ------------------------------------------------------------------------------------------


async def test_an_interrupt_ends_the_turn_and_leaves_the_conversation_as_it_was(
    stage: "Stage", played: "type[PlayedModel]"
) -> None:
    model = played(ONE, TWO, ScriptedTurn(text="three"))
    summaries = iter([ScriptedTurn(text="half a", stall=True), ScriptedTurn(text="whole")])
    summary = played(ScriptedTurn(text="half a", stall=True))
    probe = await _filled(stage, model, summary=lambda request: (summary(request), next(summaries))[1])
    await probe.session.send("third")
    await probe.saw(ModelRequestStart, 3)

    await probe.session.interrupt()
    await probe.idle(3, "end_turn")
    assert not probe.of(ContextCompacted)
    assert probe.of(ModelRequestEnd)[-1].is_error
    await probe.session.send_and_wait("fourth")
    await probe.idle(4, "end_turn")

    assert [request.compacts for request in summary.requests] == [4, 4]
    assert shown(model.context()) == [("summary", "whole"), ("user", "third"), ("user", "fourth")]
    assert len(model.requests) == 3


async def test_a_summary_that_fails_is_tried_again_in_sight(stage: "Stage", played: "type[PlayedModel]") -> None:
    model = played(ONE, TWO, ScriptedTurn(text="three"))
    summary = [ScriptedTurn(text="whole", failure=ScriptedFailure(attempts=2))]
    probe = await _filled(stage, model, summary=summary)
    before = len(probe.log)

    await probe.session.send_and_wait("third")
    await probe.idle(3)

    retry = [*REQUEST, "session.error", "session.status_rescheduled", "session.status_running"]
    assert [event.type for event in probe.log[before + 2 :]][:13] == [
        *retry,
        *retry,
        "span.model_request_start",
        "agent.thread_context_compacted",
        "span.model_request_end",
    ]
    assert shown(model.context())[0] == ("summary", "whole")


@pytest.mark.parametrize("kind", ["fatal", "retryable"])
async def test_a_turn_goes_on_whole_if_its_summary_fails_for_good(
    stage: "Stage", played: "type[PlayedModel]", kind: str
) -> None:
    model = played(ONE, TWO)
    failure = ScriptedFailure(kind, "no summary today", attempts=3)  # type: ignore[arg-type]
    summaries = iter([ScriptedTurn(failure=failure)] * (1 if kind == "fatal" else 3) + [ScriptedTurn(text="whole")] * 2)
    probe = await _filled(stage, model, summary=lambda _: next(summaries))

    await probe.session.send_and_wait("third")
    assert len(model.context()) == 5
    last = probe.of(SessionErrorEvent)[-1].error
    assert last.message == "the conversation could not be compacted and goes on whole: no summary today"
    assert last.retry_status.type == "retrying"
    await probe.session.send_and_wait("fourth")
    await probe.session.send_and_wait("fifth")
    await probe.idle(5)

    # The turn in which it failed does not ask for another; the one after does.
    assert shown(model.context())[0] == ("summary", "whole")
    assert probe.of(ContextCompacted)


async def test_a_refused_conversation_that_cannot_be_summed_up_ends_the_turn(
    stage: "Stage", played: "type[PlayedModel]"
) -> None:
    model = played(UNCOUNTED, ScriptedTurn(text="two", failure=TOO_LONG), ScriptedTurn(text="three"))
    summary = [ScriptedTurn(failure=ScriptedFailure("refused", "no summary today"))]
    probe = await stage.session(script=model, summary=summary)
    await probe.session.send_and_wait("first")

    with pytest.raises(ProviderError, match="compacting it failed, no summary today"):
        await probe.session.send_and_wait("second")

    await probe.idle(2, "retries_exhausted")
    assert len(probe.of(SessionErrorEvent)) == 2


async def test_a_pause_during_a_compaction_holds_the_step_after_it(
    stage: "Stage", played: "type[PlayedModel]", eventually: "Eventually"
) -> None:
    model = played(ONE, TWO, ScriptedTurn(text="three"))
    slow = [ScriptedTurn(text="a whole summary", chunk_delay=timedelta(milliseconds=100))]
    probe = await _filled(stage, model, summary=slow)
    await probe.session.send("third")
    await probe.saw(ModelRequestStart, 3)

    await probe.session.pause()
    await probe.saw(ContextCompacted)
    await probe.caught_up()
    assert len(model.requests) == 2
    await probe.session.resume()
    await probe.idle(3)

    assert len(model.requests) == 3


# --- what is carried --------------------------------------------------------------------------------------------------


async def test_a_second_summary_is_made_of_the_first(stage: "Stage", played: "type[PlayedModel]") -> None:
    model = Windowed(played(*[ScriptedTurn(text=f"{number} {LONG}") for number in range(12)]))
    summary = played(*[ScriptedTurn(text=f"summary-{number}") for number in range(12)])
    probe = await stage.session(script=model, summary=summary, compaction=SMALL)

    for number in range(12):
        await probe.session.send_and_wait(f"message-{number}")
    await probe.idle(12)

    assert len(summary.requests) >= 2
    first, second = summary.context(0)[0][1], summary.context(1)[0][1]
    assert "message-0" in first
    assert _said(second) == f"summary-{summary.requests[0].step}"
    assert "message-0" not in second
    assert model.largest <= WINDOW


async def test_tokens_of_a_summary_are_counted_in_its_turn(stage: "Stage", played: "type[PlayedModel]") -> None:
    summary = [ScriptedTurn(text="whole", usage=Usage(input_tokens=7, output_tokens=3))]
    model = played(ONE, TWO, ScriptedTurn(text="three"))
    probe = await _filled(stage, model, summary=summary)

    await probe.session.send_and_wait("third")
    await probe.idle(3)

    assert probe.of(ModelRequestEnd)[2].model_usage == Usage(input_tokens=7, output_tokens=3)
    assert probe.of(SessionUsage)[-1].turn == Usage(input_tokens=17, output_tokens=8)
    assert probe.of(SessionUsage)[-1].usage == ONE.usage + FULL + Usage(input_tokens=17, output_tokens=8)
    report: StatusReport = await probe.query(STATUS_QUERY, StatusReport)
    assert (report.turns, report.steps) == (3, 0)


@pytest.mark.parametrize("max_events", range(36, 62, 4))
async def test_a_session_may_roll_over_anywhere_around_a_compaction(
    stage: "Stage", played: "type[PlayedModel]", max_events: int
) -> None:
    model = played(ONE, TWO, ScriptedTurn(text="three"), ScriptedTurn(text="four"))
    probe = await _filled(stage, model, roll_over=RollOver(max_events=max_events))

    await probe.session.send_and_wait("third")
    await probe.session.send_and_wait("fourth")
    await probe.idle(4)

    assert await probe.runs() > 1
    assert len(probe.of(ContextCompacted)) == 1
    assert shown(model.context()) == [
        ("summary", "A summary of 4 messages."),
        ("user", "third"),
        ("assistant", "three"),
        ("user", "fourth"),
    ]


async def test_a_worker_that_comes_later_sees_the_same(stage: "Stage", played: "type[PlayedModel]") -> None:
    model = played(ONE, TWO, ScriptedTurn(text="three"), ScriptedTurn(text="four"))
    probe = await _filled(stage, model)
    await probe.session.send_and_wait("third")

    await stage.stop(stage.workers[0])
    await stage.work(model)
    await probe.session.send_and_wait("fourth")

    assert shown(model.context()) == [
        ("summary", "A summary of 4 messages."),
        ("user", "third"),
        ("assistant", "three"),
        ("user", "fourth"),
    ]


async def test_a_compaction_whose_worker_stops_is_done_by_another(stage: "Stage", played: "type[PlayedModel]") -> None:
    model = played(ONE, TWO, ScriptedTurn(text="three"))
    probe = await _filled(stage, model, summary=[ScriptedTurn(stall=True)])
    await probe.session.send("third")
    await probe.saw(ModelRequestStart, 3)

    await stage.stop(stage.workers[0])
    await stage.work(model, summary=[ScriptedTurn(text="whole")])
    await probe.idle(3)

    assert len(probe.of(ContextCompacted)) == 1
    assert shown(model.context()) == [("summary", "whole"), ("user", "third")]


async def test_the_web_ui_tells_a_compaction_from_a_step(stage: "Stage", played: "type[PlayedModel]") -> None:
    probe = await _filled(stage, played(ONE, TWO, ScriptedTurn(text="three")))
    await probe.session.send_and_wait("third")

    handle = stage.client.get_workflow_handle(probe.workflow_id)
    scheduled = [
        (event.activity_task_scheduled_event_attributes.activity_type.name, event.user_metadata.summary.data.decode())
        async for event in handle.fetch_history_events()
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    assert scheduled[2:] == [
        ("compact_context", '"compaction, turn 3: third"'),
        ("call_model", '"turn 3: third · step 1"'),
    ]
