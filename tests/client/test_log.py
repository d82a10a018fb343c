"""The reader of the event log: live, from any place, for many, without a worker."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from temporalio.api.workflowservice.v1 import GetWorkflowExecutionHistoryRequest
from temporalio.service import RPCError, RPCStatusCode

from sojourn.activities.context import ToolContext
from sojourn.client.log import LINGER, SessionLogs
from sojourn.client.poll import PollBudget
from sojourn.client.tail import RING
from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import (
    AgentMessage,
    AgentToolUse,
    EventDelta,
    EventStart,
    ModelRequestStart,
    RollOver,
    SessionEvent,
    SessionTerminated,
    SystemMessage,
    TextBlock,
    ToolProgress,
    UserMessage,
)
from sojourn.types.event import Event

if TYPE_CHECKING:
    from tests.conftest import Eventually, Probe, Stage

    from sojourn.client import AgentRuntime, SessionHandle

PATIENCE = 45


async def _read(runtime: "AgentRuntime", session: "SessionHandle", *, from_seq: int | None = 0) -> list[SessionEvent]:
    """Everything up to the end of the session."""
    async with asyncio.timeout(PATIENCE):
        stream = runtime.stream_events(session, from_seq=from_seq)
        return [event async for event in stream if isinstance(event, Event)]


def _notes(number: int) -> list[SystemMessage]:
    return [SystemMessage(content=(TextBlock(text=f"{place}"),)) for place in range(number)]


async def _conversation(stage: "Stage", *, turns: int = 3, roll_over: RollOver | None = None) -> "Probe":
    probe = await stage.session(roll_over=roll_over)
    for place in range(turns):
        await probe.session.send_and_wait(f"{place}")
    await probe.idle(turns)
    return probe


async def test_a_stream_from_zero_is_the_whole_log(stage: "Stage") -> None:
    probe = await _conversation(stage)
    await probe.session.archive()
    await probe.ended()

    assert await _read(stage.another_runtime(), probe.session) == probe.log


async def test_every_place_of_the_log_can_be_resumed_from(stage: "Stage") -> None:
    probe = await _conversation(stage, turns=6, roll_over=RollOver(max_events=25))
    await probe.session.archive()
    await probe.ended()
    cold = stage.another_runtime()

    assert await probe.runs() > 1
    places = range(len(probe.log) + 1)
    listed = await asyncio.gather(*(cold.list_events(probe.session, from_seq=place) for place in places))
    streamed = await asyncio.gather(*(_read(cold, probe.session, from_seq=place) for place in places))
    assert listed == [probe.log[place:] for place in places]
    assert streamed == [probe.log[place:] for place in places]


async def test_a_place_behind_the_end_gives_what_comes_after_it(stage: "Stage") -> None:
    probe = await _conversation(stage, turns=1)
    ahead = asyncio.create_task(_read(stage.runtime, probe.session, from_seq=len(probe.log) + 2))

    await probe.session.send_and_wait("more")
    await probe.session.archive()
    await probe.ended()

    assert await ahead == probe.log[9:]


async def test_none_is_only_what_comes_from_now(stage: "Stage") -> None:
    probe = await _conversation(stage)
    before = len(probe.log)

    async with stage.another_runtime().follow(probe.session, from_seq=None) as events:
        await probe.session.send_and_wait("new")
        await probe.session.archive()
        seen = [event async for event in events]

    await probe.ended()
    assert seen == probe.log[before:]


async def test_two_readers_and_a_second_reading_see_the_same(stage: "Stage") -> None:
    probe = await stage.session()
    readers = [asyncio.create_task(_read(stage.another_runtime(), probe.session)) for _ in range(3)]

    for place in range(3):
        await probe.session.send_and_wait(f"{place}")
    await probe.session.archive()
    seen = await asyncio.gather(*readers)

    await probe.ended()
    assert seen == [probe.log] * 3
    assert await stage.runtime.list_events(probe.session) == probe.log


async def test_a_place_that_the_server_does_not_know_any_more_is_found_again(
    stage: "Stage", monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token of a page holds for a branch of the history, which the server leaves at times."""
    probe = await _conversation(stage, turns=4, roll_over=RollOver(max_events=25))
    await probe.session.archive()
    await probe.ended()
    read = stage.client.workflow_service.get_workflow_execution_history
    pages: Counter[str] = Counter()

    async def branching(request: GetWorkflowExecutionHistoryRequest, **options: Any) -> Any:
        request.maximum_page_size = 4
        pages[request.execution.run_id] += bool(request.next_page_token)
        if request.next_page_token and pages[request.execution.run_id] in (2, 4):
            message = "Current and request branch tokens, or current and request versioned transitions, don't match."
            raise RPCError(message, RPCStatusCode.INVALID_ARGUMENT, b"")
        return await read(request, **options)

    monkeypatch.setattr(stage.client.workflow_service, "get_workflow_execution_history", branching)

    assert await stage.another_runtime().list_events(probe.session) == probe.log
    pages.clear()
    assert await _read(stage.another_runtime(), probe.session) == probe.log
    assert len([run for run, number in pages.items() if number >= 4]) == await probe.runs() > 1


