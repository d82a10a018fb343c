"""Models that answer from a script: for tests, and for the demo that needs no key and no network.

A script is chosen by name: an agent whose model is ``scripted:NAME`` answers from the script of that name on the
worker. The turn is picked by the number of model steps the session has had, so a retry does not consume one. Nor does a
compaction: it is answered by the script ``NAME/compaction`` if there is one, else by a short fixed summary.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from pydantic import JsonValue

from sojourn.activities.conversation import ToolResults, UserTurn
from sojourn.activities.model import (
    Answer,
    AnswerPart,
    AnswerText,
    AnswerThinking,
    AnswerToolCall,
    Delta,
    ModelCallError,
    ModelRequest,
)
from sojourn.types.content import text_of
from sojourn.types.error import ModelNotFoundError, error_type
from sojourn.types.failure import FailureKind, ModelFailure
from sojourn.types.record import FinishReason
from sojourn.types.usage import Usage


@dataclass(frozen=True)
class ScriptedCall:
    """A tool call in a scripted turn."""

    name: str
    input: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True)
class ScriptedFailure:
    """A failure in place of an answer."""

    kind: FailureKind = "retryable"
    message: str = "scripted failure"
    retry_after: timedelta | None = None
    too_long: bool = False
    """With ``fatal``: the conversation does not fit the model's window."""
    attempts: int = 1
    """How many visible attempts of the step fail this way before the turn is answered."""


@dataclass(frozen=True)
class ScriptedTurn:
    """What the model does in one step."""

    text: str = ""
    calls: Sequence[ScriptedCall] = ()
    thinking: str = ""
    failure: ScriptedFailure | None = None
    chunk_delay: timedelta = timedelta(0)
    """Pause before each word of the text, so that there is something to preview or interrupt."""
    stall: bool = False
    """After the text, never finish: only a cancellation ends the step."""
    finish_reason: FinishReason | None = None
    usage: Usage = field(default_factory=lambda: Usage(input_tokens=10, output_tokens=5))
    cost_microcents: int | None = None
    """What the turn costs, in millionths of a US cent; ``None``: no price is known, as of a model that nobody lists."""


Script = Sequence[ScriptedTurn] | Callable[[ModelRequest], ScriptedTurn | Awaitable[ScriptedTurn]]
"""Turns in order, or a function of the request. Past its end a list starts again.

A function may be async: the step takes until it returns, and is cancelled there.
"""


def last_text(request: ModelRequest) -> str:
    """What the model was told last: the user's words, or the tools' results."""
    for message in reversed(request.messages):
        if isinstance(message, UserTurn) and not message.summary:
            return text_of(message.content)
        if isinstance(message, ToolResults):
            return "\n".join(text_of(result.content) for result in message.results)
    return ""


def _echo(request: ModelRequest) -> ScriptedTurn:
    return ScriptedTurn(text=f"You said: {last_text(request)}")


def _summarize(request: ModelRequest) -> ScriptedTurn:
    return ScriptedTurn(text=f"A summary of {request.compacts} messages.")


class ScriptedModel:
    """A `ModelClient` that answers from scripts by name."""

    def __init__(self, scripts: Mapping[str, Script] | None = None) -> None:
        """Take the scripts; ``echo``, which repeats what it is told, is always there."""
        self._scripts: dict[str, Script] = {"echo": _echo, **(scripts or {})}

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | Answer, None]:
        """Stream the turn of the script that the request's step stands for."""
        turn = await self._turn(request)
        if turn.failure is not None and request.attempt <= turn.failure.attempts:
            raise ModelCallError(
                ModelFailure(
                    kind=turn.failure.kind,
                    message=turn.failure.message,
                    provider="scripted",
                    retry_after=turn.failure.retry_after,
                    too_long=turn.failure.too_long,
                )
            )
        parts: list[AnswerPart] = []
        if turn.thinking:
            yield Delta(len(parts), "thinking", turn.thinking)
            parts.append(AnswerThinking(turn.thinking, signature="scripted"))
        if turn.text:
            for word in _words(turn.text):
                await asyncio.sleep(turn.chunk_delay.total_seconds())
                yield Delta(len(parts), "text", word)
            parts.append(AnswerText(turn.text))
        if turn.stall:
            await asyncio.Event().wait()
        parts += [
            AnswerToolCall(f"call_{request.step}_{place}", call.name, dict(call.input))
            for place, call in enumerate(turn.calls)
        ]
        reason: FinishReason = turn.finish_reason or ("tool_calls" if turn.calls else "stop")
        name = f"scripted:{request.model.model}"
        yield Answer(tuple(parts), turn.usage, reason, name, cost_microcents=turn.cost_microcents)

    async def _turn(self, request: ModelRequest) -> ScriptedTurn:
        script = self._scripts.get(request.model.model)
        if script is None:
            text = f"the worker has no script {request.model.model!r} (it has: {', '.join(sorted(self._scripts))})"
            raise ModelCallError(
                ModelFailure(kind="fatal", message=text, error_class=error_type(ModelNotFoundError(text)))
            )
        if request.compacts:
            script = self._scripts.get(f"{request.model.model}/compaction", _summarize)
        if callable(script):
            turn = script(request)
            return turn if isinstance(turn, ScriptedTurn) else await turn
        return script[request.step % len(script)]


def _words(text: str) -> list[str]:
    words = text.split(" ")
    return [word if place == len(words) - 1 else f"{word} " for place, word in enumerate(words)]
