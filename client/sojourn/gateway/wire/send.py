"""What clients send to sessions (Managed Agents API §2.1), and the reply."""

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, model_validator

from sojourn.gateway.wire import event
from sojourn.gateway.wire.fault import fault
from sojourn.types import (
    Base64Source,
    ContentBlock,
    DocumentBlock,
    EventId,
    ImageBlock,
    MessageBlock,
    SearchResultBlock,
    TextBlock,
    UserCustomToolResult,
    UserInterrupt,
    UserMessage,
    UserToolConfirmation,
    UserToolResult,
)
from sojourn.types import SystemMessage as StoredSystemMessage
from sojourn.types.content import IMAGES
from sojourn.types.event import Remember
from sojourn.types.wire import Wire

B = TypeVar("B")

_DOCUMENTS = ("application/pdf",)


def _check_block(block: MessageBlock | SearchResultBlock) -> MessageBlock | SearchResultBlock:
    if isinstance(block, ImageBlock | DocumentBlock) and isinstance(block.source, Base64Source):
        _check_bytes(block.source, IMAGES if isinstance(block, ImageBlock) else _DOCUMENTS)
    return block


def _check_bytes(source: Base64Source, allowed: Sequence[str]) -> None:
    if source.media_type not in allowed:
        raise fault("source", "media_type", message=f"{source.media_type!r} is none of {', '.join(allowed)}")
    try:
        base64.b64decode(source.data, validate=True)
    except (ValueError, binascii.Error):
        raise fault("source", "data", message="not valid base64") from None
    if not source.data:
        raise fault("source", "data", message="empty")


def _not_blank(content: tuple[B, ...]) -> tuple[B, ...]:
    if all(isinstance(block, TextBlock) and not block.text.strip() for block in content):
        raise ValueError("the message is empty; write some text")
    return content


MessageContent = tuple[Annotated[MessageBlock, AfterValidator(_check_block)], ...]
ResultContent = tuple[Annotated[ContentBlock, AfterValidator(_check_block)], ...]

ToolUseId = Annotated[EventId, Field(min_length=1, max_length=128)]


class _Sendable(Wire):
    id: Annotated[str | None, Field(pattern=r"^sevt_[A-Za-z0-9_-]{1,100}$")] = None
    """An id of the client's choosing: the same id twice is one event. An extension."""

    @property
    def _event_id(self) -> EventId:
        return EventId(self.id or "")


class SendMessage(_Sendable):
    """Starts a turn, or waits for one."""

    type: Literal["user.message"]
    content: Annotated[MessageContent, Field(min_length=1), AfterValidator(_not_blank)]

    def stored(self) -> UserMessage:
        return UserMessage(id=self._event_id, content=self.content)


class SendInterrupt(_Sendable):
    """Ends the turn in progress."""

    type: Literal["user.interrupt"]
    session_thread_id: str | None = None
    """The primary thread is the only one yet."""

    def stored(self) -> UserInterrupt:
        return UserInterrupt(id=self._event_id)


class SendToolConfirmation(_Sendable):
    """Allows or denies a tool call that asks."""

    type: Literal["user.tool_confirmation"]
    tool_use_id: ToolUseId
    result: Literal["allow", "deny"]
    deny_message: Annotated[str | None, Field(max_length=10_000)] = None
    remember: Remember | None = None
    """Allow the very same call from now on: in the session, for the agent, or in the workspace. An extension."""

    @model_validator(mode="after")
    def _told_why(self) -> "SendToolConfirmation":
        if self.deny_message is not None and self.result == "allow":
            raise fault("deny_message", message="only with the result 'deny'")
        if self.remember is not None and self.result == "deny":
            raise fault("remember", message="only with the result 'allow'")
        return self

    def stored(self) -> UserToolConfirmation:
        return UserToolConfirmation(
            id=self._event_id,
            tool_use_id=self.tool_use_id,
            result=self.result,
            deny_message=self.deny_message,
            remember=self.remember,
        )


