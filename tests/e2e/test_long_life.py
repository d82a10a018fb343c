"""Long conversations, many idle sessions, long waits. The long form of the first two is `make long`."""

import asyncio
import gc
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from sojourn.activities.model import ModelRequest
from sojourn.activities.session_log import SessionLog
from sojourn.client import AgentRuntime, connect_client
from sojourn.testing import ScriptedCall, ScriptedTurn, last_text
from sojourn.types import (
    AgentMessage,
    AgentToolResult,
    CustomTool,
    Limits,
    RollOver,
    SessionIdle,
    data_converter,
)
from sojourn.types.name import CALL_MODEL_ACTIVITY
from sojourn.worker import EmbeddedServer, WorkerOptions
from sojourn.workflows import SessionWorkflow

if TYPE_CHECKING:
    from tests.conftest import Probe, Stage

TURNS = 80
SESSIONS, CACHED = 120, 10


def count(number: int) -> int:
    return number


def _play(request: ModelRequest) -> ScriptedTurn:
    word = last_text(request)
    if word == "stall":
        return ScriptedTurn(text="half a", stall=True)
    if word.startswith("turn "):
        return ScriptedTurn(calls=[ScriptedCall("count", {"number": int(word[5:])})])
    return ScriptedTurn(text=f"counted {word}")


async def test_a_long_conversation_is_read_back_whole(server: EmbeddedServer, stage: "Stage") -> None:
    probe = await stage.session(script=_play, tools=[count], roll_over=RollOver(max_events=100))

    for turn in range(TURNS):
        if turn % 10 == 9:
            await probe.session.send("stall")
            await probe.written("half a")
            await probe.session.interrupt()
        else:
            await probe.session.send(f"turn {turn}")
        await probe.idle(turn + 1, "end_turn")

    cold = AgentRuntime(await connect_client(server.address), owner=stage.owner)
    assert await cold.list_events(probe.session.id) == probe.log
    await cold.close()
    counted = [turn for turn in range(TURNS) if turn % 10 != 9]
    said = [event.text for event in probe.of(AgentMessage) if not event.incomplete]
    assert said == [f"counted {turn}" for turn in counted]
    assert len(probe.of(AgentToolResult)) == len(counted)
    assert len(probe.of(SessionIdle)) == TURNS
    assert await probe.runs() >= 5


async def test_idle_sessions_leave_the_memory_of_their_worker(stage: "Stage") -> None:
    options = WorkerOptions(max_cached_sessions=CACHED, graceful_shutdown=timedelta(0))
    await stage.work(lambda request: ScriptedTurn(text="hi"), options=options)
    agent = await stage.agent()

    async def live() -> None:
        session = await stage.runtime.start_session(agent)
        assert (await session.send_and_wait("hello")).text == "hi"

    for _ in range(0, SESSIONS, CACHED):
        await asyncio.gather(*(live() for _ in range(CACHED)))

    gc.collect()
    mine = [each for each in gc.get_objects() if isinstance(each, SessionWorkflow)]
    assert 0 < sum(each._input.owner == stage.owner for each in mine) <= CACHED
    logs = [each for each in gc.get_objects() if isinstance(each, SessionLog)]
    assert 0 < sum(each._workflow_id.startswith(f"{stage.owner.workspace}/") for each in logs) <= 256


# --- waits of months -----------------------------------------------------------------------------------------------


def _look(timeout: timedelta | None) -> CustomTool:
    return CustomTool(name="look", description="Look.", input_schema={}, timeout=timeout)


async def _timers(probe: "Probe") -> list[timedelta]:
    history = await probe._handle.fetch_history()
    started = [each for each in history.events if each.event_type == EventType.EVENT_TYPE_TIMER_STARTED]
    return [each.timer_started_event_attributes.start_to_fire_timeout.ToTimedelta() for each in started]


@pytest.mark.parametrize("days", [None, 90], ids=["for ever", "90 days"])
async def test_a_custom_tool_may_be_waited_for_for_months(stage: "Stage", days: int | None) -> None:
    timeout = timedelta(days=days) if days else None
    script = [ScriptedTurn(calls=[ScriptedCall("look")]), ScriptedTurn(text="done")]
    first = await stage.work(script)
    agent = await stage.agent(_look(timeout), limits=Limits(custom_tool_timeout=None))
    probe = await stage.open(agent)
    await probe.session.send("look")
    (call,) = await probe.parked()

    await stage.stop(first)
    # Nothing of it is in the memory of this one.
    await stage.work(script, options=WorkerOptions(max_cached_sessions=0, graceful_shutdown=timedelta(0)))
    assert [each.id for each in await probe.session.pending_actions()] == [call]
    timers = await _timers(probe)
    await probe.session.answer(call, "seen")
    await probe.idle(2, "end_turn")

    assert probe.texts() == ["done"]
    assert [round(each / timedelta(days=1)) for each in timers] == ([days] if days else [])


@pytest.mark.parametrize("days", [None, 90], ids=["for ever", "90 days"])
async def test_an_answer_after_months_replays_as_one_after_a_moment(stage: "Stage", days: int | None) -> None:
    """There is no server here whose clock can be moved; so the times in a history are, and the history is replayed."""
    script = [ScriptedTurn(calls=[ScriptedCall("look")]), ScriptedTurn(text="done")]
    tool = _look(timedelta(days=days) if days else None)
    probe = await stage.session(*script, custom=[tool], limits=Limits(custom_tool_timeout=None))
    await probe.session.send("look")
    (call,) = await probe.parked()
    parked = len((await probe._handle.fetch_history()).events)
    await probe.session.answer(call, "seen")
    await probe.idle(2, "end_turn")
    await probe.session.archive()

    history = _later(await probe._handle.fetch_history(), after=parked, by=timedelta(days=(days or 1000) - 1))

    await Replayer(
        workflows=[SessionWorkflow], data_converter=data_converter, workflow_runner=UnsandboxedWorkflowRunner()
    ).replay_workflow(history)


def _later(history: WorkflowHistory, *, after: int, by: timedelta) -> WorkflowHistory:
    """The history as if everything after an event had happened so much later; ids are made of the time, too."""
    loose: dict[str, Any] = json.loads(history.to_json())
    move: Callable[[str], str] = lambda at: f"{datetime.fromisoformat(at) + by:%Y-%m-%dT%H:%M:%S.%fZ}"  # noqa: E731
    for event in loose["events"][after:]:
        event["eventTime"] = move(event["eventTime"][:26].rstrip("Z") + "+00:00")
        scheduled = event.get("activityTaskScheduledEventAttributes", {})
        if scheduled.get("activityType", {}).get("name") == CALL_MODEL_ACTIVITY:
            kind, _, made = scheduled["activityId"].partition("_")
            scheduled["activityId"] = f"{kind}_{int(made[:12], 16) + by // timedelta(milliseconds=1):012x}{made[12:]}"
    return WorkflowHistory.from_json(history.workflow_id, loose)
