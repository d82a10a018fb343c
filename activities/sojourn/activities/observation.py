"""What operators get to see of model and tool calls: a span for each attempt, durations, tokens and log lines.

Uses the API of OpenTelemetry and the meter of Temporal's SDK; both do nothing until the process sets them up. Never a
prompt, an answer, arguments or results.
"""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from temporalio import activity

from sojourn.activities.model import Answer, ModelCallError
from sojourn.types import telemetry as names
from sojourn.types.event import ToolOutcome
from sojourn.types.record import CallModelInput, CompactContextInput, RunToolInput, ToolCallPart
from sojourn.types.session import SessionInput

logger = logging.getLogger("sojourn.activities")

Attributes = dict[str, str | int]


class ModelObservation:
    """One attempt of a model call while it runs."""

    def __init__(self, span: Span) -> None:
        self.span = span
        self.answer: Answer | None = None

    def answered(self, answer: Answer) -> None:
        """The model has answered."""
        self.answer = answer
        self.span.set_attributes(
            {
                names.RESPONSE_MODEL: answer.model,
                names.FINISH_REASONS: [answer.finish_reason],
                names.INPUT_TOKENS: answer.usage.input_tokens,
                names.OUTPUT_TOKENS: answer.usage.output_tokens,
            }
        )


@contextmanager
def model_call(start: SessionInput, record: CallModelInput | CompactContextInput) -> Iterator[ModelObservation]:
    """Observe one attempt of a model call."""
    labels = _labels(start, names.CHAT)
    attributes: Attributes = {
        **_of_session(start),
        **labels,
        names.STEP: record.step,
        names.ATTEMPT: max(record.attempt, 1),
    }
    began = time.monotonic()
    error_type: str | None = None
    with _span(f"{names.CHAT} {start.agent.definition.model.model}", SpanKind.CLIENT, attributes) as span:
        seen = ModelObservation(span)
        try:
            yield seen
        except ModelCallError as error:
            error_type = error.failure.error_class or error.failure.kind
            raise
        except asyncio.CancelledError:
            error_type = "cancelled"
            raise
        finally:
            _fail(span, error_type)
            if seen.answer is not None:
                labels[names.RESPONSE_MODEL] = seen.answer.model
                _count_tokens(seen.answer, labels)
            _record_duration(time.monotonic() - began, labels, error_type)


class ToolObservation:
    """One attempt of a tool call while it runs."""

    def __init__(self, record: RunToolInput) -> None:
        self.outcome: ToolOutcome | None = None
        self.error_type: str | None = None
        self._record = record

    def ended(self, outcome: ToolOutcome) -> None:
        """The call has a result."""
        self.outcome = outcome

    def raised(self, error: BaseException) -> None:
        """The tool raised; what it said stays in the session's log."""
        self.error_type = type(error).__name__
        logger.warning("tool raised %s: %s", self.error_type, self._record.name, extra=tool_ids(self._record))

    def too_large(self, size_bytes: int) -> None:
        """The result is over the limit of one payload."""
        self.error_type = "result_too_large"
        activity.metric_meter().create_counter(names.LIMITS_METRIC).add(
            1, {names.LIMIT: "tool_result", names.TOOL_NAME: self._record.name}
        )
        logger.warning(
            "limit met: tool_result; %s returned %d bytes", self._record.name, size_bytes, extra=tool_ids(self._record)
        )


@contextmanager
def tool_call(start: SessionInput | None, record: RunToolInput, call: ToolCallPart) -> Iterator[ToolObservation]:
    """Observe one attempt of a tool call. ``start`` is ``None`` if this worker has not read the session's beginning."""
    labels = _labels(start, names.EXECUTE_TOOL) | {names.TOOL_NAME: record.name}
    attributes: Attributes = {
        **(_of_session(start) if start is not None else {}),
        **labels,
        names.TOOL_TYPE: "function",
        names.TOOL_CALL: call.call_id,
        names.TOOL_USE: record.tool_use_id,
        names.ATTEMPT: activity.info().attempt,
    }
    began = time.monotonic()
    seen = ToolObservation(record)
    with _span(f"{names.EXECUTE_TOOL} {record.name}", SpanKind.INTERNAL, attributes) as span:
        try:
            yield seen
        except asyncio.CancelledError:
            seen.error_type = "cancelled"
            raise
        finally:
            if seen.outcome is not None:
                span.set_attribute(names.OUTCOME, seen.outcome)
            failed = seen.outcome if seen.outcome not in (None, "ok", "error") else None
            error_type = failed or seen.error_type or ("error" if seen.outcome == "error" else None)
            _fail(span, error_type)
            _record_duration(time.monotonic() - began, labels, error_type)


def session_ids() -> dict[str, str | int]:
    """The ids of the session of the running activity, for log lines."""
    info = activity.info()
    workspace, _, session_id = (info.workflow_id or "").rpartition("/")
    return {
        "session_id": session_id,
        "workspace": workspace,
        "attempt": info.attempt,
        "workflow_id": info.workflow_id or "",
        "run_id": info.workflow_run_id or "",
    }


def tool_ids(record: RunToolInput) -> dict[str, str | int]:
    """The ids of a tool call, for log lines."""
    return {**session_ids(), "tool": record.name, "tool_use_id": record.tool_use_id}


@contextmanager
def _span(name: str, kind: SpanKind, attributes: Attributes) -> Iterator[Span]:
    tracer = trace.get_tracer(names.TRACER)
    # Exceptions are not recorded: their texts may quote what was said.
    with tracer.start_as_current_span(
        name, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        yield span


def _fail(span: Span, error_type: str | None) -> None:
    if error_type is not None:
        span.set_attribute(names.ERROR_TYPE, error_type)
        span.set_status(Status(StatusCode.ERROR))


def _of_session(start: SessionInput) -> Attributes:
    return {**names.session_attributes(start.session_id, start.owner.workspace, start.agent)}


def _labels(start: SessionInput | None, operation: str) -> Attributes:
    if start is None:
        return {names.OPERATION: operation}
    model = start.agent.definition.model
    return {
        names.OPERATION: operation,
        names.AGENT_NAME: start.agent.name,
        names.PROVIDER: names.provider_name(model.provider),
        names.REQUEST_MODEL: model.model,
    }


def _count_tokens(answer: Answer, labels: Attributes) -> None:
    tokens = activity.metric_meter().create_histogram(names.TOKEN_USAGE_METRIC, "Tokens of one model call.", "{token}")
    tokens.record(answer.usage.input_tokens, {**labels, names.TOKEN_TYPE: "input"})
    tokens.record(answer.usage.output_tokens, {**labels, names.TOKEN_TYPE: "output"})


def _record_duration(seconds: float, labels: Attributes, error_type: str | None) -> None:
    durations = activity.metric_meter().create_histogram_float(names.DURATION_METRIC, "Duration of one attempt.", "s")
    durations.record(seconds, labels if error_type is None else {**labels, names.ERROR_TYPE: error_type})
