from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from sojourn.types.content import TextBlock
from sojourn.types.event import (
    AgentToolResult,
    Event,
    SaidEvent,
    SessionIdle,
    SessionRunning,
    SystemMessage,
    UnknownEvent,
    UserEvent,
    UserInterrupt,
    UserMessage,
)
from sojourn.types.id import EventId, SessionId, derived_event_id
from sojourn.types.log import SEEN_LIMIT, LogCursor, digest
from sojourn.types.record import (
    CallModelInput,
    CallModelResult,
    Record,
    RunToolInput,
    RunToolResult,
    Said,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    UserEvents,
)
from sojourn.types.session import EndTurn

SESSION = SessionId("sesn_1")
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

# Few ids, so that repeats are common; an empty id asks for one.
ids = st.sampled_from(["", "sevt_a", "sevt_b", "sevt_c", "sevt_d"]).map(EventId)
user_events: st.SearchStrategy[UserEvent] = st.one_of(
    st.builds(UserMessage, id=ids, content=st.just((TextBlock(text="hi"),))),
    st.builds(UserInterrupt, id=ids),
    st.builds(SystemMessage, id=ids, content=st.just((TextBlock(text="be brief"),))),
)
said_events: st.SearchStrategy[SaidEvent] = st.sampled_from(
    [
        SessionRunning(),
        SessionIdle(stop_reason=EndTurn()),
        AgentToolResult(tool_use_id=EventId("sevt_t")),
        UnknownEvent(type="session.dreamt"),
    ]
)
said = st.lists(said_events, max_size=3).map(tuple)
parts = st.sampled_from(
    [
        TextPart(id=EventId("sevt_p1"), text="hi"),
        ThinkingPart(id=EventId("sevt_p2"), text="hm"),
        ToolCallPart(id=EventId("sevt_p3"), call_id="c", name="t", input={}, kind="custom", permission="allow"),
        ToolCallPart(id=EventId("sevt_p4"), call_id="d", name="t", input={}, kind="function", permission="ask"),
    ]
)
records: st.SearchStrategy[Record] = st.one_of(
    st.builds(UserEvents, sent=st.lists(user_events, max_size=4).map(tuple)),
    st.builds(CallModelInput, step=st.just(EventId("sevt_s")), said=said),
    st.builds(CallModelResult, step=st.just(EventId("sevt_s")), parts=st.lists(parts, max_size=3).map(tuple)),
    st.builds(RunToolInput, tool_use_id=st.just(EventId("sevt_t")), name=st.just("t"), said=said),
    st.builds(RunToolResult, tool_use_id=st.just(EventId("sevt_t"))),
    st.builds(Said, said=said),
)
logs = st.lists(records, max_size=12)


def numbered(cursor: LogCursor, log: list[Record]) -> list[Event]:
    return [event for record in log for event in cursor.number(record, at=AT)]


def message(id: str) -> UserMessage:
    return UserMessage.text("hi", id=id)


@given(logs)
def test_workflow_counts_as_many_events_as_a_reader_numbers(log: list[Record]) -> None:
    counting, reading = LogCursor(SESSION), LogCursor(SESSION)

    for record in log:
        counting.count(record)
        reading.number(record, at=AT)

        assert (counting.seq, counting.user_events, counting.seen) == (reading.seq, reading.user_events, reading.seen)


@given(logs)
def test_numbers_are_dense_from_one(log: list[Record]) -> None:
    cursor = LogCursor(SESSION)

    events = numbered(cursor, log)

    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert cursor.seq == len(events)


@given(logs)
def test_every_numbered_event_has_an_id_and_its_time(log: list[Record]) -> None:
    for event in numbered(LogCursor(SESSION), log):
        assert event.id
        assert event.processed_at == AT


@given(logs)
def test_events_without_an_id_get_ids_that_differ(log: list[Record]) -> None:
    given_ids = {"sevt_s", "sevt_p1", "sevt_p2", "sevt_p3", "sevt_p4"}
    derived = [event.id for event in numbered(LogCursor(SESSION), log) if event.id not in given_ids]

    assert len(set(derived)) == len(derived)


@given(logs)
def test_reading_again_gives_the_same(log: list[Record]) -> None:
    assert numbered(LogCursor(SESSION), log) == numbered(LogCursor(SESSION), log)


@given(logs, st.data())
def test_cursor_cut_anywhere_and_rebuilt_goes_on_identically(log: list[Record], data: st.DataObject) -> None:
    """What continue-as-new carries: the sequence number, the count of client events, and their last ids."""
    cut = data.draw(st.integers(min_value=0, max_value=len(log)))
    before = LogCursor(SESSION)
    head = numbered(before, log[:cut])

    after = LogCursor(SESSION, seq=before.seq, user_events=before.user_events, seen=before.seen)

    assert head + numbered(after, log[cut:]) == numbered(LogCursor(SESSION), log)


@given(logs)
def test_accepted_events_are_those_in_the_log(log: list[Record]) -> None:
    """The workflow acts on what `accept` returns; the log shows what `number` returns."""
    acting, reading = LogCursor(SESSION), LogCursor(SESSION)

    for record in log:
        shown = reading.number(record, at=AT)
        if isinstance(record, UserEvents):
            assert [event.id for event in acting.accept(record)] == [event.id for event in shown]
        else:
            acting.count(record)


def test_repeated_id_is_one_event() -> None:
    cursor = LogCursor(SESSION)
    cursor.number(UserEvents(sent=(message("sevt_a"), message("sevt_a"))), at=AT)

    events = cursor.number(UserEvents(sent=(message("sevt_b"), message("sevt_a"))), at=AT)

    assert [(event.seq, event.id) for event in events] == [(2, "sevt_b")]


def test_events_without_an_id_are_never_repeats() -> None:
    events = LogCursor(SESSION).number(UserEvents(sent=(message(""), message(""))), at=AT)

    assert [event.id for event in events] == [derived_event_id(SESSION, "u1"), derived_event_id(SESSION, "u2")]


def test_id_of_a_client_event_does_not_depend_on_what_the_workflow_says_meanwhile() -> None:
    """The workflow queues the id before it knows where the event will stand in history."""
    quiet, busy = LogCursor(SESSION), LogCursor(SESSION)
    busy.count(Said(said=(SessionRunning(), SessionRunning())))

    record = UserEvents(sent=(message(""),))

    assert quiet.accept(record)[0].id == busy.accept(record)[0].id


def test_memory_of_ids_is_bounded_and_forgets_the_oldest() -> None:
    cursor = LogCursor(SESSION)
    for place in range(SEEN_LIMIT + 1):
        cursor.accept(UserEvents(sent=(message(f"sevt_{place}"),)))

    assert len(cursor.seen) == SEEN_LIMIT
    assert cursor.seen[0] == digest(EventId("sevt_1"))
    assert cursor.accept(UserEvents(sent=(message("sevt_1"),))) == []
    assert len(cursor.accept(UserEvents(sent=(message("sevt_0"),)))) == 1


def test_event_of_the_record_is_not_changed_by_numbering() -> None:
    record = Said(said=(SessionRunning(),))

    LogCursor(SESSION).number(record, at=AT)

    assert record == Said(said=(SessionRunning(),))
