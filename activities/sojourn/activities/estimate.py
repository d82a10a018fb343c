"""How many tokens a conversation is, without asking anybody.

A rough guess, corrected by what the provider counted for the last answer. It decides what a compaction keeps; that a
conversation is due for one is told by the provider's own count.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from pydantic_core import to_json

from sojourn.activities.conversation import AssistantTurn, Conversation, Message, SystemTurn, ToolResults, UserTurn
from sojourn.activities.model import ToolSpec
from sojourn.types.agent import AgentDefinition
from sojourn.types.content import (
    Base64Source,
    ContentBlock,
    DocumentBlock,
    ImageBlock,
    PlainTextSource,
    SearchResultBlock,
    TextBlock,
)
from sojourn.types.record import AssistantPart, TextPart, ThinkingPart, ToolCallPart

BYTES_PER_TOKEN = 4
"""Of UTF-8: right for English, and within a third for code and for scripts of three bytes a character."""

_MOST_OFF = 4.0
"""By how much the guess may be too low. What the provider counts beyond that is no message of the conversation."""

_FILE_TOKENS = 1600
"""An image of the size that providers scale to, or the least of a document."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a conversation weighs, in tokens."""

    messages: tuple[int, ...]
    """Each message, in order."""
    total: int
    """All messages, the system prompt and the tools."""


def load(conversation: Conversation, definition: AgentDefinition, tools: Sequence[ToolSpec]) -> Load:
    """Weigh a conversation. The provider's count, where there is one, is shared out by the messages' lengths."""
    sizes = [tokens_of(message) for message in conversation.messages]
    fixed = _tokens(definition.system or "") + sum(map(_tool, tools))
    guessed = fixed + sum(sizes[: conversation.measured])
    if conversation.used_tokens > guessed:
        scale = min(conversation.used_tokens / max(guessed, 1), _MOST_OFF)
        sizes[: conversation.measured] = [ceil(size * scale) for size in sizes[: conversation.measured]]
    return Load(tuple(sizes), total(conversation) if conversation.used_tokens else fixed + sum(sizes))


def total(conversation: Conversation) -> int:
    """What the provider counted for the last answer, with a guess at what has come since."""
    return conversation.used_tokens + sum(map(tokens_of, conversation.messages[conversation.measured :]))


def tokens_of(message: Message) -> int:
    """A guess at the tokens of one message, never 0."""
    match message:
        case UserTurn():
            found = _blocks(message.content)
        case SystemTurn():
            found = _tokens(message.text)
        case AssistantTurn():
            found = sum(map(_part, message.parts))
        case ToolResults():
            found = sum(_blocks(result.content) for result in message.results)
    return found + 1


def _tool(tool: ToolSpec) -> int:
    return _tokens(tool.description) + _tokens(to_json(tool.input_schema).decode())


def _tokens(text: str) -> int:
    size = len(text) if text.isascii() else len(text.encode(errors="replace"))
    return ceil(size / BYTES_PER_TOKEN)


def _part(part: AssistantPart) -> int:
    match part:
        case TextPart() | ThinkingPart():
            return _tokens(part.text)
        case ToolCallPart():
            return _tokens(part.name) + _tokens(to_json(part.input).decode())


def _blocks(blocks: Sequence[ContentBlock]) -> int:
    return sum(map(_block, blocks))


def _block(block: ContentBlock) -> int:
    match block:
        case TextBlock():
            return _tokens(block.text)
        case SearchResultBlock():
            return sum(_tokens(text) for text in (block.title, block.source, *(each.text for each in block.content)))
        case ImageBlock():
            return _FILE_TOKENS
        case DocumentBlock(source=PlainTextSource() as source):
            return _tokens(source.data)
        case DocumentBlock(source=Base64Source() as source):
            # About 50 KB and 1,600 tokens a page of a PDF.
            return max(_FILE_TOKENS, len(source.data) // 32)
        case DocumentBlock():
            return _FILE_TOKENS
