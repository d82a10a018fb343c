import pytest
from pydantic import ValidationError

from sojourn.types.content import TextBlock
from sojourn.types.event import (
    AgentMessage,
    AgentToolResult,
    Event,
    SessionEvent,
    SessionIdle,
    UnknownEvent,
    UserMessage,
    read_event,
)
from sojourn.types.id import EventId
from sojourn.types.session import EndTurn


def test_every_event_has_a_type_of_its_own() -> None:
    known = [kind for kind in SessionEvent.__args__ if kind is not UnknownEvent]
    types = [kind.model_fields["type"].default for kind in known]

    assert len(set(types)) == len(known)
    assert all(issubclass(kind, Event) for kind in known)


def test_event_is_read_as_its_class() -> None:
    event = SessionIdle(stop_reason=EndTurn(), id=EventId("sevt_1"), seq=7)

    assert read_event(event.model_dump_json()) == event


def test_event_of_a_newer_release_is_kept_with_its_fields() -> None:
    event = read_event('{"type": "session.dreamt", "id": "sevt_1", "seq": 3, "of": ["sheep"]}')

    assert isinstance(event, UnknownEvent)
    assert (event.id, event.seq, event.type) == ("sevt_1", 3, "session.dreamt")
    assert event.model_extra == {"of": ["sheep"]}


def test_field_of_a_newer_release_is_ignored() -> None:
    event = read_event('{"type": "agent.message", "content": [{"type": "text", "text": "hi", "font": "x"}], "mood": 1}')

    assert event == AgentMessage(content=(TextBlock(text="hi"),))


@pytest.mark.parametrize("data", ["", "[]", '"x"', '{"type": "agent.message"}'])
def test_what_is_no_event_is_refused(data: str) -> None:
    with pytest.raises(ValidationError):
        read_event(data)


def test_text_of_a_message_is_its_blocks_by_lines() -> None:
    content = (TextBlock(text="one"), TextBlock(text="two"))

    assert AgentMessage(content=content).text == "one\ntwo"
    assert AgentToolResult(tool_use_id=EventId("sevt_1"), content=content).text == "one\ntwo"


def test_message_of_a_text_has_one_block() -> None:
    assert UserMessage.text("hi", id="sevt_1") == UserMessage(content=(TextBlock(text="hi"),), id=EventId("sevt_1"))
