"""The fake provider's answers in one piece, for clients that do not stream."""

import json
from collections.abc import Callable

from pydantic import JsonValue

from sojourn.testing.protocol import JsonObject, Part, Protocol, Reply, Text, Thinking, ToolCall


def document(protocol: Protocol, reply: Reply) -> JsonObject:
    """The answer as the provider's one JSON body."""
    return _DOCUMENTS[protocol](reply)


def _joined(reply: Reply, kind: type[Text] | type[Thinking]) -> str:
    return "".join(part.text for part in reply.parts if isinstance(part, kind))


def _chat(reply: Reply) -> JsonObject:
    calls: list[JsonValue] = [
        {"id": part.call_id, "type": "function", "function": {"name": part.name, "arguments": part.arguments}}
        for part in reply.parts
        if isinstance(part, ToolCall)
    ]
    message: JsonObject = {"role": "assistant", "content": _joined(reply, Text) or None}
    if calls:
        message["tool_calls"] = calls
    if thought := _joined(reply, Thinking):
        message["reasoning_content"] = thought
    reason = {"stop": "tool_calls" if calls else "stop", "max_tokens": "length", "refusal": "content_filter"}
    choices: list[JsonValue] = [{"index": 0, "message": message, "finish_reason": reason[reply.finish]}]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": reply.model,
        "choices": choices,
        "usage": {
            "prompt_tokens": reply.usage.input_tokens,
            "completion_tokens": reply.usage.output_tokens,
            "total_tokens": reply.usage.total_tokens,
        },
    }


def _responses_item(index: int, part: Part) -> JsonObject:
    match part:
        case Text():
            content: list[JsonValue] = [{"type": "output_text", "text": part.text, "annotations": []}]
            own: JsonObject = {"id": f"msg_{index}", "type": "message", "role": "assistant", "status": "completed"}
            return {**own, "content": content}
        case Thinking():
            summary: list[JsonValue] = [{"type": "summary_text", "text": part.text}]
            thought: JsonObject = {"id": f"rs_{index}", "type": "reasoning", "summary": summary}
            return {**thought, "encrypted_content": part.signature or None}
        case ToolCall():
            call: JsonObject = {"id": f"fc_{index}", "type": "function_call", "call_id": part.call_id}
            return call | {"name": part.name, "arguments": part.arguments, "status": "completed"}


def _responses(reply: Reply) -> JsonObject:
    reason = {"max_tokens": "max_output_tokens", "refusal": "content_filter"}.get(reply.finish)
    output: list[JsonValue] = [_responses_item(index, part) for index, part in enumerate(reply.parts)]
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "incomplete" if reason else "completed",
        "model": reply.model,
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        "usage": {
            "input_tokens": reply.usage.input_tokens,
            "input_tokens_details": {"cached_tokens": reply.usage.cache_read_input_tokens, "cache_write_tokens": 0},
            "output_tokens": reply.usage.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": reply.usage.total_tokens,
        },
    }


def _anthropic_block(part: Part) -> JsonObject:
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case Thinking():
            return {"type": "thinking", "thinking": part.text, "signature": part.signature}
        case ToolCall():
            return {"type": "tool_use", "id": part.call_id, "name": part.name, "input": json.loads(part.arguments)}


def _anthropic(reply: Reply) -> JsonObject:
    reason = {"stop": "tool_use" if reply.calls else "end_turn", "max_tokens": "max_tokens", "refusal": "refusal"}
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": [_anthropic_block(part) for part in reply.parts],
        "stop_reason": reason[reply.finish],
        "stop_sequence": None,
        "usage": {"input_tokens": reply.usage.input_tokens, "output_tokens": reply.usage.output_tokens},
    }


def _google_part(part: Part) -> JsonObject:
    match part:
        case Text():
            return {"text": part.text}
        case Thinking():
            return {"text": part.text, "thought": True}
        case ToolCall():
            return {"functionCall": {"id": part.call_id, "name": part.name, "args": json.loads(part.arguments)}}


def _google(reply: Reply) -> JsonObject:
    reason = {"stop": "STOP", "max_tokens": "MAX_TOKENS", "refusal": "SAFETY"}
    content: JsonObject = {"role": "model", "parts": [_google_part(part) for part in reply.parts]}
    return {
        "candidates": [{"index": 0, "content": content, "finishReason": reason[reply.finish]}],
        "modelVersion": reply.model,
        "responseId": "resp_1",
        "usageMetadata": {
            "promptTokenCount": reply.usage.input_tokens,
            "candidatesTokenCount": reply.usage.output_tokens,
            "totalTokenCount": reply.usage.total_tokens,
        },
    }


_DOCUMENTS: dict[Protocol, Callable[[Reply], JsonObject]] = {
    "chat": _chat,
    "responses": _responses,
    "anthropic": _anthropic,
    "google": _google,
}
