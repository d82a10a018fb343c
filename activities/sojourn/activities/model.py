"""The seam between a model step and whatever answers it.

A `ModelClient` turns one `ModelRequest` into a stream of chunks. There are two: the adapter to pydantic-ai's model
classes (`sojourn.activities.adapter`) and the scripted models of `sojourn.testing`.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import JsonValue

from sojourn.activities.conversation import Message
from sojourn.types.agent import JsonSchema
from sojourn.types.failure import ModelFailure
from sojourn.types.model import ModelRef
from sojourn.types.record import FinishReason
from sojourn.types.usage import Usage


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the model is told about it."""

    name: str
    description: str
    input_schema: JsonSchema


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One step: everything the model gets to see."""

    model: ModelRef
    system: str | None
    messages: Sequence[Message]
    tools: Sequence[ToolSpec]
    step: int
    """Model steps answered in the session before this one. The same in every attempt of the step."""
    attempt: int = 1
    """Counts the visible retries of the step, from 1."""
    compacts: int = 0
    """Messages that the answer is to stand for, as a summary; 0 in a step of the agent."""


@dataclass(frozen=True, slots=True)
class Delta:
    """More text of one part of the answer."""

    part: int
    """Index of the part in the finished answer."""
    kind: Literal["text", "thinking"]
    text: str


@dataclass(frozen=True, slots=True)
class AnswerText:
    """A finished text part."""

    text: str
    state: dict[str, JsonValue] | None = None


@dataclass(frozen=True, slots=True)
class AnswerThinking:
    """A finished thinking part."""

    text: str
    signature: str | None = None
    state: dict[str, JsonValue] | None = None


@dataclass(frozen=True, slots=True)
class AnswerToolCall:
    """A finished tool call."""

    call_id: str
    name: str
    input: dict[str, JsonValue]
    state: dict[str, JsonValue] | None = None


AnswerPart = AnswerText | AnswerThinking | AnswerToolCall


@dataclass(frozen=True, slots=True)
class Answer:
    """The finished answer; the last thing a stream yields."""

    parts: Sequence[AnswerPart]
    usage: Usage
    finish_reason: FinishReason
    model: str
    cost_microcents: int | None = None
    """Where the client knows it; ``None`` leaves it to the list price of the model."""


class ModelClient(Protocol):
    """Answers model requests."""

    def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | Answer, None]:
        """Stream one answer: deltas in order, then the `Answer`.

        Closing the generator, or cancelling the task that drives it, closes the connection to the provider.

        Raises:
            ModelCallError: The call failed; classified.
        """
        ...


class ModelCallError(Exception):
    """A model call failed."""

    def __init__(self, failure: ModelFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure
