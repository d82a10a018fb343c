"""Recorded histories are replayed with today's workflow code, so that running sessions survive a deploy."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from sojourn.types.converter import data_converter
from sojourn.types.history import RunDecoder
from sojourn.types.name import SESSION_WORKFLOW
from sojourn.types.session import SessionInput, SessionResult
from sojourn.workflows import AgentWorkflow, SessionWorkflow

FOLDER = Path(__file__).parents[1] / "histories"
FILES = sorted(FOLDER.glob("*.json"))
SESSIONS = [path for path in FILES if path.name.startswith("session-")]


def _history(path: Path, change: Callable[[list[dict[str, Any]]], None] = lambda events: None) -> WorkflowHistory:
    loose = json.loads(path.read_text())
    change(loose["events"])
    return WorkflowHistory.from_json(loose["workflowId"], loose)


def _replayer(*workflows: type) -> Replayer:
    return Replayer(
        workflows=workflows or (SessionWorkflow, AgentWorkflow),
        data_converter=data_converter,
        workflow_runner=UnsandboxedWorkflowRunner(),
    )


def _named(paths: list[Path]) -> list[Any]:
    return [pytest.param(path, id=path.stem) for path in paths]


def test_there_are_recordings() -> None:
    assert len(SESSIONS) > 10
    assert len(FILES) > len(SESSIONS)


@pytest.mark.parametrize("path", _named(FILES))
async def test_a_recorded_history_replays(path: Path) -> None:
    await _replayer().replay_workflow(_history(path))


@pytest.mark.parametrize("path", _named(SESSIONS))
async def test_the_log_of_a_recorded_history_counts_as_the_workflow_did(path: Path) -> None:
    history = _history(path)
    decoder = RunDecoder(data_converter)
    stored = [found for event in history.events if (found := await decoder.decode(event)) is not None]
    cursor = decoder.cursor()
    events = [event for each in stored for event in cursor.number(each.record, at=each.at)]

    assert [event.seq for event in events] == list(range(cursor.seq - len(events) + 1, cursor.seq + 1))
    assert cursor.seq == await _counted(history)


async def _counted(history: WorkflowHistory) -> int:
    """What the workflow itself said at the end of the run."""
    last = history.events[-1]
    if last.HasField("workflow_execution_continued_as_new_event_attributes"):
        payloads = last.workflow_execution_continued_as_new_event_attributes.input.payloads
        following = (await data_converter.decode(payloads, [SessionInput]))[0]
        assert following.state is not None
        return int(following.state.seq)
    payloads = last.workflow_execution_completed_event_attributes.result.payloads
    result: SessionResult = (await data_converter.decode(payloads, [SessionResult]))[0]
    return result.seq


# --- the test can fail ---------------------------------------------------------------------------------------------


def _first(events: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(event for event in events if event["eventType"] == f"EVENT_TYPE_{kind}")


def _other_activity(events: list[dict[str, Any]]) -> None:
    attributes = _first(events, "ACTIVITY_TASK_SCHEDULED")["activityTaskScheduledEventAttributes"]
    attributes["activityType"]["name"] = "something_else"


def _other_activity_id(events: list[dict[str, Any]]) -> None:
    attributes = _first(events, "ACTIVITY_TASK_SCHEDULED")["activityTaskScheduledEventAttributes"]
    attributes["activityId"] = "sevt_other"


def _dropped_memo(events: list[dict[str, Any]]) -> None:
    place = events.index(_first(events, "WORKFLOW_PROPERTIES_MODIFIED"))
    del events[place]
    for event in events[place:]:
        event["eventId"] = str(int(event["eventId"]) - 1)
        for attributes in event.values():
            if isinstance(attributes, dict):
                _renumber(attributes, place)


def _renumber(attributes: dict[str, Any], place: int) -> None:
    for name in ("scheduledEventId", "startedEventId", "workflowTaskCompletedEventId"):
        if name in attributes and int(attributes[name]) > place:
            attributes[name] = str(int(attributes[name]) - 1)


def _reordered_commands(events: list[dict[str, Any]]) -> None:
    scheduled = _first(events, "ACTIVITY_TASK_SCHEDULED")
    place = events.index(scheduled)
    other = events[place + 1]
    assert other["eventType"] == "EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES"
    for key in [key for key in {*scheduled, *other} if key not in ("eventId", "eventTime", "taskId")]:
        scheduled[key], other[key] = other.get(key), scheduled.get(key)
    for event in (scheduled, other):
        for key in [key for key, value in event.items() if value is None]:
            del event[key]


@pytest.mark.parametrize(
    "change", [_other_activity, _other_activity_id, _dropped_memo, _reordered_commands], ids=lambda each: each.__name__
)
async def test_a_history_that_the_code_does_not_follow_fails(
    change: Callable[[list[dict[str, Any]]], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "temporalio")

    with pytest.raises(workflow.NondeterminismError):
        await _replayer().replay_workflow(_history(FOLDER / "session-turn.json", change))


@workflow.defn(name=SESSION_WORKFLOW)
class Changed(SessionWorkflow):
    """The session as somebody might change it without thinking of those that run."""

    @workflow.init
    def __init__(self, input: SessionInput) -> None:
        super().__init__(input)

    @workflow.run
    async def run(self, input: SessionInput) -> SessionResult:
        await workflow.sleep(1)
        return await super().run(input)


async def test_a_workflow_that_does_something_else_fails() -> None:
    with pytest.raises(workflow.NondeterminismError):
        await _replayer(Changed).replay_workflow(_history(FOLDER / "session-turn.json"))


def test_recordings_hold_nothing_of_the_machine_they_were_made_on() -> None:
    assert [path.name for path in FILES if "site-packages" in path.read_text() or ".py\\" in path.read_text()] == []
