"""The log as the gateway shows it, without any server: random logs, and what must hold for each of them."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from anthropic.types.beta.sessions import BetaManagedAgentsStreamSessionEvents
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from sojourn.gateway.projection import Place, Projection, Shown, Subject, reading_from, shown_after
from sojourn.gateway.translation import ERROR_TYPES, translated
from sojourn.gateway.wire import event as wire
from sojourn.gateway.wire.event import AnyEvent
from sojourn.types import (
    AgentCustomToolUse,
    AgentMessage,
    AgentThinking,
    AgentToolResult,
    AgentToolUse,
    Budget,
    InvalidRequestError,
    SessionEvent,
    SystemMessage,
    TextBlock,
    UserCustomToolResult,
    UserInterrupt,
    UserMessage,
    UserToolConfirmation,
)
from sojourn.types import event as ours
from sojourn.types.event import (
    Event,
    ModelRequestEnd,
    ModelRequestStart,
    SessionErrorEvent,
    SessionIdle,
    SessionPaused,
    SessionRescheduled,
    SessionRunning,
    SessionTerminated,
    SessionUpdated,
    SessionUsage,
    UnknownEvent,
    UserDefineOutcome,
)
from sojourn.types.id import EventId, SessionId
from sojourn.types.session import BudgetReached, EndTurn, MaxTokens, Refusal, RequiresAction, SessionStatus
from sojourn.types.session_error import ErrorDetail, RetryStatus
from sojourn.types.usage import Usage

AT = datetime(2026, 1, 2, tzinfo=UTC)
SUBJECT = Subject(SessionId("sesn_01"), "actor")
TEXT = (TextBlock(text="hi"),)
RETRY = RetryStatus(type="exhausted")
_SDK = TypeAdapter[Any](BetaManagedAgentsStreamSessionEvents)
_OURS = TypeAdapter[Any](AnyEvent)
MANY = settings(max_examples=300, deadline=None)

# Few ids, so that events of the log refer to each other, and to what was never there.
_ids = st.sampled_from([EventId(f"sevt_{letter}") for letter in "abcd"])
_some = st.lists(_ids, max_size=3).map(tuple)
_events: st.SearchStrategy[Event] = st.one_of(
    st.builds(UserMessage, id=_ids, content=st.just(TEXT)),
    st.builds(SystemMessage, id=_ids, content=st.just(TEXT)),
    st.builds(UserInterrupt),
    st.builds(SessionRunning, user_event_id=st.none() | _ids),
    st.builds(ModelRequestStart, consumed_event_ids=_some),
    st.builds(lambda ids: SessionErrorEvent(error=_error("queue_full_error", ids)), _some),
    st.builds(SessionUsage, usage=st.builds(Usage, input_tokens=st.integers(0, 9)), turn=st.just(Usage())),
    st.sampled_from(
        [
            SessionIdle(stop_reason=EndTurn()),
            SessionIdle(stop_reason=RequiresAction(event_ids=(EventId("sevt_t"),))),
            SessionRescheduled(),
            SessionPaused(),
            AgentMessage(content=TEXT),
            ModelRequestEnd(model_request_start_id=EventId("sevt_s")),
            SessionTerminated(status=SessionStatus.ARCHIVED),
        ]
    ),
)
logs = st.lists(_events, max_size=25).map(lambda events: numbered(*events))


def _error(kind: str, ids: Sequence[EventId] = (), *, server: str | None = None) -> ErrorDetail:
    return ErrorDetail(type=kind, message="no", retry_status=RETRY, event_ids=tuple(ids), mcp_server_name=server)


def numbered(*events: Event) -> list[SessionEvent]:
    """A log of these events."""
    return [
        cast(
            SessionEvent,
            event.model_copy(
                update={
                    "seq": seq,
                    "id": event.id or EventId(f"sevt_{seq:04x}"),
                    "processed_at": AT + timedelta(seconds=seq),
                }
            ),
        )
        for seq, event in enumerate(events, 1)
    ]


def whole(log: Iterable[SessionEvent]) -> list[Shown]:
    """All that the log shows."""
    projection = Projection(SUBJECT, from_start=True)
    return [*(shown for event in log for shown in projection.feed(event)), *projection.rest()]


def kinds(shown: Iterable[Shown]) -> list[str]:
    return [each.event.kind for each in shown]


async def after(log: list[SessionEvent], place: Place | None, *, begin: int = 0) -> list[Shown]:
    """What a stream shows from a place on; without one, from the event behind ``begin`` on."""

    async def read() -> AsyncGenerator[SessionEvent, None]:
        for event in log[(reading_from(place) if place is not None else begin) :]:
            yield event

    async def past(seq: int) -> list[SessionEvent]:
        return log[: seq - 1]

    return [each async for each in shown_after(place, read(), SUBJECT, past) if isinstance(each, Shown)]


# --- what holds for every log ----------------------------------------------------------------------------------------


@MANY
@given(log=logs)
def test_places_rise_strictly_in_the_order_of_sending(log: list[SessionEvent]) -> None:
    places = [shown.place for shown in whole(log)]

    assert places == sorted(set(places))
    assert [place.seq for place in places if not place.part] == list(range(1, len(log) + 1))


@MANY
@given(log=logs)
async def test_a_stream_from_every_place_shows_exactly_the_rest(log: list[SessionEvent]) -> None:
    everything = whole(log)

    assert await after(log, Place(0)) == everything
    for number, shown in enumerate(everything, 1):
        assert await after(log, Place.parse(str(shown.place), param="x")) == everything[number:]


@MANY
@given(log=logs)
async def test_a_live_stream_shows_all_that_is_new_wherever_it_begins(log: list[SessionEvent]) -> None:
    for begin in range(1, len(log)):
        shown = await after(log, None, begin=begin)

        assert shown == [each for each in whole(log) if each.since > begin]


@MANY
@given(log=logs)
def test_every_idle_comes_right_behind_the_usage_and_the_idle_of_its_thread(log: list[SessionEvent]) -> None:
    shown = whole(log)

    for number, kind in enumerate(kinds(shown)):
        if kind == "session.status_idle":
            assert kinds(shown[number - 2 : number]) == ["session.thread_status_idle", "session.usage"]


@MANY
@given(log=logs)
def test_every_event_has_an_id_and_only_messages_come_twice(log: list[SessionEvent]) -> None:
    """First without a time, then with one. (The generator repeats the ids of messages.)"""
    shown = whole(log)
    others = [each for each in shown if each.event.kind not in ("user.message", "system.message")]

    assert len({each.event.id for each in others}) == len(others)
    assert all(each.event.processed_at is not None for each in others)
    for each in shown:
        if each.original:
            (first,) = [one for one in shown if one.place == Place(each.original)]
            assert first.event.processed_at is None
            assert each.event.processed_at is not None
            assert first.event.model_copy(update={"processed_at": each.event.processed_at}) == each.event


@MANY
@given(log=logs)
def test_every_event_is_one_of_the_contract_or_of_ours(log: list[SessionEvent]) -> None:
    """What is sent can be read again by its type alone, and the official SDK knows it."""
    for shown in whole(log):
        data = shown.event.model_dump_json()

        assert _OURS.validate_json(data) == shown.event
        if not isinstance(shown.event, wire.OtherEvent):
            assert _sdk(shown.event).type == shown.event.kind


def _sdk(event: wire.WireEvent) -> Any:
    """The event as the SDK reads it, but strictly: the SDK itself takes whatever comes."""
    return _SDK.validate_python(event.model_dump())


# --- one by one ----------------------------------------------------------------------------------------------------


def test_a_turn_has_the_order_of_the_contract() -> None:
    log = numbered(
        UserMessage(id=EventId("sevt_m"), content=TEXT),
        SessionRunning(user_event_id=EventId("sevt_m")),
        ModelRequestStart(id=EventId("sevt_s"), consumed_event_ids=(EventId("sevt_m"),)),
        AgentThinking(),
        AgentMessage(content=TEXT),
        AgentToolUse(name="add", input={}, evaluated_permission="allow"),
        ModelRequestEnd(model_request_start_id=EventId("sevt_s")),
        AgentToolResult(tool_use_id=EventId("sevt_t")),
        SessionUsage(usage=Usage(), turn=Usage()),
        SessionIdle(stop_reason=EndTurn()),
    )

    assert [(str(shown.place), shown.event.kind) for shown in whole(log)] == [
        ("1", "user.message"),
        ("1.10", "user.message"),
        ("2", "session.status_running"),
        ("2.1", "session.thread_status_running"),
        ("3", "span.model_request_start"),
        ("4", "agent.thinking"),
        ("5", "agent.message"),
        ("6", "agent.tool_use"),
        ("7", "span.model_request_end"),
        ("8", "agent.tool_result"),
        ("8.10", "session.thread_status_idle"),
        ("9", "session.usage"),
        ("10", "session.status_idle"),
    ]


def test_a_queued_message_gets_its_time_when_its_turn_begins() -> None:
    log = numbered(
        UserMessage(id=EventId("sevt_a"), content=TEXT),
        SystemMessage(id=EventId("sevt_b"), content=TEXT),
        SessionRunning(user_event_id=EventId("sevt_a")),
        ModelRequestStart(consumed_event_ids=(EventId("sevt_b"), EventId("sevt_a"))),
    )

    times = [(each.event.id, each.event.processed_at) for each in whole(log) if "message" in each.event.kind]

    assert times == [
        ("sevt_a", None),
        ("sevt_b", None),
        ("sevt_a", log[2].processed_at),
        ("sevt_b", log[3].processed_at),
    ]


def test_an_interrupt_of_an_idle_session_shows_the_usage_so_far_once_more() -> None:
    usage = SessionUsage(usage=Usage(input_tokens=7), turn=Usage())
    log = numbered(usage, SessionIdle(stop_reason=EndTurn()), UserInterrupt(), SessionIdle(stop_reason=EndTurn()))

    first, second = [each.event for each in whole(log) if isinstance(each.event, wire.SessionUsage)]

    assert first.usage == second.usage
    assert first.id != second.id
    assert second.processed_at == log[3].processed_at


def test_what_is_made_has_the_same_id_everywhere() -> None:
    log = numbered(SessionRunning(), UserInterrupt(), SessionIdle(stop_reason=EndTurn()), SessionRescheduled())

    assert [each.event.id for each in whole(log)] == [each.event.id for each in whole(log)]
    assert whole(log)[1].event.id != whole([log[0].model_copy(update={"seq": 2})])[1].event.id


def test_refused_messages_are_dealt_with_though_they_get_no_turn() -> None:
    refused = SessionErrorEvent(error=_error("queue_full_error", (EventId("sevt_m"),)))
    first, again, error = whole(numbered(UserMessage(id=EventId("sevt_m"), content=TEXT), refused))

    assert (first.event.processed_at, again.event.processed_at) == (None, AT + timedelta(seconds=2))
    assert isinstance(error.event, wire.SessionError)
    assert error.event.error.type == "unknown_error"
    assert error.event.error.event_ids == ("sevt_m",)


@pytest.mark.parametrize(
    ("reason", "kind", "details"),
    [
        (EndTurn(), "end_turn", None),
        (MaxTokens(), "end_turn", None),
        (BudgetReached(), "budget_reached", None),
        (Refusal(), "refusal", {"type": "refusal", "category": None, "explanation": None}),
        (RequiresAction(event_ids=(EventId("sevt_t"),)), "requires_action", None),
    ],
)
def test_stop_reasons_are_those_of_the_contract(reason: Any, kind: str, details: Any) -> None:
    thread, _, idle = whole(numbered(SessionIdle(stop_reason=reason)))

    for each in (thread.event, idle.event):
        shown = each.model_dump()
        assert shown["stop_reason"]["type"] == kind
        assert shown["stop_details"] == details
    assert ("event_ids" in idle.event.model_dump()["stop_reason"]) is (kind == "requires_action")


def test_the_counters_of_usage_do_not_overlap() -> None:
    """Ours counts what was read from the cache as input too; the contract's counters are those of its Messages API."""
    used = Usage(input_tokens=100, output_tokens=5, cache_read_input_tokens=60, cache_creation_input_tokens=30)
    end, usage = whole(
        numbered(
            ModelRequestEnd(model_request_start_id=EventId("sevt_s"), model_usage=used),
            SessionUsage(
                usage=used,
                turn=Usage(),
                cost_microcents=2_999_999,
                active_seconds=1.5,
                budget=Budget(max_list_cost_cents=5),
            ),
        )
    )

    assert end.event.model_dump()["model_usage"] == {
        "input_tokens": 10,
        "output_tokens": 5,
        "cache_creation_input_tokens": 30,
        "cache_read_input_tokens": 60,
    }
    shown = usage.event.model_dump()["usage"]
    assert (shown["input_tokens"], shown["cache_read_input_tokens"]) == (10, 60)
    assert (shown["list_cost"], shown["active_seconds"]) == ({"amount": "2", "currency": "USD"}, 1.5)
    assert usage.event.model_dump()["budget"]["max_list_cost"] == {"amount": "5", "currency": "USD"}
    assert shown["cache_creation"] == {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 0}