class SendCustomToolResult(_Sendable):
    """The result of a tool that the client ran."""

    type: Literal["user.custom_tool_result"]
    custom_tool_use_id: ToolUseId
    content: ResultContent | None = None
    is_error: bool | None = None

    def stored(self) -> UserCustomToolResult:
        return UserCustomToolResult(
            id=self._event_id,
            custom_tool_use_id=self.custom_tool_use_id,
            content=self.content or (),
            is_error=bool(self.is_error),
        )


class SendToolResult(_Sendable):
    """The result of a built-in tool, from a worker of a self-hosted environment. Refused with an API key."""

    type: Literal["user.tool_result"]
    tool_use_id: ToolUseId
    content: ResultContent | None = None
    is_error: bool | None = None

    def stored(self) -> UserToolResult:
        return UserToolResult(
            id=self._event_id,
            tool_use_id=self.tool_use_id,
            content=self.content or (),
            is_error=bool(self.is_error),
        )


class TextRubric(Wire):
    """What an outcome is graded by."""

    type: Literal["text"]
    content: str = Field(min_length=1, max_length=262_144)


class FileRubric(Wire):
    """The same in a file."""

    type: Literal["file"]
    file_id: str


class SendOutcome(_Sendable):
    """A goal with a rubric. Refused, because nothing grades yet."""

    type: Literal["user.define_outcome"]
    description: str = Field(min_length=1)
    rubric: Annotated[TextRubric | FileRubric, Field(discriminator="type")]
    max_iterations: Annotated[int | None, Field(ge=1, le=20)] = None

    @model_validator(mode="after")
    def _not_yet(self) -> "SendOutcome":
        raise fault("type", message="outcomes are not supported yet; send a user.message")


class SendSystemMessage(_Sendable):
    """Instructions that join the conversation."""

    type: Literal["system.message"]
    content: Annotated[tuple[TextBlock, ...], Field(min_length=1, max_length=1000), AfterValidator(_not_blank)]

    def stored(self) -> StoredSystemMessage:
        return StoredSystemMessage(id=self._event_id, content=self.content)


Sendable = Annotated[
    SendMessage
    | SendInterrupt
    | SendToolConfirmation
    | SendCustomToolResult
    | SendToolResult
    | SendOutcome
    | SendSystemMessage,
    Field(discriminator="type"),
]

_ANSWERS = (SendMessage, SendCustomToolResult, SendToolResult)


class SendEvents(Wire):
    """Events, all or none."""

    events: Annotated[tuple[Sendable, ...], Field(min_length=1, max_length=1000)]

    @model_validator(mode="after")
    def _distinct(self) -> "SendEvents":
        ids = [each.id for each in self.events]
        for place, id in enumerate(ids):
            if id is not None and id in ids[:place]:
                raise fault("events", place, "id", message=f"{id!r} is there twice; leave ids out to get new ones")
        return self

    @model_validator(mode="after")
    def _system_last(self) -> "SendEvents":
        places = [place for place, each in enumerate(self.events) if isinstance(each, SendSystemMessage)]
        if len(places) > 1:
            raise fault("events", places[1], "type", message="one system.message in a request; join them")
        if not places or len(self.events) == 1:
            return self
        if places[0] != len(self.events) - 1:
            raise fault("events", places[0], "type", message="a system.message is the last event of a request")
        if not isinstance(self.events[-2], _ANSWERS):
            text = "a system.message stands alone or right after a user.message or a tool result"
            raise fault("events", places[0], "type", message=text)
        return self


InitialEvent = Annotated[SendMessage | SendOutcome, Field(discriminator="type")]


SentEvent = Annotated[
    event.UserMessage
    | event.UserInterrupt
    | event.UserToolConfirmation
    | event.UserCustomToolResult
    | event.UserToolResult
    | event.SystemMessage,
    Field(discriminator="type"),
]


class SentEvents(Wire):
    """The events as they were stored. Streams and lists tell when each was taken up."""

    data: tuple[SentEvent, ...]
