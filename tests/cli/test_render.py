import pytest

from sojourn.cli.render import call_text, event_line, snippet
from sojourn.types import (
    AgentMessage,
    AgentThinking,
    AgentToolUse,
    ContentDelta,
    ContextCompacted,
    EventDelta,
    EventId,
    EventStart,
    ModelRequestStart,
    PreviewedEvent,
    RequiresAction,
    SessionIdle,
    TextBlock,
    ToolProgress,
    UnknownEvent,
    UserMessage,
)

ID = EventId("sevt_1")


def test_line_has_number_kind_and_content() -> None:
    line = event_line(UserMessage.text("hello\nthere").model_copy(update={"seq": 3}))

    assert line is not None
    assert line.plain.split(maxsplit=2) == ["3", "user", "hello there"]


def test_long_content_is_cut_unless_verbose() -> None:
    event = AgentMessage(content=(TextBlock(text="x" * 500),))
    short, whole = event_line(event), event_line(event, verbose=True)

    assert short is not None
    assert len(short.plain) < 200
    assert whole is not None
    assert "x" * 500 in whole.plain


@pytest.mark.parametrize(
    "event", [AgentThinking(), ModelRequestStart(), EventStart(event=PreviewedEvent(type="agent.message", id=ID))]
)
def test_quiet_events_have_no_line(event: AgentThinking | ModelRequestStart | EventStart) -> None:
    assert event_line(event) is None


def test_call_that_asks_shows_the_id_to_confirm() -> None:
    call = AgentToolUse(id=ID, name="pay", input={"to": "Ada", "amount": 3}, evaluated_permission="ask")
    line = event_line(call)

    assert line is not None
    assert 'pay(to="Ada", amount=3)  sevt_1' in line.plain


def test_idle_names_what_it_waits_for() -> None:
    line = event_line(SessionIdle(stop_reason=RequiresAction(event_ids=(ID,))))

    assert line is not None
    assert line.plain.endswith("requires_action: sevt_1")


@pytest.mark.parametrize(
    "event",
    [
        EventDelta(event_id=ID, delta=ContentDelta(content=TextBlock(text="so far"))),
        ToolProgress(tool_use_id=ID, text="so far"),
    ],
)
def test_previews_have_a_line(event: EventDelta | ToolProgress) -> None:
    line = event_line(event)

    assert line is not None
    assert line.plain.endswith("so far")


def test_event_of_a_newer_release_shows_its_type() -> None:
    line = event_line(UnknownEvent(type="session.renamed"))

    assert line is not None
    assert "session.renamed" in line.plain


def test_control_characters_never_reach_the_terminal() -> None:
    assert "\x1b" not in snippet("\x1b[2J\x9bclear")
    assert "\x1b" not in snippet(call_text("say", {"text": "\x1b[2J"}))


def test_compaction_is_told_in_a_line() -> None:
    line = event_line(ContextCompacted(id=ID, seq=7))

    assert line is not None
    assert line.plain.split() == [
        "7",
        "compacted",
        "a",
        "summary",
        "takes",
        "the",
        "place",
        "of",
        "the",
        "older",
        "part",
        "of",
        "the",
        "conversation",
    ]
