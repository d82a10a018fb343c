"""What approvals and hooks leave in the conversation: the same on every worker, because it is a fold of the log."""

import pytest

from sojourn.activities.conversation import Conversation, UserTurn
from sojourn.types.content import TextBlock
from sojourn.types.event import AgentToolResult, Remember, UserEvent, UserMessage, UserToolConfirmation
from sojourn.types.id import EventId
from sojourn.types.record import CallModelInput, CallModelResult, PromptVerdict, Said, ToolCallPart, UserEvents
from sojourn.types.usage import Usage

CALL = ToolCallPart(
    id=EventId("call"), call_id="c", name="bash", input={"command": "make"}, kind="function", permission="ask"
)


def say(*events: UserEvent) -> tuple[UserEvents, list[UserEvent]]:
    return UserEvents(sent=events), list(events)


def allow(id: str = "one", *, remember: Remember | None = "session", result: str = "allow") -> UserToolConfirmation:
    return UserToolConfirmation.model_validate(
        {"id": id, "tool_use_id": "call", "result": result, "remember": remember if result == "allow" else None}
    )


def asked() -> Conversation:
    conversation = Conversation()
    conversation.feed(CallModelResult(step=EventId("s"), parts=(CALL,)))
    return conversation


def test_the_first_answer_counts() -> None:
    first, second = asked(), asked()
    for event in (allow(), allow("two", remember=None)):
        first.feed(*say(event))
    for event in (allow(remember=None), allow("two")):
        second.feed(*say(event))

    assert (first.approved, second.approved) == ([CALL], [])


def test_an_answer_that_overtakes_the_call_counts() -> None:
    conversation = Conversation()
    conversation.feed(*say(allow()))
    conversation.feed(CallModelResult(step=EventId("s"), parts=(CALL,)))
    conversation.feed(*say(allow("two")))

    assert conversation.approved == [CALL]


@pytest.mark.parametrize("event", [allow(remember=None), allow(result="deny")])
def test_nothing_is_remembered_unless_it_was_said(event: UserToolConfirmation) -> None:
    conversation = asked()
    conversation.feed(*say(event))

    assert conversation.approved == []


def test_an_answer_after_the_result_counts_for_nothing() -> None:
    conversation = asked()
    interrupted = AgentToolResult(tool_use_id=CALL.id, outcome="interrupted", is_error=True)
    conversation.feed(Said(said=(interrupted,)))
    conversation.feed(*say(allow()))

    assert conversation.approved == []


@pytest.mark.parametrize("scope", ["agent", "global"])
def test_what_is_allowed_beyond_the_session_makes_the_rules_new_until_they_were_read(scope: Remember) -> None:
    conversation = asked()
    conversation.feed(*say(allow(remember=scope)))

    assert (conversation.approved, conversation.rules_changed) == ([], True)
    conversation.feed(CallModelResult(step=EventId("t")))
    assert not conversation.rules_changed


def texts(conversation: Conversation) -> list[str]:
    turns = [message for message in conversation.messages if isinstance(message, UserTurn)]
    return [block.text for turn in turns for block in turn.content if isinstance(block, TextBlock)]


def prompted(*names: str) -> Conversation:
    conversation = Conversation()
    conversation.feed(*say(*(UserMessage.text(name, id=name) for name in names)))
    conversation.feed(CallModelInput(step=EventId("s"), consumes=tuple(EventId(name) for name in names)))
    return conversation


def test_messages_are_what_hooks_have_made_of_them() -> None:
    conversation = prompted("kept", "changed", "gone")
    verdicts = (
        PromptVerdict(id=EventId("kept")),
        PromptVerdict(id=EventId("changed"), content=(TextBlock(text="other"),)),
        PromptVerdict(id=EventId("gone"), denied=True),
    )

    conversation.feed(CallModelResult(step=EventId("s"), prompts=verdicts, usage=Usage(input_tokens=1)))

    assert texts(conversation) == ["kept", "other"]
    assert conversation.fresh == []
    assert conversation.measured == 2


def test_what_an_interrupt_left_undecided_is_for_the_next_step() -> None:
    conversation = prompted("one", "two")
    decided = (PromptVerdict(id=EventId("one")),)

    conversation.feed(CallModelResult(step=EventId("s"), prompts=decided, finish_reason="interrupted"))

    assert conversation.fresh == ["two"]


def test_a_message_stays_new_while_its_step_is_tried_again() -> None:
    conversation = prompted("one")
    conversation.feed(CallModelInput(step=EventId("again")))

    assert conversation.fresh == ["one"]
