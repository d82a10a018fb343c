import pytest
from pydantic import JsonValue
from pydantic_ai.messages import (
    ModelResponsePart,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
)

from sojourn.activities.answer import Parts, arguments
from sojourn.activities.model import AnswerText, AnswerThinking, AnswerToolCall, Delta


def start(index: int, part: ModelResponsePart) -> PartStartEvent:
    return PartStartEvent(index=index, part=part)


def more(index: int, text: str) -> PartDeltaEvent:
    return PartDeltaEvent(index=index, delta=TextPartDelta(content_delta=text))


def told(parts: Parts, *events: ModelResponseStreamEvent) -> list[Delta]:
    return [delta for event in events if (delta := parts.feed(event)) is not None]


def test_a_blank_part_gets_no_number() -> None:
    parts = Parts()

    deltas = told(parts, start(0, TextPart("")), more(0, "\n"), start(1, TextPart("hi")), more(1, " there"))

    assert deltas == [Delta(0, "text", "hi"), Delta(0, "text", " there")]
    assert parts.finished([TextPart("\n"), TextPart("hi there")]) == [AnswerText("hi there")]


def test_leading_space_is_told_with_the_first_word() -> None:
    parts = Parts()

    deltas = told(parts, start(0, TextPart("")), more(0, " \n"), more(0, "hi"), more(0, " "))

    assert deltas == [Delta(0, "text", " \nhi"), Delta(0, "text", " ")]


def test_thinking_without_text_counts_from_its_signature() -> None:
    parts = Parts()
    signed = PartDeltaEvent(index=0, delta=ThinkingPartDelta(signature_delta="c2ln"))

    deltas = told(parts, start(0, ThinkingPart("")), signed, start(1, TextPart("hi")))

    assert deltas == [Delta(1, "text", "hi")]
    finished = parts.finished([ThinkingPart("", signature="c2ln"), TextPart("hi")])
    assert finished == [AnswerThinking("", "c2ln"), AnswerText("hi")]


def test_a_tool_call_counts_from_its_name() -> None:
    parts = Parts()

    told(parts, start(0, ToolCallPart("add", None, "call_1")), start(1, TextPart("hi")))

    finished = parts.finished([ToolCallPart("add", '{"a": 1}', "call_1"), TextPart("hi")])
    assert finished == [AnswerToolCall("call_1", "add", {"a": 1}), AnswerText("hi")]


def test_a_part_that_never_started_shifts_no_other() -> None:
    """A call whose name never came takes an index, and is not among pydantic-ai's finished parts."""
    parts = Parts()

    told(parts, start(0, TextPart("one")), start(2, TextPart("two")))

    assert parts.finished([TextPart("one"), TextPart("two")]) == [AnswerText("one"), AnswerText("two")]


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("", {}),
        ('{"a": 1}', {"a": 1}),
        ({"a": 1}, {"a": 1}),
        ("[1]", {"__invalid_json__": "[1]"}),
        ('{"a": ', {"__invalid_json__": '{"a": '}),
        ('{"a": Infinity}', {"__invalid_json__": '{"a": Infinity}'}),
    ],
)
def test_arguments_are_always_an_object(written: str | dict[str, JsonValue], kept: dict[str, JsonValue]) -> None:
    assert arguments(written) == kept
