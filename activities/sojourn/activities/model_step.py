"""The activity `call_model`: one step of the agent."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from pydantic import ValidationError
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from sojourn.activities.catalogue import Catalogue, Entry
from sojourn.activities.conversation import Conversation
from sojourn.activities.cost import cost_of
from sojourn.activities.envelope import Envelope, UnfitError, whole
from sojourn.activities.gauge import Gauge
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
from sojourn.activities.observation import model_call
from sojourn.activities.pulse import Pulse
from sojourn.activities.session_log import SessionLogs
from sojourn.activities.window import window_of
from sojourn.types.agent import CustomTool
from sojourn.types.error import CheckpointError, StoreUnavailableError, ToolNotFoundError, error_type
from sojourn.types.failure import ModelFailure
from sojourn.types.id import EventId, new_event_id
from sojourn.types.name import CALL_MODEL_ACTIVITY, MODEL_ERROR
from sojourn.types.permission import PermissionPolicy, evaluate
from sojourn.types.preview import ModelPreview, PartPreview
from sojourn.types.record import (
    AssistantPart,
    CallModelInput,
    CallModelResult,
    CompactContextInput,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from sojourn.types.session import SessionInput

logger = logging.getLogger("sojourn.activities")

MAX_CALLS = 1000
"""Tool calls of one answer; the server takes 2,000 activities at a time (``limit.numPendingActivities.error``)."""

_PREVIEW_WINDOW = 20_000
"""Characters that a heartbeat carries, the last of the answer: in no script as many bytes as would go to the store."""


class ModelStep:
    """Holds what the activity needs on a worker."""

    def __init__(
        self,
        *,
        logs: SessionLogs,
        tools: Catalogue,
        model: ModelClient,
        policy: PermissionPolicy,
        envelope: Envelope,
    ) -> None:
        self._envelope = envelope
        self._logs = logs
        self._tools = tools
        self._model = model
        self._policy = policy
        self._gauge = Gauge(tools)

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
                start, conversation = await read_context(self._logs, record)
                entries = self._tools.of(start, conversation.mcp_tools)
                request = _request(start, conversation, self._specs(entries), attempt=record.attempt)
                window = await window_of(start.agent.definition)
                if not record.compacted:
                    self._gauge.check_room(start, conversation, window)
                with model_call(start, record) as seen:
                    answer = await _answer(self._model, request, draft)
                    seen.answered(answer)
                cost = await cost_of(request.model, answer)
                result = self._result(record.step, start, entries, draft, answer, cost)
                if self._gauge.is_full(start, conversation, result, window):
                    result = result.model_copy(update={"compact": True})
                result = await self._sealed(result)
        except asyncio.CancelledError:
            return await self._kept(draft.interrupted(record.step, _on_request()))
        except ModelCallError as error:
            raise application_error(error.failure) from None
        self._logs.get(activity.info().workflow_id or "").remember(result)
        return result

    async def _kept(self, result: CallModelResult) -> CallModelResult:
        try:
            return await self._envelope.seal(result)
        except (UnfitError, StoreUnavailableError):
            return result.model_copy(update={"parts": ()})

    async def _sealed(self, result: CallModelResult) -> CallModelResult:
        """The answer as it will be stored. One that the session cannot take is refused before it comes to Temporal."""
        if len(result.calls) > MAX_CALLS:
            raise _unusable(f"the model asked for {len(result.calls):,} tool calls at once; the limit is {MAX_CALLS:,}")
        try:
            return await self._envelope.seal(result)
        except UnfitError as error:
            raise _unusable(f"the model's answer is unusable: {error}") from None
        except StoreUnavailableError as error:
            raise ModelCallError(_away(error)) from None

    def _specs(self, entries: Mapping[str, Entry]) -> list[ToolSpec]:
        return [self._spec(entry) for entry in entries.values()]

    def _spec(self, entry: Entry) -> ToolSpec:
        if (spec := entry.spec) is not None:
            return spec
        has = ", ".join(self._tools.tools.names) or "none"
        text = f"the worker has no tool {entry.name!r} (it has: {has}); start it with `sojourn worker --tools MODULE`"
        raise ModelCallError(ModelFailure(kind="fatal", message=text, error_class=error_type(ToolNotFoundError(text))))

    def _result(
        self,
        step: EventId,
        start: SessionInput,
        entries: Mapping[str, Entry],
        draft: "Draft",
        answer: Answer,
        cost: int | None,
    ) -> CallModelResult:
        try:
            return CallModelResult(
                step=step,
                model=answer.model,
                parts=tuple(
                    self._part(start, entries, draft.id_of(place), part) for place, part in enumerate(answer.parts)
                ),
                usage=answer.usage,
                cost_microcents=cost,
                finish_reason=answer.finish_reason,
            )
        except ValidationError as error:
            raise _unusable(f"the model's answer is unusable: {error.errors()[0]['msg']}") from None

    def _part(self, start: SessionInput, entries: Mapping[str, Entry], id: EventId, part: AnswerPart) -> AssistantPart:
        match part:
            case AnswerText():
                return TextPart(id=id, text=whole(part.text), state=part.state)
            case AnswerThinking():
                return ThinkingPart(id=id, text=whole(part.text), signature=part.signature, state=part.state)
            case AnswerToolCall():
                return self._call(start, entries.get(part.name), id, part)

    def _call(self, start: SessionInput, entry: Entry | None, id: EventId, part: AnswerToolCall) -> ToolCallPart:
        found = entry.tool if entry else self._tools.tools.get(part.name)
        permission = evaluate(
            part.name,
            configured=entry.configured if entry else None,
            declared=entry.declared if entry else found.permission if found else None,
            session=start.permissions,
            agent=start.agent.definition.permission_policy,
            worker=self._policy,
        )
        timeout = found.timeout if found else None
        return ToolCallPart(
            id=id,
            call_id=part.call_id,
            name=part.name,
            input=part.input,
            kind=entry.kind if entry else "unknown",
            permission=permission,
            place=entry.place if entry else None,
            mcp_server_name=entry.mcp_server_name if entry else "",
            mcp_tool_name=entry.mcp.name if entry and entry.mcp else "",
            idempotent=bool(entry and entry.idempotent),
            timeout=entry.config.timeout if entry and isinstance(entry.config, CustomTool) else timeout,
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
        left, parts = _PREVIEW_WINDOW, []
        for place in sorted(self._texts, reverse=True):
            part = self._preview(place, window=left)
            left -= len(part.text)
            parts.append(part)
        return ModelPreview(parts=tuple(reversed(parts)))

    def _preview(self, place: int, *, window: int) -> PartPreview:
        if self._kinds[place] == "thinking":
            return PartPreview(id=self._ids[place], type="agent.thinking")
        text = whole("".join(self._texts[place]))
        offset = max(len(text) - window, 0)
        return PartPreview(id=self._ids[place], type="agent.message", text=text[offset:], offset=offset)

    def interrupted(self, step: EventId, on_request: bool) -> CallModelResult:
        """What is kept of an interrupted answer.

        Raises:
            CancelledError: The cancellation was not the session's wish: the worker stops, and another one shall answer.
        """
        if not on_request:
            raise asyncio.CancelledError
        texts = [place for place in sorted(self._texts) if self._kinds[place] == "text"]
        parts = tuple(TextPart(id=self._ids[place], text=whole("".join(self._texts[place]))) for place in texts)
        # Providers tell the tokens at the end of an answer: what this one cost nobody knows, and it is counted as none.
        return CallModelResult(step=step, parts=parts, cost_microcents=0, finish_reason="interrupted")


async def read_context(
    logs: SessionLogs, record: CallModelInput | CompactContextInput
) -> tuple[SessionInput, Conversation]:
    """What the running activity is about, from the log.

    Raises:
        ModelCallError: Fatal; the log cannot be read. Retryable while the object store is away.
    """
    info = activity.info()
    try:
        return await logs.get(info.workflow_id or "").context(info.workflow_run_id or "", record)
    except (CheckpointError, ValidationError) as error:
        logger.warning("the log of a session cannot be read", extra={"workflow_id": info.workflow_id})
        raise ModelCallError(
            ModelFailure(kind="fatal", message=str(error)[:300], error_class="CheckpointError")
        ) from None
    except StoreUnavailableError as error:
        raise ModelCallError(_away(error)) from None


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


def _unusable(text: str) -> ModelCallError:
    return ModelCallError(ModelFailure(kind="fatal", message=text))


def _away(error: StoreUnavailableError) -> ModelFailure:
    """Tried again by the turn, visibly, until the store is back or the attempts are used up."""
    return ModelFailure(kind="retryable", message=str(error)[:300], error_class=error_type(error))


def _on_request() -> bool:
    details = activity.cancellation_details()
    return details is not None and details.cancel_requested


def application_error(failure: ModelFailure) -> ApplicationError:
    """The failure as the activity hands it to the workflow."""
    # Benign: the log of the session tells it, so the worker need not print a traceback for every refused request.
    return ApplicationError(
        failure.message, failure, type=MODEL_ERROR, non_retryable=True, category=ApplicationErrorCategory.BENIGN
    )
