"""The activity `call_model`: one step of the agent."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field

from pydantic import ValidationError
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from sojourn.activities.attachment import Attachments
from sojourn.activities.catalogue import Catalogue, Entry
from sojourn.activities.conversation import Conversation, Message, UserTurn, judged
from sojourn.activities.cost import cost_of
from sojourn.activities.envelope import Envelope, UnfitError, whole
from sojourn.activities.gauge import Gauge
from sojourn.activities.hook import Hooks, UserPrompt
from sojourn.activities.hook_chain import HookChain, SessionHooks
from sojourn.activities.judgement import Judge
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
from sojourn.activities.policy import WorkspacePolicies
from sojourn.activities.pulse import Pulse
from sojourn.activities.session_log import SessionLogs
from sojourn.activities.window import window_of
from sojourn.types.error import CheckpointError, StoreUnavailableError, ToolNotFoundError, error_type
from sojourn.types.failure import ModelFailure
from sojourn.types.id import EventId, new_event_id
from sojourn.types.name import CALL_MODEL_ACTIVITY, MODEL_ERROR
from sojourn.types.permission import PermissionPolicy
from sojourn.types.policy import WorkspacePolicy
from sojourn.types.preview import ModelPreview, PartPreview
from sojourn.types.record import (
    AssistantPart,
    CallModelInput,
    CallModelResult,
    CompactContextInput,
    PromptVerdict,
    TextPart,
    ThinkingPart,
    Warned,
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
        attachments: Attachments | None = None,
        policies: WorkspacePolicies | None = None,
        hooks: SessionHooks | None = None,
    ) -> None:
        self._attachments = attachments or Attachments(None)
        self._policies = policies
        self._hooks = hooks or SessionHooks(Hooks(), ThreadPoolExecutor(1))
        self._envelope = envelope
        self._logs = logs
        self._tools = tools
        self._model = model
        self._policy_of_worker = policy
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
                draft.hooks = self._hooks.of(start)
                entries = self._tools.of(start, conversation.mcp_tools)
                specs = self._specs(entries)
                # Before the model is asked: without rules its answer would be of no use.
                await self._policy(start, conversation)
                if await self._denied(conversation, draft):
                    return _refused_prompt(record.step, draft)
                messages = await self._shown(judged(conversation.messages, draft.prompts), start)
                request = _request(start, conversation, messages, specs, attempt=record.attempt)
                window = await window_of(start.agent.definition)
                if not record.compacted:
                    self._gauge.check_room(start, conversation, window)
                with model_call(start, record) as seen:
                    answer = await _answer(self._model, request, draft)
                    seen.answered(answer)
                cost = await cost_of(request.model, answer)
                result = await self._result(record, start, conversation, entries, draft, answer, cost)
                if self._gauge.is_full(start, conversation, result, window):
                    result = result.model_copy(update={"compact": True})
                result = await self._sealed(result)
        except asyncio.CancelledError:
            return await self._kept(await draft.rewritten(draft.interrupted(record.step, _on_request())))
        except ModelCallError as error:
            raise application_error(error.failure) from None
        self._logs.get(activity.info().workflow_id or "").remember(result)
        return result

    async def _shown(self, messages: Sequence[Message], start: SessionInput) -> tuple[Message, ...]:
        try:
            return await self._attachments.shown(messages, start.owner)
        except StoreUnavailableError as error:
            raise ModelCallError(_away(error)) from None

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

    async def _policy(self, start: SessionInput, conversation: Conversation) -> WorkspacePolicy:
        if self._policies is None or not start.agent.definition.tools:
            return WorkspacePolicy()
        return await self._policies.of(start.owner.workspace, changed=conversation.rules_changed)

    async def _denied(self, conversation: Conversation, draft: "Draft") -> bool:
        """Have hooks look at the messages that are new. Whether none of these is left."""
        hooks = draft.hooks
        if hooks is None or not hooks.has("user_prompt"):
            return False
        for message in conversation.messages:
            if isinstance(message, UserTurn) and message.id is not None and message.id in conversation.fresh:
                event = UserPrompt(**vars(hooks.context), id=message.id, content=message.content)
                verdict, reason = await hooks.on_prompt(event)
                draft.prompts.append(verdict)
                if verdict.denied:
                    text = f"the message was refused: {reason}" if reason else "the message was refused"
                    draft.warnings.append(Warned(type="prompt_denied_error", message=text))
        return bool(draft.prompts) and all(each.denied for each in draft.prompts)

    async def _result(
        self,
        record: CallModelInput,
        start: SessionInput,
        conversation: Conversation,
        entries: Mapping[str, Entry],
        draft: "Draft",
        answer: Answer,
        cost: int | None,
    ) -> CallModelResult:
        calls = any(isinstance(part, AnswerToolCall) for part in answer.parts)
        assert draft.hooks is not None
        judge = Judge(
            start,
            conversation,
            self._tools,
            entries,
            self._policy_of_worker,
            await self._policy(start, conversation) if calls else WorkspacePolicy(),
            draft.hooks,
            record.skip_permissions,
        )
        try:
            parts = [await _part(judge, draft.id_of(place), part) for place, part in enumerate(answer.parts)]
            result = CallModelResult(
                step=record.step,
                model=answer.model,
                parts=tuple(parts),
                usage=answer.usage,
                cost_microcents=cost,
                finish_reason=answer.finish_reason,
                notify=draft.hooks.has("turn_complete"),
            )
            return await draft.rewritten(result)
        except ValidationError as error:
            raise _unusable(f"the model's answer is unusable: {error.errors()[0]['msg']}") from None


async def _part(judge: Judge, id: EventId, part: AnswerPart) -> AssistantPart:
    match part:
        case AnswerText():
            return TextPart(id=id, text=whole(part.text), state=part.state)
        case AnswerThinking():
            return ThinkingPart(id=id, text=whole(part.text), signature=part.signature, state=part.state)
        case AnswerToolCall():
            return await judge.part(id, part)


def _refused_prompt(step: EventId, draft: "Draft") -> CallModelResult:
    """The end of a turn whose message hooks have denied: the model is not asked."""
    return CallModelResult(step=step, cost_microcents=0, prompts=tuple(draft.prompts), warnings=draft.warned())


@dataclass
class Draft:
    """An answer while it is being written."""

    _ids: dict[int, EventId] = field(default_factory=dict)
    _kinds: dict[int, str] = field(default_factory=dict)
    _texts: dict[int, list[str]] = field(default_factory=dict)
    _fresh: bool = False
    hooks: HookChain | None = None
    prompts: list[PromptVerdict] = field(default_factory=list)
    """What hooks have made of new messages."""
    warnings: list[Warned] = field(default_factory=list)

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
        # What a hook may yet rewrite must not be seen before.
        if not self._fresh or (self.hooks is not None and self.hooks.has("post_response")):
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

    def warned(self) -> tuple[Warned, ...]:
        """What people are to know."""
        failed = self.hooks.warnings if self.hooks is not None else []
        return (*self.warnings, *(Warned(type="hook_failed_error", message=text) for text in failed))

    async def rewritten(self, result: CallModelResult) -> CallModelResult:
        """The answer as hooks leave it, with what they have decided before."""
        parts = result.parts
        if self.hooks is not None and self.hooks.has("post_response"):
            parts = tuple([await self._rewritten(self.hooks, part) for part in parts])
        return result.model_copy(update={"parts": parts, "prompts": tuple(self.prompts), "warnings": self.warned()})

    async def _rewritten(self, hooks: HookChain, part: AssistantPart) -> AssistantPart:
        if not isinstance(part, TextPart):
            return part
        text = await hooks.on_response(part.text)
        # What a provider has signed is not this text.
        return part if text == part.text else TextPart(id=part.id, text=whole(text))


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


def _request(
    start: SessionInput,
    conversation: Conversation,
    messages: tuple[Message, ...],
    tools: list[ToolSpec],
    *,
    attempt: int,
) -> ModelRequest:
    definition = start.agent.definition
    return ModelRequest(
        model=definition.model,
        system=definition.system,
        messages=messages,
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