async def test_a_connection_that_the_server_ends_cuts_no_list_short(
    stage: "Stage", monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = await _conversation(stage)
    read = stage.client.workflow_service.get_workflow_execution_history
    asked = 0

    async def ending(request: GetWorkflowExecutionHistoryRequest, **options: Any) -> Any:
        nonlocal asked
        request.maximum_page_size = request.maximum_page_size or 4
        asked += 1
        if asked in (2, 4):
            raise RPCError("operation was canceled", RPCStatusCode.CANCELLED, b"")
        return await read(request, **options)

    monkeypatch.setattr(stage.client.workflow_service, "get_workflow_execution_history", ending)

    assert await stage.another_runtime().list_events(probe.session) == probe.log


async def test_list_events_can_be_limited(stage: "Stage") -> None:
    probe = await _conversation(stage)

    assert await stage.runtime.list_events(probe.session, from_seq=2, limit=3) == probe.log[2:5]
    assert await stage.runtime.list_events(probe.session, from_seq=len(probe.log)) == []


async def test_reading_needs_no_worker(stage: "Stage") -> None:
    worker = await stage.work()
    probe = await stage.open(await stage.agent(model="scripted:echo"))
    await probe.session.send_and_wait("hi")
    await probe.idle()
    await stage.stop(worker)

    sent = await probe.session.send("nobody there")
    await probe.saw(UserMessage, 2)

    stored = await stage.another_runtime().list_events(probe.session)
    assert stored == probe.log
    assert stored[-1].id == sent.id


async def test_a_message_is_in_the_stream_before_any_worker_has_seen_it(stage: "Stage") -> None:
    probe = await stage.open(await stage.agent(model="scripted:echo"))

    sent = await probe.session.send("nobody there")

    assert (await probe.saw(UserMessage)).id == sent.id


async def test_a_reader_far_behind_loses_nothing(stage: "Stage") -> None:
    probe = await stage.session()
    number = RING + 200
    seen: list[SessionEvent] = []

    async with stage.another_runtime().follow(probe.session, from_seq=0) as events:
        await probe.session.send_and_wait("begin")
        seen.append(await anext(events))  # type: ignore[arg-type]
        for _ in range(4):
            await stage.runtime.send_event(probe.session, *_notes(number // 4))
        await probe.session.send_and_wait("end")
        await probe.session.archive()
        await probe.ended()
        async for event in events:
            assert isinstance(event, Event)
            seen.append(event)

    assert len(probe.log) > number
    assert seen == probe.log


async def test_a_slow_reader_does_not_slow_the_others(stage: "Stage") -> None:
    probe = await stage.session()
    runtime = stage.another_runtime()

    async with (
        runtime.follow(probe.session, from_seq=0) as slow,
        runtime.follow(probe.session, from_seq=0) as quick,
    ):
        await probe.session.send_and_wait("one")
        await probe.session.archive()
        first = [event async for event in quick]
        second = [event async for event in slow]

    await probe.ended()
    assert first == second == probe.log


async def test_a_stream_ends_with_the_session(stage: "Stage") -> None:
    probe = await stage.session()
    reading = asyncio.create_task(_read(stage.another_runtime(), probe.session))
    await probe.session.send_and_wait("hi")

    await probe.session.archive()

    assert isinstance((await reading)[-1], SessionTerminated)


async def test_a_stream_that_is_broken_off_can_be_taken_up_again(stage: "Stage") -> None:
    probe = await stage.session(roll_over=RollOver(max_events=25))
    runtime = stage.another_runtime()
    seen: list[SessionEvent] = []

    for place in range(5):
        await probe.session.send(f"{place}")
        async with runtime.follow(probe.session, from_seq=len(seen)) as events:
            async for event in events:
                assert isinstance(event, Event)
                seen.append(event)
                if event.type == "session.status_idle":
                    break
    await probe.idle(5)

    assert seen == probe.log[: len(seen)]
    assert len([event for event in seen if event.type == "session.status_idle"]) == 5


async def test_only_what_comes_from_now_holds_for_a_reader_that_is_runs_behind(stage: "Stage") -> None:
    probe = await _conversation(stage, turns=4, roll_over=RollOver(max_events=20))
    handle = stage.client.get_workflow_handle(probe.workflow_id)
    first = await anext(handle.fetch_history_events())
    origin = first.workflow_execution_started_event_attributes.first_execution_run_id
    described = await handle.describe()
    logs = SessionLogs(stage.client, PollBudget(0))
    assert await probe.runs() > 2

    async with (
        logs.follow(probe.workflow_id, origin, history_length=1, from_seq=0, previews=False),
        logs.follow(
            probe.workflow_id,
            described.run_id or "",
            history_length=described.history_length,
            from_seq=None,
            previews=False,
        ) as follower,
    ):
        sent = await probe.session.send("new")
        event = await asyncio.wait_for(anext(aiter(follower)), PATIENCE)

    assert isinstance(event, UserMessage)
    assert event.id == sent.id
    await probe.idle(5)
    await logs.close()


# --- long polls ----------------------------------------------------------------------------------------------------


async def test_a_process_without_long_polls_still_reads_everything(stage: "Stage") -> None:
    probe = await stage.session()
    reading = asyncio.create_task(_read(stage.another_runtime(long_polls=0), probe.session))

    for place in range(3):
        await probe.session.send_and_wait(f"{place}")
    await probe.session.archive()

    await probe.ended()
    assert await reading == probe.log


async def test_one_long_poll_serves_several_sessions(stage: "Stage") -> None:
    await stage.work()
    agent = await stage.agent(model="scripted:echo")
    probes = [await stage.open(agent) for _ in range(4)]
    runtime = stage.another_runtime(long_polls=1)
    readings = [asyncio.create_task(_read(runtime, probe.session)) for probe in probes]

    for place in range(2):
        for probe in probes:
            await runtime.send_event(probe.session, UserMessage.text(f"{place}"))
            await probe.idle(place + 1)
    for probe in probes:
        await probe.session.archive()
        await probe.ended()

    assert await asyncio.gather(*readings) == [probe.log for probe in probes]


async def test_no_long_poll_is_left_when_the_last_reader_has_gone(stage: "Stage", eventually: "Eventually") -> None:
    probe = await _conversation(stage, turns=1)
    budget = PollBudget(10)
    logs = SessionLogs(stage.client, budget)
    described = await stage.client.get_workflow_handle(probe.workflow_id).describe()

    async def follow() -> None:
        async with logs.follow(
            probe.workflow_id,
            described.run_id or "",
            history_length=described.history_length,
            from_seq=0,
            previews=False,
        ) as follower:
            async for event in follower:
                if isinstance(event, AgentMessage):
                    assert budget.held == 1
                    return

    await asyncio.gather(*(follow() for _ in range(3)))
    assert budget.held == 1

    async def released() -> bool:
        return budget.held == 0

    await asyncio.wait_for(eventually(released, "the long poll is given back"), LINGER.total_seconds() + 10)
    await logs.close()


async def test_closing_the_runtime_gives_back_everything_at_once(stage: "Stage") -> None:
    probe = await _conversation(stage, turns=1)
    budget = PollBudget(10)
    logs = SessionLogs(stage.client, budget)
    described = await stage.client.get_workflow_handle(probe.workflow_id).describe()
    async with logs.follow(probe.workflow_id, described.run_id or "", history_length=1, from_seq=None, previews=False):
        assert budget.held == 1

    await logs.close()

    assert budget.held == 0


# --- previews ------------------------------------------------------------------------------------------------------

WORDS = " ".join(f"word{place}" for place in range(20))


async def test_previews_are_prefixes_of_the_text_that_follows(stage: "Stage") -> None:
    probe = await stage.session(ScriptedTurn(text=WORDS, chunk_delay=timedelta(milliseconds=30)))
    shown: dict[str, str] = {}
    final: AgentMessage | None = None

    async with stage.runtime.follow(probe.session, from_seq=0, previews=True) as events:
        await probe.session.send("go")
        async for event in events:
            if isinstance(event, EventStart):
                assert event.event.id not in shown
                shown[event.event.id] = ""
            elif isinstance(event, EventDelta):
                assert final is None
                shown[event.event_id] += event.delta.content.text
            elif isinstance(event, AgentMessage):
                final = event
            elif event.type == "session.status_idle":
                break

    assert final is not None
    assert final.text == WORDS
    assert list(shown) == [final.id]
    assert shown[final.id]
    assert WORDS.startswith(shown[final.id])


async def test_who_did_not_ask_for_previews_gets_none(stage: "Stage") -> None:
    probe = await stage.session(ScriptedTurn(text=WORDS, chunk_delay=timedelta(milliseconds=20)))
    async with stage.runtime.follow(probe.session, from_seq=0, previews=True) as events:
        await probe.session.send_and_wait("go")
        async for event in events:
            if event.type == "session.status_idle":
                break

    assert all(isinstance(event, Event) for event in probe.log)


async def test_previews_of_an_interrupted_answer_become_its_partial_text(stage: "Stage") -> None:
    probe = await stage.session(ScriptedTurn(text="half a", stall=True))
    await probe.session.send("go")
    await probe.saw(ModelRequestStart)
    started: list[str] = []

    async with stage.runtime.follow(probe.session, from_seq=0, previews=True) as events:
        async for event in events:
            if isinstance(event, EventStart):
                started.append(event.event.id)
            elif isinstance(event, EventDelta):
                break

    await probe.session.interrupt()
    await probe.idle()

    assert [event.id for event in probe.of(AgentMessage)] == started


async def test_thinking_is_previewed_without_its_text(stage: "Stage") -> None:
    probe = await stage.session(ScriptedTurn(thinking="secret", text=WORDS, chunk_delay=timedelta(milliseconds=30)))
    previews = []

    async with stage.runtime.follow(probe.session, from_seq=0, previews=True) as events:
        await probe.session.send("go")
        async for event in events:
            if isinstance(event, EventStart | EventDelta):
                previews.append(event)
            elif event.type == "session.status_idle":
                break

    kinds = [preview.event.type for preview in previews if isinstance(preview, EventStart)]
    assert kinds == ["agent.thinking", "agent.message"]
    assert not any("secret" in preview.model_dump_json() for preview in previews)


async def test_a_tool_shows_its_progress_to_who_asked_for_previews(stage: "Stage") -> None:
    release = asyncio.Event()

    async def work(context: ToolContext) -> None:
        context.progress("half way")
        await release.wait()

    probe = await stage.session(ScriptedTurn(calls=[ScriptedCall("work")]), ScriptedTurn(text="done"), tools=[work])
    try:
        async with (
            asyncio.timeout(45),
            stage.runtime.follow(probe.session, from_seq=0, previews=True) as events,
        ):
            await probe.session.send("go")
            progress = await anext(event async for event in events if isinstance(event, ToolProgress))
    finally:
        release.set()

    assert progress.text == "half way"
    assert progress.tool_use_id == probe.of(AgentToolUse)[0].id


@pytest.mark.parametrize("place", [-1, -100])
async def test_a_place_before_the_beginning_is_the_beginning(stage: "Stage", place: int) -> None:
    probe = await stage.session()
    await probe.session.send_and_wait("hi")
    await probe.session.archive()
    await probe.ended()

    assert await stage.runtime.list_events(probe.session, from_seq=place) == probe.log
    assert await _read(stage.runtime, probe.session, from_seq=place) == probe.log


async def test_a_place_before_the_beginning_of_an_empty_log_waits_for_its_first_event(stage: "Stage") -> None:
    probe = await stage.session()
    async with stage.runtime.follow(probe.session, from_seq=-1) as events:
        sent = await probe.session.send("hi")
        first = await anext(events)

    assert isinstance(first, UserMessage)
    assert first.id == sent.id
