"""From our neutral request to pydantic-ai's messages, tools and settings.

Imports pydantic-ai, so it is itself imported only once a call is made.
"""

import base64
import binascii
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pydantic import JsonValue
from pydantic_ai import exceptions, messages
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition
from pydantic_core import to_jsonable_python

from sojourn.activities.conversation import AssistantTurn, Message, SystemTurn, ToolResult, ToolResults, UserTurn
from sojourn.activities.model import ModelRequest, ToolSpec
from sojourn.types.content import (
    Base64Source,
    ContentBlock,
    DocumentBlock,
    FileSource,
    ImageBlock,
    PlainTextSource,
    SearchResultBlock,
    TextBlock,
    UrlSource,
)
from sojourn.types.model import ModelRef
from sojourn.types.record import AssistantPart, TextPart, ThinkingPart, ToolCallPart

Content = str | messages.ImageUrl | messages.DocumentUrl | messages.BinaryContent


def settings_for(ref: ModelRef) -> ModelSettings:
    """The settings of one call. The SDK never retries: retries are the workflow's, and visible."""
    settings = ModelSettings(max_retries=0)
    if (chosen := ref.settings) is None:
        return settings
    if chosen.max_tokens is not None:
        settings["max_tokens"] = chosen.max_tokens
    if chosen.temperature is not None:
        settings["temperature"] = chosen.temperature
    if chosen.top_p is not None:
        settings["top_p"] = chosen.top_p
    if chosen.effort is not None:
        settings["thinking"] = chosen.effort
    return settings


def parameters_for(request: ModelRequest) -> ModelRequestParameters:
    """The tools and the system prompt. A request may always be answered by text."""
    return ModelRequestParameters(
        function_tools=[_tool(spec) for spec in request.tools],
        instruction_parts=[messages.InstructionPart(content=request.system)] if request.system else None,
        allow_text_output=True,
    )


def _tool(spec: ToolSpec) -> ToolDefinition:
    # Not strict: that would rewrite the user's schema, and the arguments are checked against it anyway.
    return ToolDefinition(
        name=spec.name, description=spec.description, parameters_json_schema=dict(spec.input_schema), strict=False
    )


def messages_for(model: Model, conversation: Sequence[Message]) -> list[messages.ModelMessage]:
    """The conversation as pydantic-ai's messages.

    Provider state (thinking, signatures, item ids) goes back only to the provider that made it. Thinking without it is
    left out: it was cut off before the provider signed it, or belongs to another provider. Turns of the user, the
    system and the tools between two answers become one request, which each provider's mapping splits as it likes.

    Raises:
        pydantic_ai.exceptions.UserError: A file in line is not base64.
    """
    result: list[messages.ModelMessage] = []
    parts: list[messages.ModelRequestPart] = []
    for message in conversation:
        if not isinstance(message, AssistantTurn):
            parts.extend(_request_parts(message))
            continue
        if parts:
            result.append(messages.ModelRequest(parts=parts))
            parts = []
        if answer := list(_answer_parts(message.parts, model.system)):
            result.append(_response(model, answer))
    return [*result, messages.ModelRequest(parts=parts)] if parts else result


def _response(model: Model, parts: Sequence[messages.ModelResponsePart]) -> messages.ModelResponse:
    own = any(part.provider_name == model.system for part in parts)
    return messages.ModelResponse(
        parts=parts,
        provider_name=model.system if own else None,
        canonical_system=model.canonical_system if own else None,
    )


def _request_parts(message: UserTurn | SystemTurn | ToolResults) -> Iterator[messages.ModelRequestPart]:
    match message:
        case SystemTurn():
            yield messages.SystemPromptPart(message.text)
        case ToolResults():
            yield from map(_tool_return, message.results)
        case UserTurn():
            content = _contents(message.content)
            if content:
                # Some servers that imitate OpenAI's take nothing but a string.
                yield messages.UserPromptPart(_only_text(content) or content)


def _tool_return(result: ToolResult) -> messages.ToolReturnPart:
    content = _contents(result.content)
    alone = _only_text(content)
    return messages.ToolReturnPart(
        tool_name=result.name,
        tool_call_id=result.call_id,
        content=(alone or "") if alone or not content else content,
        # The provider's own error flag where it has one, an object with the key "error" elsewhere.
        outcome="failed" if result.is_error else "success",
    )


def _only_text(content: Sequence[Content]) -> str | None:
    return content[0] if len(content) == 1 and isinstance(content[0], str) else None


def _contents(blocks: Sequence[ContentBlock]) -> list[Content]:
    # Several providers refuse blank text.
    return [item for block in blocks for item in _content(block) if not isinstance(item, str) or item.strip()]


def _content(block: ContentBlock) -> Iterator[Content]:
    match block:
        case TextBlock():
            yield block.text
        case SearchResultBlock():
            yield "\n".join([block.title, block.source, *(text.text for text in block.content)])
        case ImageBlock():
            yield _file(block.source, image=True)
        case DocumentBlock():
            yield "\n".join(line for line in (block.title, block.context) if line)
            yield _file(block.source, image=False)


def _file(source: Base64Source | PlainTextSource | UrlSource | FileSource, *, image: bool) -> Content:
    match source:
        case Base64Source():
            return messages.BinaryContent(_decoded(source), media_type=source.media_type)
        case PlainTextSource():
            return source.data
        case UrlSource():
            return messages.ImageUrl(source.url) if image else messages.DocumentUrl(source.url)
        case FileSource():
            # Refusing here would make the session fail for ever: the message is in its log. So the model is told.
            return f"[the uploaded file {source.file_id!r} cannot be shown to this model]"


def _decoded(source: Base64Source) -> bytes:
    try:
        return base64.b64decode(source.data, validate=True)
    except binascii.Error:
        raise exceptions.UserError(f"a file of type {source.media_type!r} is not valid base64") from None


class _State(NamedTuple):
    """What `state_of` kept, when it may go back; otherwise nothing."""

    id: str | None = None
    provider: str | None = None
    details: dict[str, JsonValue] | None = None


def state_of(part: messages.TextPart | messages.ThinkingPart | messages.ToolCallPart) -> dict[str, JsonValue] | None:
    """What the provider must get back with the part, as JSON; ``None`` if it keeps nothing on it."""
    if part.provider_name is None:
        return None
    state: dict[str, JsonValue] = {"provider": part.provider_name}
    if part.id is not None:
        state["id"] = part.id
    if part.provider_details:
        state["details"] = to_jsonable_python(part.provider_details)
    return state


def _state(part: AssistantPart, system: str) -> _State:
    if part.state is None or part.state.get("provider") != system:
        return _State()
    own_id, details = part.state.get("id"), part.state.get("details")
    return _State(own_id if isinstance(own_id, str) else None, system, details if isinstance(details, dict) else None)


def _answer_parts(parts: Sequence[AssistantPart], system: str) -> Iterator[messages.ModelResponsePart]:
    for part in parts:
        own_id, provider, details = _state(part, system)
        match part:
            case TextPart() if part.text.strip():
                yield messages.TextPart(part.text, id=own_id, provider_name=provider, provider_details=details)
            case ThinkingPart() if provider is not None:
                yield messages.ThinkingPart(
                    part.text, signature=part.signature, id=own_id, provider_name=provider, provider_details=details
                )
            case ToolCallPart():
                yield messages.ToolCallPart(
                    part.name,
                    dict(part.input),
                    part.call_id,
                    id=own_id,
                    provider_name=provider,
                    provider_details=details,
                )
            case _:
                pass
