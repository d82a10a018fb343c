"""Answers to `ask_user`, and results of other tools of the client, as content for the model."""

from collections.abc import Mapping, Sequence
from typing import cast

from sojourn.client.handle import ToolUse, call_id
from sojourn.types.content import ContentBlock, TextBlock
from sojourn.types.error import InvalidRequestError, ToolCallNotFoundError
from sojourn.types.event import AgentCustomToolUse, SessionEvent
from sojourn.types.question import ASK_USER, Answers, answer_text
from sojourn.types.wire import Wire


def result_blocks(
    content: str | Sequence[ContentBlock] | Answers, *, is_error: bool, questions: ToolUse
) -> tuple[ContentBlock, ...] | None:
    """The content of a result.

    Args:
        content: As the caller gave it.
        is_error: Whether it tells of a failure, in words.
        questions: The call that it is for.

    Returns:
        The blocks; ``None`` if it depends on the call's input, which the caller has not given.

    Raises:
        InvalidRequestError: Answers do not fit the questions, or the call asks none.
    """
    asks = isinstance(questions, AgentCustomToolUse) and questions.name == ASK_USER
    if isinstance(content, str):
        if not asks or is_error:
            return (TextBlock(text=content),)
        content = [content]
    if not isinstance(content, Mapping) and all(isinstance(each, Wire) for each in content):
        return cast("tuple[ContentBlock, ...]", tuple(content))
    if isinstance(questions, AgentCustomToolUse):
        if not asks:
            text = f"{questions.name!r} asks no questions; give its result as text or content blocks"
            raise InvalidRequestError(text, param="content")
        return (TextBlock(text=answer_text(questions.input, cast("Answers", content))),)
    return None


def asked(events: Sequence[SessionEvent], call: ToolUse) -> AgentCustomToolUse:
    """The call of `ask_user` with this id.

    Raises:
        ToolCallNotFoundError: There is none.
    """
    wanted = call_id(call)
    for event in reversed(events):
        if isinstance(event, AgentCustomToolUse) and event.id == wanted:
            return event
    raise ToolCallNotFoundError(wanted)
