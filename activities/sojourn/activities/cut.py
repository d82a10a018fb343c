"""Where a compaction cuts a conversation: what stays word for word, and what a summary is to stand for."""

from collections.abc import Sequence
from dataclasses import dataclass

from sojourn.activities.conversation import AssistantTurn, Message, SystemTurn, ToolResults, UserTurn, last_request
from sojourn.types.agent import Compaction

LEAST_GAIN = 0.1
"""Share of the window that must be there to replace. Otherwise a conversation that cannot shrink would be compacted
again before each step."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What becomes of each message."""

    replaced: tuple[Message, ...]
    """What the summary is to stand for, in order."""
    kept: int
    """The newest messages that stay, counted from the end."""
    kept_message: bool
    """Whether the message that the agent is working on comes before those, and stays."""


def cut(
    messages: Sequence[Message], sizes: Sequence[int], *, window: int, settings: Compaction, least: float = LEAST_GAIN
) -> Cut | None:
    """Decide what to keep.

    First the message that the agent is working on and what it has not answered yet, such as the results of its last
    tool calls, as long as they leave room in the window; then the newest messages, up to their share. A call and its
    results stay together. An earlier summary is always replaced.

    Args:
        messages: The conversation; the results of all calls are in it.
        sizes: Tokens of each message.
        window: Tokens that the model takes.
        settings: The shares of the window.
        least: Share of the window that must be there to replace.

    Returns:
        The decision; ``None`` if a compaction would gain nothing.
    """
    start = _start(messages, sizes, room=settings.threshold * window, share=settings.keep * window)
    request = _open_request(messages)
    kept_message = request is not None and request < start and sizes[request] <= settings.threshold * window
    places = [
        place
        for place, message in enumerate(messages[:start])
        if not isinstance(message, SystemTurn) and not (kept_message and place == request)
    ]
    gain = sum(sizes[place] for place in places if not _is_summary(messages[place]))
    if gain == 0 or gain < least * window:
        return None
    return Cut(tuple(messages[place] for place in places), len(messages) - start, kept_message)


def _start(messages: Sequence[Message], sizes: Sequence[int], *, room: float, share: float) -> int:
    """The first of the messages that stay."""
    request, unseen = _open_request(messages), _unseen(messages)
    reserved = sizes[request] if request is not None and sizes[request] <= room else 0
    found, kept = len(messages), 0
    for place in reversed(range(len(messages))):
        kept += sizes[place]
        apart = reserved if request is not None and place > request else 0
        if _is_summary(messages[place]) or kept + apart > room or (place < unseen and kept > share):
            break
        if not isinstance(messages[place], ToolResults):
            found = place
    return found


def _unseen(messages: Sequence[Message]) -> int:
    """The first message that the agent has not answered; with tool results, the calls before them."""
    place = len(messages)
    while place > 0 and not isinstance(messages[place - 1], AssistantTurn) and not _is_summary(messages[place - 1]):
        place -= 1
    if place > 0 and any(isinstance(message, ToolResults) for message in messages[place : place + 1]):
        place -= 1
    return place


def _open_request(messages: Sequence[Message]) -> int | None:
    """The message that the agent is working on; ``None`` if it has said its last word to it."""
    if not messages or isinstance(messages[-1], AssistantTurn):
        return None
    return last_request(messages)


def _is_summary(message: Message) -> bool:
    return isinstance(message, UserTurn) and message.summary
