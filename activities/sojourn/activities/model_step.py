"""The activity `call_model`: one step of the agent."""

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass, field

from pydantic import ValidationError
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from sojourn.activities.conversation import Conversation
from sojourn.activities.model import (
    Answer,
    AnswerPart,
    AnswerText,
    AnswerThinking,
    AnswerToolCall,
    Delta,
    ModelCallError,
    ModelClient,
    ModelRequest,
    ToolSpec,
)
from sojourn.activities.observation import model_call, session_ids
from sojourn.activities.pulse import Pulse
from sojourn.activities.session_log import SessionLogs
from sojourn.activities.tool import Toolbox
from sojourn.types.agent import CustomTool, FunctionTool
from sojourn.types.error import CheckpointError, ToolNotFoundError, error_type
from sojourn.types.failure import ModelFailure
from sojourn.types.id import EventId, new_event_id
from sojourn.types.name import CALL_MODEL_ACTIVITY, MODEL_ERROR
from sojourn.types.permission import PermissionPolicy, evaluate
from sojourn.types.preview import ModelPreview, PartPreview
from sojourn.types.record import (
    AssistantPart,
    CallModelInput,
    CallModelResult,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from sojourn.types.session import SessionInput

logger = logging.getLogger("sojourn.activities")

_PREVIEW_WINDOW = 32_000
"""Characters of a part that a heartbeat carries; of a longer one, the end."""


class ModelStep:
    """Holds what the activity needs on a worker."""

    def __init__(self, *, logs: SessionLogs, tools: Toolbox, model: ModelClient, policy: PermissionPolicy) -> None:
        self._logs = logs
        self._tools = tools
        self._model = model
        self._policy = policy

    @activity.defn(name=CALL_MODEL_ACTIVITY)
    async def call_model(self, record: CallModelInput) -> CallModelResult:
        """Ask the model once, with the conversation up to this step.

        Safe to retry: nothing is stored before it returns, and the context is a fixed part of the log. On cancellation
        it returns the text so far, marked as interrupted; thoughts and unfinished tool calls are dropped.

        Raises:
            ApplicationError: Of type ``ModelError`` with a `ModelFailure`. Never retried by the server.
        """
        draft = Draft()
        try:
            async with Pulse(draft.preview):
                start, conversation = await self._context(record)
                request = _request(start, conversation, self._specs(start), attempt=record.attempt)
                with model_call(start, record) as seen:
                    answer = await _answer(self._model, request, draft)
                    seen.answered(answer)
        except asyncio.CancelledError:
            return draft.interrupted(record.step, _on_request())
        except ModelCallError as error:
            raise _application_error(error.failure) from None
        result = self._result(record.step, start, draft, answer)
        self._logs.get(activity.info().workflow_id or "").remember(result)
        return result

    async def _context(self, record: CallModelInput) -> tuple[SessionInput, Conversation]:
        info = activity.info()
        log = self._logs.get(info.workflow_id or "")
        try:
            return await log.context(info.workflow_run_id or "", record)
        except (CheckpointError, ValidationError) as error:
            logger.warning("the log of a session cannot be read", extra=session_ids())
            raise ModelCallError(
                ModelFailure(kind="fatal", message=str(error)[:300], error_class="CheckpointError")
            ) from None

    def _specs(self, start: SessionInput) -> list[ToolSpec]:
        return [
            self._spec(each) for each in start.agent.definition.tools if isinstance(each, FunctionTool | CustomTool)
        ]

    def _spec(self, config: FunctionTool | CustomTool) -> ToolSpec:
        if isinstance(config, CustomTool):
            return ToolSpec(config.name, config.description, config.input_schema)
        if (found := self._tools.get(config.name)) is None:
            has = ", ".join(self._tools.names) or "none"
            text = (
                f"the worker has no tool {config.name!r} (it has: {has}); start it with `sojourn worker --tools MODULE`"
            )
            raise ModelCallError(
                ModelFailure(kind="fatal", message=text, error_class=error_type(ToolNotFoundError(text)))
            )
        return ToolSpec(found.name, found.description, found.input_schema)

    def _result(self, step: EventId, start: SessionInput, draft: "Draft", answer: Answer) -> CallModelResult:
        return CallModelResult(
            step=step,
            model=answer.model,
            parts=tuple(self._part(start, draft.id_of(place), part) for place, part in enumerate(answer.parts)),
            usage=answer.usage,
            finish_reason=answer.finish_reason,
        )

    def _part(self, start: SessionInput, id: EventId, part: AnswerPart) -> AssistantPart:
        match part:
            case AnswerText():
                return TextPart(id=id, text=part.text, state=part.state)
            case AnswerThinking():
                return ThinkingPart(id=id, text=part.text, signature=part.signature, state=part.state)
            case AnswerToolCall():
                return self._call(start, id, part)

    def _call(self, start: SessionInput, id: EventId, part: AnswerToolCall) -> ToolCallPart:
        definition = start.agent.definition
        configs = {each.name: each for each in definition.tools if isinstance(each, FunctionTool | CustomTool)}
        config, found = configs.get(part.name), self._tools.get(part.name)
        kind = "unknown" if config is None else config.type
        permission = evaluate(
            part.name,
            configured=config.permission if isinstance(config, FunctionTool) else None,
            declared=found.permission if found else None,
            session=start.permissions,
            agent=definition.permission_policy,
            worker=self._policy,
        )
        timeout = config.timeout if isinstance(config, CustomTool) else found.timeout if found else None
        return ToolCallPart(
            id=id,
            call_id=part.call_id,
            name=part.name,
            input=part.input,
            kind=kind,
            permission=permission,
            idempotent=bool(kind == "function" and found and found.idempotent),
            timeout=timeout,
            state=part.state,
        )


@dataclass
class Draft:
    """An answer while it is being written."""

    _ids: dict[int, EventId] = field(default_factory=dict)
    _kinds: dict[int, str] = field(default_factory=dict)
    _texts: dict[int, list[str]] = field(default_factory=dict)
    _fresh: bool = False

    def add(self, delta: Delta) -> None:
        """Take more text of a part."""
        self.id_of(delta.part)
        self._kinds.setdefault(delta.part, delta.kind)
        self._texts.setdefault(delta.part, []).append(delta.text)
        self._fresh = True

    def id_of(self, part: int) -> EventId:
        """The event id of a part, the same in previews and in the finished answer."""
        return self._ids.setdefault(part, new_event_id())

    def preview(self) -> ModelPreview | None:
        """The parts so far, or ``None`` if nothing was added since the last call."""
        if not self._fresh:
            return None
        self._fresh = False
        return ModelPreview(parts=tuple(self._preview(place) for place in sorted(self._texts)))

    def _preview(self, place: int) -> PartPreview:
        if self._kinds[place] == "thinking":
            return PartPreview(id=self._ids[place], type="agent.thinking")
        text = "".join(self._texts[place])
        offset = max(len(text) - _PREVIEW_WINDOW, 0)
        return PartPreview(id=self._ids[place], type="agent.message", text=text[offset:], offset=offset)

    def interrupted(self, step: EventId, on_request: bool) -> CallModelResult:
        """What is kept of an interrupted answer.

        Raises:
            CancelledError: The cancellation was not the session's wish: the worker stops, and another one shall answer.
        """
        if not on_request:
            raise asyncio.CancelledError
        texts = [place for place in sorted(self._texts) if self._kinds[place] == "text"]
        parts = tuple(TextPart(id=self._ids[place], text="".join(self._texts[place])) for place in texts)
        return CallModelResult(step=step, parts=parts, finish_reason="interrupted")


async def _answer(model: ModelClient, request: ModelRequest, draft: Draft) -> Answer:
    async with aclosing(model.stream(request)) as chunks:
        async for chunk in chunks:
            if isinstance(chunk, Answer):
                return chunk
            draft.add(chunk)
    raise ModelCallError(ModelFailure(kind="retryable", message="the model's stream ended before its answer did"))


def _request(start: SessionInput, conversation: Conversation, tools: list[ToolSpec], *, attempt: int) -> ModelRequest:
    definition = start.agent.definition
    return ModelRequest(
        model=definition.model,
        system=definition.system,
        messages=tuple(conversation.messages),
        tools=tools,
        step=conversation.steps,
        attempt=attempt,
    )


def _on_request() -> bool:
    details = activity.cancellation_details()
    return details is not None and details.cancel_requested


def _application_error(failure: ModelFailure) -> ApplicationError:
    # Benign: the log of the session tells it, so the worker need not print a traceback for every refused request.
    return ApplicationError(
        failure.message, failure, type=MODEL_ERROR, non_retryable=True, category=ApplicationErrorCategory.BENIGN
    )
