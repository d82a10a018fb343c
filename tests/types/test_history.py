from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import ActivityType, Memo, Payload, Payloads
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import (
    ActivityTaskCompletedEventAttributes,
    ActivityTaskScheduledEventAttributes,
    HistoryEvent,
    WorkflowExecutionContinuedAsNewEventAttributes,
    WorkflowExecutionSignaledEventAttributes,
    WorkflowExecutionStartedEventAttributes,
    WorkflowPropertiesModifiedEventAttributes,
)

from sojourn.types.agent import AgentDefinition, AgentVersion
from sojourn.types.content import TextBlock
from sojourn.types.converter import data_converter
from sojourn.types.event import SessionRescheduled, SessionRunning, UserInterrupt, UserMessage
from sojourn.types.history import RunDecoder, Stored
from sojourn.types.id import AgentId, EventId, SessionId
from sojourn.types.log import LogCursor
from sojourn.types.model import ModelRef
from sojourn.types.record import (
    CallModelInput,
    CallModelResult,
    CompactContextInput,
    CompactContextResult,
    Record,
    RunToolInput,
    RunToolResult,
    Said,
    TextPart,
    UserEvents,
)
from sojourn.types.session import Owner, SessionInput, SessionState, SessionStatus

AT = datetime(2026, 1, 2, 3, 4, 5, 600_000, tzinfo=UTC)
CALL, RUN = EventId("sevt_call"), EventId("sevt_run")
INPUT = SessionInput(
    session_id=SessionId("sesn_1"),
    owner=Owner("acme", "ada"),
    agent=AgentVersion(
        id=AgentId("agent_1"), version=1, definition=AgentDefinition(name="a", model=ModelRef.of("scripted:echo"))
    ),
)

encoded = data_converter.payload_converter.to_payload


def at(number: int, kind: EventType.ValueType) -> HistoryEvent:
    time = Timestamp()
    time.FromDatetime(AT)
    return HistoryEvent(event_id=number, event_type=kind, event_time=time)


def packed(*values: object) -> Payloads:
    return Payloads(payloads=[encoded(value) for value in values])


def started(input: SessionInput, *, previous: str = "") -> HistoryEvent:
    event = at(1, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED)
    event.workflow_execution_started_event_attributes.CopyFrom(
        WorkflowExecutionStartedEventAttributes(input=packed(input), continued_execution_run_id=previous)
    )
    return event


def signaled(number: int, input: Payloads, *, name: str = "user_events") -> HistoryEvent:
    event = at(number, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED)
    event.workflow_execution_signaled_event_attributes.CopyFrom(
        WorkflowExecutionSignaledEventAttributes(signal_name=name, input=input)
    )
    return event


def scheduled(number: int, name: str, input: object) -> HistoryEvent:
    event = at(number, EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)
    event.activity_task_scheduled_event_attributes.CopyFrom(
        ActivityTaskScheduledEventAttributes(activity_type=ActivityType(name=name), input=packed(input))
    )
    return event


def completed(number: int, scheduled_at: int, result: object) -> HistoryEvent:
    event = at(number, EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED)
    event.activity_task_completed_event_attributes.CopyFrom(
        ActivityTaskCompletedEventAttributes(scheduled_event_id=scheduled_at, result=packed(result))
    )
    return event


def memo(number: int, **fields: object) -> HistoryEvent:
    event = at(number, EventType.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED)
    event.workflow_properties_modified_event_attributes.CopyFrom(
        WorkflowPropertiesModifiedEventAttributes(
            upserted_memo=Memo(fields={name: encoded(value) for name, value in fields.items()})
        )
    )
    return event


def continued(number: int, run_id: str) -> HistoryEvent:
    event = at(number, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW)
    event.workflow_execution_continued_as_new_event_attributes.CopyFrom(
        WorkflowExecutionContinuedAsNewEventAttributes(new_execution_run_id=run_id)
    )
    return event


async def decoded(decoder: RunDecoder, *events: HistoryEvent) -> list[Record]:
    found = [await decoder.decode(event) for event in events]
    return [stored.record for stored in found if stored is not None]


SENT = UserEvents(sent=(UserMessage.text("hi", id="sevt_1"), UserInterrupt()))
STEP = CallModelInput(step=CALL, consumes=(EventId("sevt_1"),), said=(SessionRunning(),))
ANSWER = CallModelResult(step=CALL, parts=(TextPart(id=EventId("sevt_2"), text="hello"),))
TOOL = RunToolInput(tool_use_id=RUN, name="search")
OUTCOME = RunToolResult(tool_use_id=RUN, content=(TextBlock(text="found"),))
SAID = Said(said=(SessionRescheduled(),))
COMPACTION = CompactContextInput(step=EventId("sevt_c"), attempt=1, said=(SessionRunning(),))
COMPACTED = CompactContextResult(step=EventId("sevt_c"), summary="hello", kept=2, kept_message=True)
PAGE = [
    started(INPUT),
    signaled(2, packed(SENT)),
    at(3, EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED),
    scheduled(4, "call_model", STEP),
    scheduled(5, "run_tool", TOOL),
    completed(6, 5, OUTCOME),
    completed(7, 4, ANSWER),
    memo(8, log=SAID, title="t"),
    scheduled(9, "compact_context", COMPACTION),
    completed(10, 9, COMPACTED),
]
RECORDS: list[Record] = [SENT, STEP, TOOL, OUTCOME, ANSWER, SAID, COMPACTION, COMPACTED]