@pytest.mark.parametrize(
    ("permission", "evaluation"),
    [("allow", {"type": "always_allow"}), ("ask", {"type": "always_ask"}), ("deny", None)],
)
def test_a_tool_call_tells_its_permission_and_the_rule(permission: Any, evaluation: Any) -> None:
    event = AgentToolUse(id=EventId("sevt_t"), name="pay", input={"sum": 1}, evaluated_permission=permission)
    shown = translated(event).model_dump()

    assert (shown["evaluated_permission"], shown["evaluation"]) == (permission, evaluation)


_ALL: list[Event] = [
    UserMessage.text("hi"),
    UserInterrupt(),
    UserToolConfirmation(tool_use_id=EventId("sevt_t"), result="deny", deny_message="no"),
    UserCustomToolResult(custom_tool_use_id=EventId("sevt_t"), content=TEXT),
    ours.UserToolResult(tool_use_id=EventId("sevt_t"), is_error=True),
    UserDefineOutcome(description="d", rubric=TextBlock(text="r")),
    SystemMessage(content=TEXT),
    AgentMessage(content=TEXT, incomplete=True),
    AgentThinking(),
    AgentToolUse(name="n", input={}, evaluated_permission="deny"),
    ours.AgentMcpToolUse(name="n", mcp_server_name="s", input={}, evaluated_permission="ask"),
    AgentCustomToolUse(name="n", input={"a": [1]}),
    AgentToolResult(tool_use_id=EventId("sevt_t"), content=TEXT, is_error=True, outcome="denied"),
    ours.AgentMcpToolResult(mcp_tool_use_id=EventId("sevt_t"), content=TEXT),
    ours.ContextCompacted(),
    SessionRunning(),
    SessionIdle(stop_reason=EndTurn()),
    SessionRescheduled(),
    SessionTerminated(status=SessionStatus.FAILED),
    SessionUpdated(title="", metadata={}, agent_version=3, budget=Budget(max_list_cost_cents=5)),
    SessionUpdated(budget_removed=True),
    SessionUsage(usage=Usage(), turn=Usage()),
    *(SessionErrorEvent(error=_error(kind, server="docs" if "mcp" in kind else None)) for kind in sorted(ERROR_TYPES)),
    ModelRequestStart(),
    ModelRequestEnd(model_request_start_id=EventId("sevt_s"), is_error=True),
]


