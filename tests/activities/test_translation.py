import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import JsonValue
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.messages import TextPart as TheirText
from pydantic_ai.models.test import TestModel

from sojourn.activities.conversation import AssistantTurn, Message, SystemTurn, ToolResult, ToolResults, UserTurn
from sojourn.activities.translation import messages_for, settings_for, state_of
from sojourn.types.content import (
    Base64Source,
    DocumentBlock,
    FileSource,
    ImageBlock,
    MessageBlock,
    PlainTextSource,
    SearchResultBlock,
    TextBlock,
    UrlSource,
)
from sojourn.types.id import EventId
from sojourn.types.model import ModelRef, ModelSettings
from sojourn.types.record import TextPart, ThinkingPart, ToolCallPart

GOLDEN = Path(__file__).parent / "golden" / "messages.json"

# Any pydantic-ai model will do: of the model, only the provider's name matters here. Its name is "test".
MODEL = TestModel()
OURS: dict[str, JsonValue] = {"provider": "test", "id": "item_1", "details": {"phase": "final"}}

CALL = ToolCallPart(
    id=EventId("sevt_4"),
    call_id="call_1",
    name="search",
    input={"query": "rain"},
    kind="function",
    permission="allow",
    state={"provider": "test", "id": "fc_1"},
)
CONVERSATION: Sequence[Message] = (
    SystemTurn("Be kind."),
    UserTurn(
        (
            TextBlock(text="What are these?"),
            ImageBlock(source=Base64Source(media_type="image/png", data="aW1hZ2U=")),
            ImageBlock(source=UrlSource(url="https://example.com/cat.png")),
            DocumentBlock(source=Base64Source(media_type="application/pdf", data="cGRm"), title="Report"),
            DocumentBlock(source=UrlSource(url="https://example.com/a.pdf"), context="From the archive"),
            DocumentBlock(source=PlainTextSource(data="plain words")),
            ImageBlock(source=FileSource(file_id="file_1")),
        )
    ),
    AssistantTurn(
        (
            ThinkingPart(id=EventId("sevt_1"), text="hm", signature="c2ln", state=OURS),
            ThinkingPart(id=EventId("sevt_2"), text="foreign", signature="c2ln", state={"provider": "other"}),
            TextPart(id=EventId("sevt_3"), text="I search.", state=OURS),
            CALL,
        )
    ),
    ToolResults(
        (
            ToolResult(
                "call_1",
                "search",
                (
                    TextBlock(text="found"),
                    SearchResultBlock(source="https://example.com", title="Rain", content=(TextBlock(text="wet"),)),
                    ImageBlock(source=Base64Source(media_type="image/png", data="aW1hZ2U=")),
                ),
                is_error=False,
            ),
            ToolResult("call_2", "search", (TextBlock(text="no network"),), is_error=True),
            ToolResult("call_3", "search", (), is_error=False),
        )
    ),
    SystemTurn("Be brief now."),
    UserTurn((TextBlock(text="and?"),)),
    UserTurn((TextBlock(text="hello?"),)),
    AssistantTurn((TextPart(id=EventId("sevt_5"), text="Rain is wet."),)),
    UserTurn((TextBlock(text="thanks"),)),
)


def test_the_mapping_of_a_conversation_stays_as_it_is() -> None:
    """Set UPDATE_GOLDEN=1 to write the file anew, and read the difference before it is kept."""
    found = _stable(ModelMessagesTypeAdapter.dump_python(messages_for(MODEL, CONVERSATION), mode="json"))
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(json.dumps(found, indent=2) + "\n")

    assert found == json.loads(GOLDEN.read_text())


def _stable(value: object) -> object:
    """Without times, and without what pydantic-ai leaves at its default: later releases add such fields."""
    match value:
        case dict():
            return {key: _stable(item) for key, item in value.items() if item not in _UNSET and key not in _NOISE}
        case list():
            return [_stable(item) for item in value]
        case _:
            return value


_UNSET: tuple[object, ...] = (None, [], {}, "complete")
_NOISE = ("timestamp", "usage")


def parts_of(*messages: Message) -> list[object]:
    return [part for message in messages_for(MODEL, messages) for part in message.parts]


def content_of(*blocks: MessageBlock) -> object:
    (part,) = parts_of(UserTurn(blocks))
    assert isinstance(part, UserPromptPart)
    return part.content


def test_one_text_is_a_string() -> None:
    assert content_of(TextBlock(text="hi")) == "hi"


def test_blank_text_is_left_out() -> None:
    image = ImageBlock(source=Base64Source(media_type="image/png", data="aW1hZ2U="))

    assert content_of(TextBlock(text=" \n"), image) == [BinaryContent(b"image", media_type="image/png")]
    assert parts_of(UserTurn((TextBlock(text=""),))) == []
    assert parts_of(AssistantTurn((TextPart(id=EventId("sevt_1"), text="\n"),))) == []


def test_a_file_that_is_not_base64_is_refused() -> None:
    with pytest.raises(UserError, match="'image/png' is not valid base64"):
        content_of(ImageBlock(source=Base64Source(media_type="image/png", data="not base64!")))


def test_everything_between_two_answers_is_one_request() -> None:
    said = AssistantTurn((TextPart(id=EventId("sevt_1"), text="yes"),))
    asked = UserTurn((TextBlock(text="hi"),))

    kinds = [message.kind for message in messages_for(MODEL, [asked, asked, said, asked, SystemTurn("x"), asked])]

    assert kinds == ["request", "response", "request"]


def test_a_turn_of_foreign_thinking_alone_disappears() -> None:
    thought = ThinkingPart(id=EventId("sevt_1"), text="hm", signature="c2ln", state={"provider": "other"})

    assert messages_for(MODEL, [AssistantTurn((thought,))]) == []


def test_a_failed_tool_is_marked() -> None:
    call = ToolResult("call_1", "search", (TextBlock(text="no"),), is_error=True)

    (request,) = messages_for(MODEL, [ToolResults((call,))])

    assert isinstance(request, ModelRequest)
    (part,) = request.parts
    assert isinstance(part, ToolReturnPart)
    assert part.outcome == "failed"


def test_state_is_kept_only_where_the_provider_has_some() -> None:
    assert state_of(TheirText("hi")) is None
    assert state_of(TheirText("hi", provider_name="p")) == {"provider": "p"}
    assert state_of(TheirText("hi", id="m1", provider_name="p", provider_details={"raw": b"x"})) == {
        "provider": "p",
        "id": "m1",
        "details": {"raw": "x"},
    }


def test_settings_that_are_left_out_stay_the_providers() -> None:
    assert settings_for(ModelRef(provider="openai", model="m")) == {"max_retries": 0}
    assert settings_for(ModelRef(provider="openai", model="m", settings=ModelSettings(effort="low", max_tokens=5))) == {
        "max_retries": 0,
        "max_tokens": 5,
        "thinking": "low",
    }
