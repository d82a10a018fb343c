"""One exchange with a pydantic-ai model: its events as deltas, then the finished answer.

Imports pydantic-ai, so it is itself imported only once a call is made.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Literal

from pydantic import JsonValue
from pydantic_ai import exceptions, messages
from pydantic_ai.models import Model, StreamedResponse
from pydantic_core import from_json

from sojourn.activities.model import (
    Answer,
    AnswerPart,
    AnswerText,
    AnswerThinking,
    AnswerToolCall,
    Delta,
    ModelRequest,
)
from sojourn.activities.translation import messages_for, parameters_for, settings_for, state_of
from sojourn.types.record import FinishReason
from sojourn.types.usage import Usage

INVALID_JSON = "__invalid_json__"
"""The only key of a tool call's input when the model's arguments are not a JSON object; its value is their raw text.

No schema allows the key, so the tool is not run and the model learns what it wrote.
"""


async def exchange(model: Model, request: ModelRequest) -> AsyncGenerator[Delta | Answer, None]:
    """Ask the model, once.

    Raises:
        Exception: Whatever pydantic-ai, the SDK or the HTTP client raise; `classify` knows them.
    """
    parameters = parameters_for(request)
    history = model.prepare_messages(messages_for(model, request.messages), parameters)
    parts = Parts()
    async with model.request_stream(history, settings_for(request.model), parameters) as stream:
        async for event in stream:
            if (delta := parts.feed(event)) is not None:
                yield delta
    yield _answer(stream, parts.finished(stream.get().parts))


class Parts:
    """Numbers the parts of an answer as they come.

    A part counts from its first text that is not blank, its signature or its tool's name; one that never gets that
    far is left out. So a number once given to a delta stays right, whatever is left out before it.
    """

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._held: dict[int, str] = {}
        self._started: set[int] = set()

    def feed(self, event: messages.ModelResponseStreamEvent) -> Delta | None:
        match event:
            case messages.PartStartEvent():
                self._started.add(event.index)
                return self._start(event.index, event.part)
            case messages.PartDeltaEvent():
                return self._more(event.index, event.delta)
            case _:
                return None

    def finished(self, parts: Sequence[messages.ModelResponsePart]) -> list[AnswerPart]:
        """The parts that count, in order, from pydantic-ai's, which lack those that never started."""
        by_index = dict(zip(sorted(self._started), parts, strict=True))
        found = (_part(by_index[index]) for index in sorted(self._numbers, key=self._numbers.__getitem__))
        return [part for part in found if part is not None]

    def _start(self, index: int, part: messages.ModelResponsePart) -> Delta | None:
        match part:
            case messages.TextPart():
                return self._say(index, "text", part.content)
            case messages.ThinkingPart():
                return self._say(index, "thinking", part.content, keep=bool(part.signature or part.provider_details))
            case messages.ToolCallPart():
                self._number(index)
                return None
            case _:
                return None

    def _more(self, index: int, delta: messages.ModelResponsePartDelta) -> Delta | None:
        match delta:
            case messages.TextPartDelta():
                return self._say(index, "text", delta.content_delta)
            case messages.ThinkingPartDelta():
                keep = bool(delta.signature_delta or delta.provider_details)
                return self._say(index, "thinking", delta.content_delta or "", keep=keep)
            case _:
                return None

    def _say(self, index: int, kind: Literal["text", "thinking"], text: str, *, keep: bool = False) -> Delta | None:
        if index not in self._numbers:
            text = self._held.pop(index, "") + text
            if not keep and not text.strip():
                self._held[index] = text
                return None
        number = self._number(index)
        return Delta(number, kind, text) if text else None

    def _number(self, index: int) -> int:
        return self._numbers.setdefault(index, len(self._numbers))


def _part(part: messages.ModelResponsePart) -> AnswerPart | None:
    match part:
        case messages.TextPart():
            return AnswerText(part.content, state_of(part))
        case messages.ThinkingPart():
            return AnswerThinking(part.content, part.signature or None, state_of(part))
        case messages.ToolCallPart():
            raw = part.args if isinstance(part.args, str) else part.args_as_dict()
            return AnswerToolCall(part.tool_call_id, part.tool_name, arguments(raw), state_of(part))
        case _:
            return None


def arguments(raw: str | dict[str, JsonValue]) -> dict[str, JsonValue]:
    """A tool call's arguments as an object, whatever the model wrote (`INVALID_JSON`)."""
    if not raw:
        return {}
    if isinstance(raw, dict):
        return raw
    try:
        value = from_json(raw, allow_inf_nan=False)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {INVALID_JSON: raw}


def _answer(stream: StreamedResponse, parts: list[AnswerPart]) -> Answer:
    reason = _finish_reason(stream, parts)
    refusal = (stream.provider_details or {}).get("refusal")
    if reason == "refusal" and isinstance(refusal, str) and not any(isinstance(part, AnswerText) for part in parts):
        # OpenAI says why it refuses outside the answer's text.
        parts = [*parts, AnswerText(refusal)]
    return Answer(parts, _usage(stream), reason, stream.model_name)


def _finish_reason(stream: StreamedResponse, parts: Sequence[AnswerPart]) -> FinishReason:
    match stream.finish_reason:
        case "length":
            return "max_tokens"
        case "content_filter":
            return "refusal"
        case "error":
            raise exceptions.UnexpectedModelBehavior(f"it ended with {_raw_reason(stream)!r}")
        case None if _raw_reason(stream) is None:
            # Every provider says why it stopped; one that does not was cut off where no transport error tells.
            raise exceptions.UnexpectedModelBehavior("the stream ended before the answer did")
        case _:
            # Google and OpenAI's Responses API call it a plain stop when the model waits for tools.
            return "tool_calls" if any(isinstance(part, AnswerToolCall) for part in parts) else "stop"


def _raw_reason(stream: StreamedResponse) -> object:
    return (stream.provider_details or {}).get("finish_reason")


def _usage(stream: StreamedResponse) -> Usage:
    usage = stream.usage
    return Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_input_tokens=usage.cache_read_tokens,
        cache_creation_input_tokens=usage.cache_write_tokens,
    )
