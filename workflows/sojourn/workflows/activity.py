"""Running one activity of a turn, and telling what became of it."""

from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError, TimeoutError, TimeoutType

from sojourn.workflows.option import (
    ABANDON_TIMEOUT,
    HEARTBEAT_TIMEOUT,
    LIST_TOOLS,
    LIST_TOOLS_TIMEOUT,
    MODEL_RETRY,
    ONCE,
    REPEATED_TOOL,
)

with workflow.unsafe.imports_passed_through():
    from sojourn.types.error import StoreUnavailableError
    from sojourn.types.event import ToolOutcome
    from sojourn.types.failure import ModelFailure
    from sojourn.types.id import EventId
    from sojourn.types.mcp import AbandonMcpCallInput, ListMcpToolsInput, ListMcpToolsResult
    from sojourn.types.name import (
        ABANDON_MCP_CALL_ACTIVITY,
        CALL_MODEL_ACTIVITY,
        COMPACT_CONTEXT_ACTIVITY,
        LIST_MCP_TOOLS_ACTIVITY,
        MODEL_ERROR,
        RUN_TOOL_ACTIVITY,
    )
    from sojourn.types.record import (
        TOOL_GRACE,
        CallModelInput,
        CallModelResult,
        CompactContextInput,
        CompactContextResult,
        RunToolInput,
        RunToolResult,
    )

R = TypeVar("R")


@dataclass(frozen=True)
class Host:
    """The worker that an activity is for."""

    queue: str
    patience: timedelta
    """How long it may take to begin; a worker that is gone never does."""


def start_call_model(
    record: CallModelInput, *, timeout: timedelta, summary: str
) -> workflow.ActivityHandle[CallModelResult]:
    """Schedule one model step."""
    return _start(CALL_MODEL_ACTIVITY, record, CallModelResult, record.step, timeout, MODEL_RETRY, summary)


def start_compact_context(
    record: CompactContextInput, *, timeout: timedelta, summary: str
) -> workflow.ActivityHandle[CompactContextResult]:
    """Schedule one compaction."""
    return _start(COMPACT_CONTEXT_ACTIVITY, record, CompactContextResult, record.step, timeout, MODEL_RETRY, summary)


def start_run_tool(
    record: RunToolInput, *, timeout: timedelta, idempotent: bool, summary: str, host: Host | None = None
) -> workflow.ActivityHandle[RunToolResult]:
    """Schedule one tool call. The tool-use id is the activity id, so operators can address the call."""
    retry = REPEATED_TOOL if idempotent else ONCE
    id, limit = record.tool_use_id, timeout + TOOL_GRACE
    return _start(RUN_TOOL_ACTIVITY, record, RunToolResult, id, limit, retry, summary, host)


def start_list_mcp_tools(record: ListMcpToolsInput, *, summary: str) -> workflow.ActivityHandle[ListMcpToolsResult]:
    """Schedule one listing of the tools of MCP servers."""
    return workflow.start_activity(
        LIST_MCP_TOOLS_ACTIVITY,
        record,
        result_type=ListMcpToolsResult,
        activity_id=record.id,
        start_to_close_timeout=LIST_TOOLS_TIMEOUT,
        heartbeat_timeout=HEARTBEAT_TIMEOUT,
        retry_policy=LIST_TOOLS,
        # A result that comes after the cancellation is in history and must be counted.
        cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        summary=summary,
    )


def start_abandon_mcp_call(tool_use_id: EventId, *, queue: str) -> workflow.ActivityHandle[None]:
    """Schedule the end of a call that waits on a worker for answers to its server's questions."""
    return workflow.start_activity(
        ABANDON_MCP_CALL_ACTIVITY,
        AbandonMcpCallInput(tool_use_id=tool_use_id),
        result_type=type(None),
        task_queue=queue,
        schedule_to_close_timeout=ABANDON_TIMEOUT,
        retry_policy=ONCE,
        summary="withdraw a question",
    )


def _start(
    name: str,
    record: object,
    result: type[R],
    id: str,
    timeout: timedelta,
    retry: RetryPolicy,
    summary: str,
    host: Host | None = None,
) -> workflow.ActivityHandle[R]:
    # WAIT_CANCELLATION_COMPLETED: a result that comes after the cancellation is in history and must be counted.
    return workflow.start_activity(
        name,
        record,
        result_type=result,
        activity_id=id,
        task_queue=host.queue if host else None,
        schedule_to_start_timeout=host.patience if host else None,
        start_to_close_timeout=timeout,
        heartbeat_timeout=HEARTBEAT_TIMEOUT,
        retry_policy=retry,
        cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        summary=summary,
    )


def model_failure(error: ActivityError) -> ModelFailure:
    """What went wrong with a model call. A lost worker or a timeout may be tried again."""
    cause = error.cause
    if isinstance(cause, ApplicationError) and cause.type == MODEL_ERROR and cause.details:
        return ModelFailure.model_validate(cause.details[0], extra="ignore")
    if isinstance(cause, TimeoutError):
        return ModelFailure(kind="retryable", message="the model call gave no answer in time or its worker was lost")
    message = cause.message if isinstance(cause, ApplicationError) else str(cause or error)
    if isinstance(cause, ApplicationError) and cause.type == StoreUnavailableError.__name__:
        return ModelFailure(kind="retryable", message=" ".join(message.split())[:300])
    return ModelFailure(kind="fatal", message=" ".join(message.split())[:300])


def tool_outcome(error: ActivityError) -> ToolOutcome:
    """What to tell the model about a tool call that gave no result."""
    cause = error.cause
    if isinstance(cause, CancelledError):
        return "interrupted"
    if isinstance(cause, TimeoutError) and cause.type == TimeoutType.START_TO_CLOSE:
        return "timed_out"
    return "unknown"
