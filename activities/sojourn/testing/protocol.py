"""How the fake provider speaks: a scripted answer in each provider's own protocol.

Four protocols: OpenAI Chat Completions, OpenAI Responses, Anthropic Messages and Google generateContent. Each is a
function from a `Reply` to the frames of its server-sent events.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import JsonValue

from sojourn.types.usage import Usage

JsonObject = dict[str, JsonValue]

Protocol = Literal["chat", "responses", "anthropic", "google"]

Finish = Literal["stop", "max_tokens", "refusal"]


@dataclass(frozen=True, slots=True)
class Text:
    """Text the fake model writes; streamed word by word."""

    text: str


@dataclass(frozen=True, slots=True)
class Thinking:
    """A thought of the fake model, with the state its provider wants back."""

    text: str
    signature: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call; its arguments are streamed in fragments and need not be valid JSON, except with Google."""

    name: str
    arguments: str = "{}"
    call_id: str = "call_1"
    signature: str = ""
    """Google's thought signature of the call, base64."""


Part = Text | Thinking | ToolCall


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of the fake model."""

    parts: Sequence[Part] = ()
    usage: Usage = field(default_factory=lambda: Usage(input_tokens=10, output_tokens=5))
    finish: Finish = "stop"
    """Why the model stops; a stop with tool calls is reported as the provider reports that."""
    model: str = "fake-model"

    @property
    def calls(self) -> bool:
        """Whether the answer calls tools."""
        return any(isinstance(part, ToolCall) for part in self.parts)


def frames(protocol: Protocol, reply: Reply) -> Iterator[bytes]:
    """The frames of the answer's event stream, in order."""
    yield from _STREAMS[protocol](reply)


def error_body(protocol: Protocol, status: int, message: str) -> JsonObject:
    """The body of an error response, as the provider words it."""
    match protocol:
        case "anthropic":
            return {"type": "error", "error": {"type": _ANTHROPIC_ERRORS.get(status, "api_error"), "message": message}}
        case "google":
            return {"error": {"code": status, "message": message, "status": _GOOGLE_ERRORS.get(status, "INTERNAL")}}
        case _:
            return {"error": {"message": message, "type": "error", "param": None, "code": None}}


_ANTHROPIC_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_GOOGLE_ERRORS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}


def _sse(data: JsonObject, *, event: str | None = None) -> bytes:
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


def _words(text: str) -> list[str]:
    words = text.split(" ")
    return [word if number == len(words) else f"{word} " for number, word in enumerate(words, 1)]


def _fragments(text: str, size: int = 7) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def _chat(reply: Reply) -> Iterator[bytes]:
    yield _chat_chunk(reply, {"role": "assistant", "content": ""})
    calls = 0
    for part in reply.parts:
        match part:
            case Text():
                yield from (_chat_chunk(reply, {"content": word}) for word in _words(part.text))
            case Thinking():
                yield from (_chat_chunk(reply, {"reasoning_content": word}) for word in _words(part.text))
            case ToolCall():
                yield from _chat_call(reply, part, calls)
                calls += 1
    reason = {"stop": "tool_calls" if calls else "stop", "max_tokens": "length", "refusal": "content_filter"}
    yield _chat_chunk(reply, {}, finish_reason=reason[reply.finish])
    yield _sse(_chat_frame(reply) | {"choices": [], "usage": _chat_usage(reply.usage)})
    yield b"data: [DONE]\n\n"


def _chat_call(reply: Reply, call: ToolCall, index: int) -> Iterator[bytes]:
    head: JsonObject = {"name": call.name, "arguments": ""}
    first: JsonObject = {"index": index, "id": call.call_id, "type": "function", "function": head}
    yield _chat_chunk(reply, {"tool_calls": [first]})
    for fragment in _fragments(call.arguments):
        more: JsonObject = {"index": index, "function": {"arguments": fragment}}
        yield _chat_chunk(reply, {"tool_calls": [more]})


def _chat_frame(reply: Reply) -> JsonObject:
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": reply.model}


