"""Where a compaction cuts. The rules hold for every conversation, so most of it is generated."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.activities.conversation import (
    AssistantTurn,
    Message,
    SystemTurn,
    ToolResult,
    ToolResults,
    UserTurn,
    compacted,
)
from sojourn.activities.cut import Cut, cut
from sojourn.types.agent import Compaction
from sojourn.types.content import TextBlock
from sojourn.types.id import EventId
from sojourn.types.record import CompactContextResult, TextPart, ToolCallPart

WINDOW = 1000
SETTINGS = Compaction(threshold=0.8, keep=0.2)


def user(text: str) -> UserTurn:
    return UserTurn((TextBlock(text=text),))


def summary(text: str = "before") -> UserTurn:
    return UserTurn((TextBlock(text=text),), summary=True)


def said(text: str) -> AssistantTurn:
    return AssistantTurn((TextPart(id=EventId(text), text=text),))


def asked(*ids: str) -> AssistantTurn:
    return AssistantTurn(
        tuple(
            ToolCallPart(id=EventId(id), call_id=id, name="t", input={}, kind="function", permission="allow")
            for id in ids
        )
    )


def told(*ids: str) -> ToolResults:
    return ToolResults(tuple(ToolResult(id, "t", (TextBlock(text="done"),), False) for id in ids))


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """Conversations as a compaction finds them: every call has its result."""
    messages: list[Message] = [summary()] if draw(st.booleans()) else []
    for number, kind in enumerate(draw(st.lists(st.sampled_from(["user", "system", "said", "tools"]), max_size=12))):
        match kind:
            case "user":
                messages.append(user(f"u{number}"))
            case "system":
                messages.append(SystemTurn(f"s{number}"))
            case "said":
                messages.append(said(f"a{number}"))
            case _:
                messages += [asked(f"c{number}"), told(f"c{number}")]
    return messages


@st.composite
def weighed(draw: st.DrawFn) -> tuple[list[Message], list[int]]:
    messages = draw(conversations())
    return messages, draw(
        st.lists(st.integers(1, WINDOW), min_size=len(messages), max_size=len(messages)).map(list[int])
    )


def after(messages: Sequence[Message], found: Cut) -> list[Message]:
    result = CompactContextResult(
        step=EventId("s"), summary="all of it", kept=found.kept, kept_message=found.kept_message
    )
    return compacted(messages, result)


settings_of = st.builds(Compaction, threshold=st.floats(0.5, 1), keep=st.floats(0, 0.4))


@given(weighed(), settings_of)
def test_a_call_and_its_results_are_never_separated(
    drawn: tuple[list[Message], list[int]], settings: Compaction
) -> None:
    messages, sizes = drawn
    if (found := cut(messages, sizes, window=WINDOW, settings=settings)) is None:
        return
    left = after(messages, found)

    for place, message in enumerate(left):
        if isinstance(message, ToolResults):
            before = left[place - 1]
            assert isinstance(before, AssistantTurn)
            assert [part.id for part in before.parts] == [result.call_id for result in message.results]
        if isinstance(message, AssistantTurn) and isinstance(message.parts[0], ToolCallPart):
            assert isinstance(left[place + 1], ToolResults)


@given(weighed(), settings_of)
def test_instructions_stay_and_order_is_kept(drawn: tuple[list[Message], list[int]], settings: Compaction) -> None:
    messages, sizes = drawn
    if (found := cut(messages, sizes, window=WINDOW, settings=settings)) is None:
        return
    left = after(messages, found)
    kept = [message for message in left if not (isinstance(message, UserTurn) and message.summary)]

    assert [m for m in left if isinstance(m, SystemTurn)] == [m for m in messages if isinstance(m, SystemTurn)]
    standing = [message for message in kept if not isinstance(message, SystemTurn)]
    places = [messages.index(message) for message in standing]
    assert places == sorted(places)
    # Each message is either replaced or kept, and one summary stands for all that is replaced.
    assert sorted([*places, *(messages.index(message) for message in found.replaced)]) == [
        place for place, message in enumerate(messages) if not isinstance(message, SystemTurn)
    ]
    assert sum(isinstance(m, UserTurn) and m.summary for m in left) == 1


@given(weighed(), settings_of)
def test_what_is_left_fits_and_is_worth_it(drawn: tuple[list[Message], list[int]], settings: Compaction) -> None:
    messages, sizes = drawn
    if (found := cut(messages, sizes, window=WINDOW, settings=settings)) is None:
        return
    weights = {id(message): size for message, size in zip(messages, sizes, strict=True)}
    newest = messages[len(messages) - found.kept :]
    gone = sum(weights[id(m)] for m in found.replaced if not (isinstance(m, UserTurn) and m.summary))

    assert sum(weights[id(message)] for message in newest) <= settings.threshold * WINDOW
    assert gone >= 0.1 * WINDOW


@given(weighed(), settings_of)
def test_the_message_being_worked_on_stays_if_the_window_can_take_it(
    drawn: tuple[list[Message], list[int]], settings: Compaction
) -> None:
    messages, sizes = drawn
    found = cut(messages, sizes, window=WINDOW, settings=settings)
    places = [place for place, m in enumerate(messages) if isinstance(m, UserTurn) and not m.summary]
    if found is None or not places or isinstance(messages[-1], AssistantTurn):
        return

    newest = messages[len(messages) - found.kept :]
    last = messages[places[-1]]
    # What came after the message, such as an instruction, is no reason to let go of it.
    assert (last in after(messages, found)) == (sizes[places[-1]] <= settings.threshold * WINDOW)
    assert not (found.kept_message and last in newest)


def test_the_newest_messages_stay_up_to_their_share() -> None:
    messages: list[Message] = [user("1"), said("1"), user("2"), said("2"), user("3"), said("3")]

    found = cut(messages, [200, 200, 100, 100, 50, 50], window=WINDOW, settings=SETTINGS)

    assert found == Cut((user("1"), said("1"), user("2")), 3, False)


def test_results_that_the_model_has_not_seen_stay_beyond_that_share() -> None:
    messages: list[Message] = [user("1"), said("1"), user("2"), asked("c"), told("c")]

    found = cut(messages, [300, 100, 50, 20, 500], window=WINDOW, settings=SETTINGS)

    assert found == Cut((user("1"), said("1")), 2, True)


def test_results_that_leave_no_room_are_summed_up_and_their_request_stays() -> None:
    messages: list[Message] = [user("1"), said("1"), user("2"), asked("c"), told("c")]

    found = cut(messages, [300, 100, 50, 20, 900], window=WINDOW, settings=SETTINGS)

    assert found == Cut((user("1"), said("1"), asked("c"), told("c")), 0, True)


def test_a_request_before_many_steps_stays_apart_from_them() -> None:
    messages: list[Message] = [user("1"), asked("a"), told("a"), asked("b"), told("b"), asked("c"), told("c")]

    found = cut(messages, [50, 20, 300, 20, 300, 20, 50], window=WINDOW, settings=SETTINGS)

    assert found == Cut((asked("a"), told("a"), asked("b"), told("b")), 2, True)


def test_a_request_that_has_been_answered_may_go() -> None:
    found = cut([user("1"), said("1")], [100, 700], window=WINDOW, settings=SETTINGS)

    assert found == Cut((user("1"), said("1")), 0, False)


def test_a_request_that_is_too_large_itself_is_summed_up() -> None:
    assert cut([user("1")], [900], window=WINDOW, settings=SETTINGS) == Cut((user("1"),), 0, False)


def test_an_earlier_summary_is_replaced_by_the_next() -> None:
    messages: list[Message] = [SystemTurn("s"), summary(), user("1"), said("1"), user("2"), said("2")]

    found = cut(messages, [1, 1, 400, 110, 50, 50], window=WINDOW, settings=SETTINGS)

    assert found == Cut((summary(), user("1"), said("1")), 2, False)


@pytest.mark.parametrize(
    "messages",
    [[], [summary()], [SystemTurn("s")], [SystemTurn("s"), summary(), user("1")], [user("1")]],
    ids=["nothing", "a summary", "instructions", "a request after a summary", "a request"],
)
def test_nothing_is_cut_where_nothing_can_be_gained(messages: list[Message]) -> None:
    sizes = [500] * len(messages)

    assert cut(messages, sizes, window=WINDOW, settings=SETTINGS, least=0.0) is None


def test_too_little_to_gain_is_left_alone_unless_it_must_be() -> None:
    messages: list[Message] = [user("1"), said("1"), user("2"), said("2")]
    sizes = [20, 50, 100, 100]

    assert cut(messages, sizes, window=WINDOW, settings=SETTINGS) is None
    assert cut(messages, sizes, window=WINDOW, settings=SETTINGS, least=0.0) == Cut((user("1"), said("1")), 2, False)