@pytest.mark.parametrize("event", _ALL, ids=lambda event: type(event).__name__)
def test_the_official_sdk_finds_every_field_of_its_models(event: Event) -> None:
    """The SDK does not check what it reads; a field that is missing is ``None`` in the hands of its user."""
    for shown in whole(numbered(event)):
        fields = shown.event.model_dump()
        read = _sdk(shown.event)

        missing = type(read).model_fields.keys() - fields.keys()
        assert missing <= ({"agent", "budget", "metadata", "title"} if isinstance(event, SessionUpdated) else set())


def test_only_what_has_changed_is_told() -> None:
    """A budget that was removed is told by a null, and one that stayed is not told at all."""
    titled, removed = whole(numbered(SessionUpdated(title="new"), SessionUpdated(budget_removed=True)))

    assert titled.event.model_dump().keys() == {"id", "type", "processed_at", "title"}
    assert removed.event.model_dump().keys() == {"id", "type", "processed_at", "budget"}
    assert removed.event.model_dump()["budget"] is None


def test_every_kind_of_event_is_tried_above() -> None:
    tried = {type(event) for event in _ALL}

    assert {SessionPaused, ours.SessionResumed, UnknownEvent} == set(SessionEvent.__args__) - tried


def test_what_the_contract_does_not_know_is_sent_as_it_is() -> None:
    newer = UnknownEvent.model_validate({"type": "session.dreamt", "of": {"sheep": 3}})
    (paused, dreamt) = whole(numbered(SessionPaused(), newer))

    assert paused.event.kind == "session.status_paused"
    assert dreamt.event.model_dump() == {
        "id": "sevt_0002",
        "type": "session.dreamt",
        "processed_at": AT + timedelta(seconds=2),
        "of": {"sheep": 3},
    }


@pytest.mark.parametrize("text", ["", "x", "-1", "1.", ".1", "1.2.3", " 1", "\u0661", "9" * 19, "1e3"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        Place.parse(text, param="from_seq")

    assert error.value.param == "from_seq"