def _chat_chunk(reply: Reply, delta: JsonObject, *, finish_reason: str | None = None) -> bytes:
    choices: list[JsonValue] = [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    return _sse({**_chat_frame(reply), "choices": choices})


def _chat_usage(usage: Usage) -> JsonObject:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read_input_tokens},
    }


class _Responses:
    """The events of one answer of OpenAI's Responses API, which are numbered."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._count = 0

    def stream(self) -> Iterator[bytes]:
        yield self._response("response.created", "in_progress")
        for index, part in enumerate(self._reply.parts):
            match part:
                case Text():
                    yield from self._text(index, part)
                case Thinking():
                    yield from self._reasoning(index, part)
                case ToolCall():
                    yield from self._call(index, part)
        cut = self._reply.finish != "stop"
        yield self._response(*(("response.incomplete", "incomplete") if cut else ("response.completed", "completed")))

    def _event(self, kind: str, **fields: JsonValue) -> bytes:
        self._count += 1
        return _sse({"type": kind, "sequence_number": self._count, **fields}, event=kind)

    def _response(self, kind: str, status: str) -> bytes:
        usage = self._reply.usage
        reasons = {"max_tokens": "max_output_tokens", "refusal": "content_filter"}
        reason = reasons.get(self._reply.finish) if status == "incomplete" else None
        response: JsonObject = {
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "status": status,
            "model": self._reply.model,
            "output": [],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "error": None,
            "incomplete_details": {"reason": reason} if reason else None,
        }
        if status != "in_progress":
            response["usage"] = {
                "input_tokens": usage.input_tokens,
                "input_tokens_details": {"cached_tokens": usage.cache_read_input_tokens, "cache_write_tokens": 0},
                "output_tokens": usage.output_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": usage.total_tokens,
            }
        return self._event(kind, response=response)

    def _item(self, kind: str, index: int, item: JsonObject) -> bytes:
        return self._event(f"response.output_item.{kind}", output_index=index, item=item)

    def _text(self, index: int, part: Text) -> Iterator[bytes]:
        item: JsonObject = {"id": f"msg_{index}", "type": "message", "role": "assistant", "content": []}
        place: JsonObject = {"item_id": f"msg_{index}", "output_index": index, "content_index": 0}
        yield self._item("added", index, item | {"status": "in_progress"})
        for word in _words(part.text):
            yield self._event("response.output_text.delta", **place, delta=word, logprobs=[])
        yield self._event("response.output_text.done", **place, text=part.text, logprobs=[])
        content: JsonObject = {"type": "output_text", "text": part.text, "annotations": []}
        yield self._item("done", index, item | {"status": "completed", "content": [content]})

    def _reasoning(self, index: int, part: Thinking) -> Iterator[bytes]:
        item: JsonObject = {"id": f"rs_{index}", "type": "reasoning", "summary": []}
        place: JsonObject = {"item_id": f"rs_{index}", "output_index": index, "summary_index": 0}
        yield self._item("added", index, item)
        empty: JsonObject = {"type": "summary_text", "text": ""}
        yield self._event("response.reasoning_summary_part.added", **place, part=empty)
        for word in _words(part.text):
            yield self._event("response.reasoning_summary_text.delta", **place, delta=word)
        yield self._event("response.reasoning_summary_text.done", **place, text=part.text)
        summary: JsonObject = {"type": "summary_text", "text": part.text}
        yield self._item("done", index, item | {"summary": [summary], "encrypted_content": part.signature or None})

    def _call(self, index: int, part: ToolCall) -> Iterator[bytes]:
        item: JsonObject = {"id": f"fc_{index}", "type": "function_call", "call_id": part.call_id, "name": part.name}
        place: JsonObject = {"item_id": f"fc_{index}", "output_index": index}
        yield self._item("added", index, item | {"arguments": "", "status": "in_progress"})
        for fragment in _fragments(part.arguments):
            yield self._event("response.function_call_arguments.delta", **place, delta=fragment)
        yield self._event("response.function_call_arguments.done", **place, arguments=part.arguments, name=part.name)
        yield self._item("done", index, item | {"arguments": part.arguments, "status": "completed"})


def _responses(reply: Reply) -> Iterator[bytes]:
    yield from _Responses(reply).stream()


def _anthropic(reply: Reply) -> Iterator[bytes]:
    yield _named({"type": "message_start", "message": _anthropic_message(reply)})
    yield _named({"type": "ping"})
    for index, part in enumerate(reply.parts):
        block, deltas = _anthropic_block(part)
        yield _named({"type": "content_block_start", "index": index, "content_block": block})
        for delta in deltas:
            yield _named({"type": "content_block_delta", "index": index, "delta": delta})
        yield _named({"type": "content_block_stop", "index": index})
    reason = {"stop": "tool_use" if reply.calls else "end_turn", "max_tokens": "max_tokens", "refusal": "refusal"}
    end: JsonObject = {"stop_reason": reason[reply.finish], "stop_sequence": None}
    yield _named({"type": "message_delta", "delta": end, "usage": {"output_tokens": reply.usage.output_tokens}})
    yield _named({"type": "message_stop"})


def _named(data: JsonObject) -> bytes:
    return _sse(data, event=str(data["type"]))


def _anthropic_message(reply: Reply) -> JsonObject:
    cached = reply.usage.cache_read_input_tokens, reply.usage.cache_creation_input_tokens
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": reply.usage.input_tokens - sum(cached),
            "output_tokens": 1,
            "cache_read_input_tokens": cached[0],
            "cache_creation_input_tokens": cached[1],
        },
    }


def _anthropic_block(part: Part) -> tuple[JsonObject, list[JsonObject]]:
    match part:
        case Text():
            return {"type": "text", "text": ""}, [{"type": "text_delta", "text": word} for word in _words(part.text)]
        case Thinking():
            deltas: list[JsonObject] = [{"type": "thinking_delta", "thinking": word} for word in _words(part.text)]
            signed: JsonObject = {"type": "signature_delta", "signature": part.signature}
            return {"type": "thinking", "thinking": "", "signature": ""}, [*deltas, signed]
        case ToolCall():
            block: JsonObject = {"type": "tool_use", "id": part.call_id, "name": part.name, "input": {}}
            return block, [{"type": "input_json_delta", "partial_json": text} for text in _fragments(part.arguments)]


def _google(reply: Reply) -> Iterator[bytes]:
    for part in reply.parts:
        match part:
            case Text():
                yield from (_google_chunk(reply, [{"text": word}]) for word in _words(part.text))
            case Thinking():
                yield from (_google_chunk(reply, [{"text": word, "thought": True}]) for word in _words(part.text))
            case ToolCall():
                yield _google_chunk(reply, [_google_call(part)])
    reason = {"stop": "STOP", "max_tokens": "MAX_TOKENS", "refusal": "SAFETY"}
    yield _google_chunk(reply, [{"text": ""}], finish=reason[reply.finish])


def _google_call(call: ToolCall) -> JsonObject:
    part: JsonObject = {"functionCall": {"id": call.call_id, "name": call.name, "args": json.loads(call.arguments)}}
    return part | {"thoughtSignature": call.signature} if call.signature else part


def _google_chunk(reply: Reply, parts: list[JsonValue], *, finish: str | None = None) -> bytes:
    candidate: JsonObject = {"index": 0, "content": {"role": "model", "parts": parts}}
    chunk: JsonObject = {"candidates": [candidate], "modelVersion": reply.model, "responseId": "resp_1"}
    if finish is not None:
        candidate["finishReason"] = finish
        chunk["usageMetadata"] = {
            "promptTokenCount": reply.usage.input_tokens,
            "candidatesTokenCount": reply.usage.output_tokens,
            "totalTokenCount": reply.usage.total_tokens,
            "cachedContentTokenCount": reply.usage.cache_read_input_tokens,
        }
    return _sse(chunk)


_STREAMS: dict[Protocol, Callable[[Reply], Iterator[bytes]]] = {
    "chat": _chat,
    "responses": _responses,
    "anthropic": _anthropic,
    "google": _google,
}
