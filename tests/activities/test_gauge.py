import pytest

from sojourn.activities import Toolbox
from sojourn.activities.catalogue import Catalogue
from sojourn.activities.conversation import AssistantTurn, Conversation, ToolResult, ToolResults, UserTurn
from sojourn.activities.gauge import Gauge
from sojourn.activities.model import ModelCallError
from sojourn.types.agent import AgentDefinition, AgentVersion, Compaction
from sojourn.types.content import TextBlock
from sojourn.types.id import AgentId, EventId, SessionId
from sojourn.types.record import CallModelResult, TextPart
from sojourn.types.session import Owner, SessionInput
from sojourn.types.usage import Usage

WINDOW = 1000
GAUGE = Gauge(Catalogue(Toolbox()))


def start(compaction: Compaction | None = None) -> SessionInput:
    definition = AgentDefinition(name="a", model="scripted:s", compaction=compaction or Compaction())
    agent = AgentVersion(id=AgentId("agent_1"), version=1, definition=definition)
    return SessionInput(session_id=SessionId("sesn_1"), owner=Owner("acme", "ada"), agent=agent)


def user(text: str, *, summary: bool = False) -> UserTurn:
    return UserTurn((TextBlock(text=text),), summary=summary)


def answer(tokens: int) -> CallModelResult:
    part = TextPart(id=EventId("p"), text="well")
    return CallModelResult(step=EventId("s"), parts=(part,), usage=Usage(input_tokens=tokens - 10, output_tokens=10))


def long(used: int = 500) -> Conversation:
    """Counted up to its answer; huge results have come since."""
    results = ToolResults((ToolResult("c", "t", (TextBlock(text="x" * 2400),), False),))
    said = AssistantTurn((TextPart(id=EventId("p"), text="x" * 100),))
    return Conversation([user("x" * 100), said, user("x"), said, results], used_tokens=used, measured=4 if used else 0)


@pytest.mark.parametrize(("tokens", "full"), [(799, False), (800, True), (1200, True)])
def test_answer_over_the_threshold_fills_the_window(tokens: int, full: bool) -> None:
    conversation = Conversation([user("x" * 4000)])

    assert GAUGE.is_full(start(), conversation, answer(tokens), WINDOW) is full


def test_threshold_is_the_definitions() -> None:
    conversation = Conversation([user("x" * 4000)])

    assert not GAUGE.is_full(start(Compaction(threshold=0.95)), conversation, answer(900), WINDOW)
    assert not GAUGE.is_full(start(Compaction(enabled=False)), conversation, answer(900), WINDOW)


def test_conversation_that_cannot_shrink_is_never_full() -> None:
    """Otherwise each step of an agent whose prompt and tools fill the window would be followed by a compaction."""
    conversation = Conversation([user("summary", summary=True)])

    assert not GAUGE.is_full(start(), conversation, answer(900), WINDOW)


def test_step_that_cannot_fit_is_refused_before_it_is_sent() -> None:
    with pytest.raises(ModelCallError, match="about 1,101 tokens and the model's window 1,000") as error:
        GAUGE.check_room(start(), long(), WINDOW)

    assert error.value.failure.too_long


@pytest.mark.parametrize(
    ("settings", "conversation", "window"),
    [
        (Compaction(), long(), 1200),
        (Compaction(), long(used=0), WINDOW),
        (Compaction(enabled=False), long(), WINDOW),
        (Compaction(), Conversation([user("s", summary=True)], used_tokens=2000, measured=1), WINDOW),
    ],
    ids=["fits", "never counted", "switched off", "cannot shrink"],
)
def test_step_is_left_to_the_provider(settings: Compaction, conversation: Conversation, window: int) -> None:
    GAUGE.check_room(start(settings), conversation, window)
