import pytest

from sojourn.activities.conversation import AssistantTurn, Message, SystemTurn, ToolResult, ToolResults, UserTurn
from sojourn.activities.summary import question, shorten, transcript
from sojourn.types.content import Base64Source, ContentBlock, DocumentBlock, ImageBlock, PlainTextSource, TextBlock
from sojourn.types.id import EventId
from sojourn.types.record import TextPart, ThinkingPart, ToolCallPart

PIXEL = Base64Source(media_type="image/png", data="aGk=")


def user(*blocks: TextBlock | ImageBlock | DocumentBlock) -> UserTurn:
    return UserTurn(blocks)


def result(*blocks: ContentBlock, is_error: bool = False) -> ToolResults:
    return ToolResults((ToolResult("c", "search", blocks, is_error),))


def test_transcript_says_who_said_what() -> None:
    call = ToolCallPart(
        id=EventId("e"), call_id="c", name="search", input={"q": "x"}, kind="function", permission="allow"
    )
    messages: list[Message] = [
        UserTurn((TextBlock(text="earlier"),), summary=True),
        user(TextBlock(text="Look."), ImageBlock(source=PIXEL)),
        AssistantTurn((ThinkingPart(id=EventId("t"), text="hm"), TextPart(id=EventId("p"), text="I look."), call)),
        result(TextBlock(text="found")),
        result(TextBlock(text="lost"), is_error=True),
        SystemTurn("Be brief."),
    ]

    assert transcript(messages, limit=10_000) == (
        "[summary of what came before]\nearlier\n\n"
        "[user]\nLook.\n(an image)\n\n"
        "[agent]\nI look.\n\n"
        '[agent calls search]\n{"q":"x"}\n\n'
        "[result of search]\nfound\n\n"
        "[error of search]\nlost\n\n"
        "[instructions]\nBe brief."
    )


def test_text_of_a_document_is_in_the_transcript_and_its_bytes_are_not() -> None:
    text = DocumentBlock(source=PlainTextSource(data="all of it"), title="Report")
    scan = DocumentBlock(source=PIXEL, title="Scan")

    assert transcript([user(text, scan)], limit=1000) == "[user]\nReport\nall of it\n(a document: Scan)"


def test_long_entries_lose_their_middle_before_short_ones_lose_anything() -> None:
    messages: list[Message] = [
        user(TextBlock(text="What is in it?")),
        result(TextBlock(text=f"begin{'x' * 50_000}end")),
    ]

    text = transcript(messages, limit=12_000)

    assert len(text) <= 12_000
    assert text.startswith("[user]\nWhat is in it?\n\n[result of search]\nbegin")
    assert "characters left out" in text
    assert text.endswith("end")


@pytest.mark.parametrize("letter", ["x", "ä", "語", "🙂"])
@pytest.mark.parametrize("limit", [100, 1000, 50_000])
def test_transcript_fits_whatever_it_is_made_of(letter: str, limit: int) -> None:
    messages = [user(TextBlock(text=letter * 700)) for _ in range(300)]

    assert 0 < len(transcript(messages, limit=limit).encode()) <= limit


def test_shortening_keeps_both_ends() -> None:
    text = shorten("a" * 500 + "b" * 500, 200)

    assert len(text) <= 200
    assert text.startswith("aaaa")
    assert text.endswith("bbbb")
    assert shorten("short", 200) == "short"


def test_question_holds_the_wishes_of_the_definition() -> None:
    text = question([user(TextBlock(text="hi"))], room_tokens=1000, words=75, wishes="Keep all prices.")

    assert text.startswith("<transcript>\n[user]\nhi\n</transcript>")
    assert text.endswith("at most 75 words. Beside that: Keep all prices.")
