"""The activity `compact_context`: a summary takes the place of the older part of a conversation."""

from contextlib import aclosing

from temporalio import activity

from sojourn.activities.catalogue import Catalogue
from sojourn.activities.conversation import Conversation, UserTurn
from sojourn.activities.cost import cost_of
from sojourn.activities.cut import LEAST_GAIN, Cut, cut
from sojourn.activities.envelope import whole
from sojourn.activities.estimate import BYTES_PER_TOKEN, load
from sojourn.activities.model import Answer, AnswerText, ModelCallError, ModelClient, ModelRequest
from sojourn.activities.model_step import application_error, read_context
from sojourn.activities.observation import model_call
from sojourn.activities.pulse import Pulse
from sojourn.activities.session_log import SessionLogs
from sojourn.activities.summary import SYSTEM, question, shorten
from sojourn.activities.window import window_of
from sojourn.types.content import TextBlock
from sojourn.types.failure import ModelFailure
from sojourn.types.name import COMPACT_CONTEXT_ACTIVITY
from sojourn.types.record import CompactContextInput, CompactContextResult
from sojourn.types.session import SessionInput

_TRANSCRIPT = 0.6
"""Share of the window for the transcript: its size is guessed, and the summary needs room too."""

_SUMMARY = 0.1
"""Share of the window that a summary may fill."""

_LONGEST_SUMMARY_TOKENS = 4000

_SHRINKS = 4
"""How often the transcript is halved when the provider finds it too long: the window may be smaller than thought."""


class ContextCompaction:
    """Holds what the activity needs on a worker."""

    def __init__(self, *, logs: SessionLogs, tools: Catalogue, model: ModelClient) -> None:
        self._logs = logs
        self._tools = tools
        self._model = model

    @activity.defn(name=COMPACT_CONTEXT_ACTIVITY)
    async def compact_context(self, record: CompactContextInput) -> CompactContextResult:
        """Decide what stays of the conversation and have the rest summed up.

        Safe to retry: nothing is stored before it returns, and the conversation is a fixed part of the log. A
        cancellation ends it with nothing; the conversation then stays as it was.

        Raises:
            ApplicationError: Of type ``ModelError`` with a `ModelFailure`. Never retried by the server.
        """
        try:
            async with Pulse(lambda: None):
                start, conversation = await read_context(self._logs, record)
                return await self._compact(record, start, conversation)
        except ModelCallError as error:
            raise application_error(error.failure) from None

    async def _compact(
        self, record: CompactContextInput, start: SessionInput, conversation: Conversation
    ) -> CompactContextResult:
        definition = start.agent.definition
        specs = self._tools.specs(start, conversation.mcp_tools)
        weight, window = load(conversation, definition, specs), await window_of(definition)
        if record.too_long:
            # The window may be smaller than it is said to be. What was refused is then the best guess at it.
            window = min(window, weight.total)
        least = 0.0 if record.too_long else LEAST_GAIN
        found = cut(conversation.messages, weight.messages, window=window, settings=definition.compaction, least=least)
        if found is None:
            return CompactContextResult(step=record.step, cost_microcents=0)
        answer = await self._ask(record, start, conversation.steps, found, window=window)
        return CompactContextResult(
            step=record.step,
            model=answer.model,
            # Twice what was asked for, so that only a summary that is none is cut.
            summary=shorten(_text(answer), 2 * _summary_tokens(window) * BYTES_PER_TOKEN),
            kept=found.kept,
            kept_message=found.kept_message,
            usage=answer.usage,
            cost_microcents=await cost_of(definition.model, answer),
        )

    async def _ask(
        self, record: CompactContextInput, start: SessionInput, step: int, found: Cut, *, window: int
    ) -> Answer:
        definition, room = start.agent.definition, int(_TRANSCRIPT * window)
        words = _summary_tokens(window) * 3 // 4
        for shrinks in range(_SHRINKS + 1):
            text = question(found.replaced, room_tokens=room, words=words, wishes=definition.compaction.instructions)
            request = ModelRequest(
                model=definition.model,
                system=SYSTEM,
                messages=(UserTurn((TextBlock(text=text),)),),
                tools=(),
                step=step,
                attempt=record.attempt,
                compacts=len(found.replaced),
            )
            try:
                with model_call(start, record) as seen:
                    answer = await _answer(self._model, request)
                    seen.answered(answer)
                return answer
            except ModelCallError as error:
                if not error.failure.too_long or shrinks == _SHRINKS:
                    raise
                room //= 2
        raise AssertionError("the loop returns or raises")


async def _answer(model: ModelClient, request: ModelRequest) -> Answer:
    async with aclosing(model.stream(request)) as chunks:
        async for chunk in chunks:
            if isinstance(chunk, Answer):
                return _checked(chunk, request)
    raise ModelCallError(ModelFailure(kind="retryable", message="the model's stream ended before its summary did"))


def _checked(answer: Answer, request: ModelRequest) -> Answer:
    provider = request.model.provider
    if answer.finish_reason == "refusal":
        message = "the model refused to sum the conversation up"
        raise ModelCallError(ModelFailure(kind="refused", message=message, provider=provider))
    if not _text(answer):
        message = "the model's summary of the conversation is empty"
        raise ModelCallError(ModelFailure(kind="retryable", message=message, provider=provider))
    return answer


def _text(answer: Answer) -> str:
    return whole("\n\n".join(part.text for part in answer.parts if isinstance(part, AnswerText))).strip()


def _summary_tokens(window: int) -> int:
    return min(int(_SUMMARY * window), _LONGEST_SUMMARY_TOKENS)