@pytest.fixture
def decoder() -> RunDecoder:
    return RunDecoder(data_converter)


async def test_four_kinds_of_history_events_carry_records(decoder: RunDecoder) -> None:
    assert await decoded(decoder, *PAGE) == RECORDS


async def test_record_keeps_the_time_it_was_stored(decoder: RunDecoder) -> None:
    assert await decoder.decode(PAGE[1]) == Stored(SENT, AT)


async def test_page_decoded_twice_gives_the_same(decoder: RunDecoder) -> None:
    """A page is decoded again when reading it was cancelled in the middle."""
    await decoded(decoder, *PAGE[:6])

    assert await decoded(decoder, *PAGE) == RECORDS


@pytest.mark.parametrize(
    "input",
    [
        Payloads(),
        packed("not events"),
        packed(None),
        packed({"sent": [{"type": "user.dream"}]}),
        packed({"sent": [{"type": "user.message"}]}),
        packed(b"bytes"),
        packed(SENT, SENT),
        Payloads(payloads=[Payload(metadata={"encoding": b"json/plain"}, data=b"{")]),
        Payloads(payloads=[Payload(metadata={"encoding": b"binary/null"})]),
        Payloads(payloads=[Payload(metadata={"encoding": b"binary/null"}, data=b"something")]),
        Payloads(payloads=[Payload(metadata={"encoding": b"morse"}, data=b"...")]),
        Payloads(payloads=[Payload(metadata={"encoding": b"json/protobuf"}, data=b"{}")]),
        Payloads(payloads=[Payload(data=b"\xff\xfe")]),
    ],
    ids=[
        "nothing",
        "text",
        "null",
        "unknown event",
        "broken event",
        "bytes",
        "two arguments",
        "no JSON",
        "binary null",
        "broken binary null",
        "unknown encoding",
        "protobuf",
        "no encoding",
    ],
)
async def test_signal_that_the_workflow_cannot_read_is_not_in_the_log(decoder: RunDecoder, input: Payloads) -> None:
    assert await decoded(decoder, signaled(2, input), signaled(3, packed(SENT))) == [SENT]


async def test_signal_of_another_name_is_not_in_the_log(decoder: RunDecoder) -> None:
    assert await decoded(decoder, signaled(2, packed(SENT), name="other")) == []


async def test_other_activities_are_not_in_the_log(decoder: RunDecoder) -> None:
    events = [scheduled(2, "export", STEP), completed(3, 2, ANSWER)]

    assert await decoded(decoder, *events) == []


async def test_other_memo_fields_are_not_in_the_log(decoder: RunDecoder) -> None:
    assert await decoded(decoder, memo(2, title="t", metadata={"log": "x"})) == []


async def test_additions_of_a_newer_release_are_read_over(decoder: RunDecoder) -> None:
    newer = INPUT.model_dump(mode="json") | {"colour": "red"}
    newer["owner"] |= {"team": "x"}
    newer["agent"]["definition"]["model"] |= {"region": "eu"}

    found = await decoded(
        decoder,
        signaled(2, packed({"sent": [UserInterrupt().model_dump(mode="json") | {"why": "x"}], "tone": 1})),
        memo(3, log={"said": [{"type": "session.dreamt", "of": 1}]}),
    )
    start = at(1, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED)
    start.workflow_execution_started_event_attributes.input.CopyFrom(packed(newer))
    await decoder.decode(start)

    assert [event.type for record in found for event in record.events()] == ["user.interrupt", "session.dreamt"]
    assert decoder.start == INPUT


async def test_first_run_begins_at_the_start_of_the_log(decoder: RunDecoder) -> None:
    await decoder.decode(started(INPUT))

    cursor = decoder.cursor()

    assert (decoder.start, decoder.previous_run_id) == (INPUT, "")
    assert (cursor.session_id, cursor.seq, cursor.user_events, cursor.seen) == ("sesn_1", 0, 0, ())


async def test_later_run_begins_where_the_one_before_has_ended(decoder: RunDecoder) -> None:
    state = SessionState(seq=41, user_events=7, seen=("c2V2dF8x",), status=SessionStatus.IDLE)
    await decoder.decode(started(INPUT.model_copy(update={"state": state}), previous="run-1"))

    cursor = decoder.cursor()

    assert decoder.previous_run_id == "run-1"
    assert (cursor.seq, cursor.user_events, cursor.seen) == (41, 7, ("c2V2dF8x",))
    assert isinstance(cursor, LogCursor)


async def test_run_that_is_continued_has_ended_and_the_chain_has_not(decoder: RunDecoder) -> None:
    assert not decoder.ended

    await decoder.decode(continued(9, "run-2"))

    assert (decoder.ended, decoder.closed, decoder.next_run_id) == (True, False, "run-2")


@pytest.mark.parametrize(
    "kind",
    [
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT,
    ],
    ids=EventType.Name,
)
async def test_chain_has_ended_with_a_closed_run(decoder: RunDecoder, kind: EventType.ValueType) -> None:
    await decoder.decode(at(9, kind))

    assert (decoder.ended, decoder.closed, decoder.next_run_id) == (True, True, "")


def test_place_in_the_log_is_unknown_before_the_first_event(decoder: RunDecoder) -> None:
    make: Callable[[], LogCursor] = decoder.cursor

    with pytest.raises(AssertionError, match="first event"):
        make()
