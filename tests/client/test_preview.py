from hypothesis import given
from hypothesis import strategies as st

from sojourn.client.preview import PreviewCursor
from sojourn.types.content import TextBlock
from sojourn.types.event import AgentMessage, AgentThinking, AgentToolResult
from sojourn.types.id import EventId
from sojourn.types.preview import (
    ContentDelta,
    EventDelta,
    EventStart,
    ModelPreview,
    PartPreview,
    Preview,
    PreviewedEvent,
    ToolPreview,
    ToolProgress,
)

A, B, TOOL = EventId("sevt_a"), EventId("sevt_b"), EventId("sevt_t")


def text(id: EventId, text: str, *, offset: int = 0) -> PartPreview:
    return PartPreview(id=id, type="agent.message", text=text, offset=offset)


def shown(cursor: PreviewCursor, *parts: PartPreview) -> list[Preview]:
    return list(cursor.advance((ModelPreview(parts=parts),)))


def start(id: EventId) -> EventStart:
    return EventStart(event=PreviewedEvent(type="agent.message", id=id))


def delta(id: EventId, text: str) -> EventDelta:
    return EventDelta(event_id=id, delta=ContentDelta(content=TextBlock(text=text)))


def message(id: EventId, text: str) -> AgentMessage:
    return AgentMessage(id=id, content=(TextBlock(text=text),))


def test_start_comes_before_the_first_delta() -> None:
    assert shown(PreviewCursor(), text(A, "he")) == [start(A), delta(A, "he")]


def test_only_what_is_new_is_shown() -> None:
    cursor = PreviewCursor()
    shown(cursor, text(A, "he"))

    assert shown(cursor, text(A, "hello")) == [delta(A, "llo")]
    assert shown(cursor, text(A, "hello")) == []


def test_older_preview_that_comes_late_shows_nothing() -> None:
    cursor = PreviewCursor()
    shown(cursor, text(A, "hello"))

    assert shown(cursor, text(A, "he")) == []


def test_parts_are_previewed_side_by_side() -> None:
    cursor = PreviewCursor()
    shown(cursor, text(A, "one"))

    assert shown(cursor, text(A, "one!"), text(B, "two")) == [delta(A, "!"), start(B), delta(B, "two")]


def test_thoughts_have_a_start_and_no_text() -> None:
    part = PartPreview(id=A, type="agent.thinking")
    cursor = PreviewCursor()

    assert shown(cursor, part) == [EventStart(event=PreviewedEvent(type="agent.thinking", id=A))]
    assert shown(cursor, part) == []


def test_nothing_is_shown_after_the_event_itself() -> None:
    cursor = PreviewCursor()
    shown(cursor, text(A, "he"))

    cursor.settle(message(A, "hello"))

    assert shown(cursor, text(A, "hello")) == []


def test_event_that_was_never_previewed_is_not_previewed_afterwards() -> None:
    cursor = PreviewCursor()

    cursor.settle(message(A, "hello"))
    cursor.settle(AgentThinking(id=B))

    assert shown(cursor, text(A, "hello"), PartPreview(id=B, type="agent.thinking")) == []


def test_newer_attempt_starts_again_under_ids_of_its_own() -> None:
    cursor = PreviewCursor()
    shown(cursor, text(A, "I was ab"))

    assert shown(cursor, text(B, "I")) == [start(B), delta(B, "I")]


def test_window_that_overlaps_what_was_shown_goes_on() -> None:
    cursor = PreviewCursor()
    shown(cursor, text(A, "hello"))

    assert shown(cursor, text(A, "lo world", offset=3)) == [delta(A, " world")]


def test_window_that_leaves_a_gap_is_not_shown() -> None:
    cursor = PreviewCursor()
    shown(cursor, text(A, "hel"))

    assert shown(cursor, text(A, "world", offset=6)) == []


def test_late_follower_of_a_long_text_sees_its_start_only() -> None:
    assert shown(PreviewCursor(), text(A, "world", offset=6)) == [start(A)]


def test_empty_preview_shows_nothing() -> None:
    assert list(PreviewCursor().advance(())) == []
    assert shown(PreviewCursor()) == []


def test_progress_of_a_tool_is_shown_when_it_changes() -> None:
    cursor = PreviewCursor()

    def progress(words: str) -> list[Preview]:
        return list(cursor.advance((ToolPreview(tool_use_id=TOOL, progress=words),)))

    assert progress("half") == [ToolProgress(tool_use_id=TOOL, text="half")]
    assert progress("half") == []
    assert progress("done") == [ToolProgress(tool_use_id=TOOL, text="done")]
    cursor.settle(AgentToolResult(tool_use_id=TOOL))
    assert progress("stale") == []


@given(data=st.data(), final=st.text(max_size=60), window=st.integers(min_value=1, max_value=80))
def test_deltas_are_a_prefix_of_the_final_text_whatever_is_seen_of_it(
    data: st.DataObject, final: str, window: int
) -> None:
    """Previews are polled: some are missed, some are seen twice, and of a long text only the end travels."""
    lengths = sorted(data.draw(st.lists(st.integers(min_value=0, max_value=len(final)), max_size=8)))
    settled_at = data.draw(st.integers(min_value=0, max_value=len(lengths)))
    cursor, seen, after = PreviewCursor(), list[Preview](), list[Preview]()

    for place, length in enumerate(lengths):
        if place == settled_at:
            cursor.settle(message(A, final))
        offset = max(length - window, 0)
        found = shown(cursor, text(A, final[offset:length], offset=offset))
        (after if place >= settled_at else seen).extend(found)

    deltas = [each for each in seen if isinstance(each, EventDelta)]
    assert after == []
    assert final.startswith("".join(each.delta.content.text for each in deltas))
    assert all(each.delta.content.text for each in deltas)
    assert seen[:1] == ([start(A)] if seen else [])
    assert len(seen) == len(deltas) + bool(seen)
