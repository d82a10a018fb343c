"""Single events of our log in the contract's words."""

from typing import Literal

from sojourn.gateway.wire import event as wire
from sojourn.gateway.wire.usage import Money, cumulative, of_request
from sojourn.types import event as ours
from sojourn.types.account import Budget
from sojourn.types.id import SessionId
from sojourn.types.permission import Permission
from sojourn.types.session import RequiresAction
from sojourn.types.session_error import ErrorDetail

ERROR_TYPES = frozenset(
    {
        "unknown_error",
        "model_overloaded_error",
        "model_rate_limited_error",
        "model_request_failed_error",
        "billing_error",
        "tool_use_limit_reached_error",
        "compaction_limit_reached_error",
        "repository_authentication_error",
        "repository_forbidden_error",
        "repository_not_found_error",
        "repository_checkout_error",
        "repository_clone_error",
        "mcp_connection_failed_error",
        "mcp_authentication_failed_error",
    }
)
"""Those of the contract that a session of ours can have."""

_PLAIN: dict[type[ours.Event], type[wire.WireEvent]] = {
    ours.AgentThinking: wire.AgentThinking,
    ours.ContextCompacted: wire.ContextCompacted,
    ours.ModelRequestStart: wire.ModelRequestStart,
    ours.SessionRescheduled: wire.SessionRescheduled,
    ours.SessionRunning: wire.SessionRunning,
    ours.UserInterrupt: wire.UserInterrupt,
}
"""What has nothing but its type."""

_SAME: dict[type[ours.Event], type[wire.WireEvent]] = {
    ours.AgentCustomToolUse: wire.AgentCustomToolUse,
    ours.AgentMcpToolResult: wire.AgentMcpToolResult,
    ours.AgentMessage: wire.AgentMessage,
    ours.AgentToolResult: wire.AgentToolResult,
    ours.UserCustomToolResult: wire.UserCustomToolResult,
    ours.UserToolConfirmation: wire.UserToolConfirmation,
    ours.UserToolResult: wire.UserToolResult,
}
"""What has fields of the same names and kinds, and perhaps more on our side."""


def thread_id(session_id: SessionId) -> str:
    """The id of the session's primary thread."""
    return f"sthr_{session_id.removeprefix('sesn_')}"


def translated(event: ours.SessionEvent) -> wire.WireEvent:
    """The event on the wire.

    Messages of the client show no time: the projection shows them again when they are taken up. What answers or
    interrupts is taken up when it comes.
    """
    id, at = event.id, event.processed_at
    if (plain := _PLAIN.get(type(event))) is not None:
        return plain.model_validate({"id": id, "processed_at": at})
    if (same := _SAME.get(type(event))) is not None:
        names = same.model_fields.keys() & type(event).model_fields.keys()
        return same.model_validate({name: getattr(event, name) for name in names})
    match event:
        case ours.UserMessage():
            return wire.UserMessage(id=id, processed_at=None, content=event.content)
        case ours.SystemMessage():
            return wire.SystemMessage(id=id, processed_at=None, content=event.content)
        case ours.UserDefineOutcome():
            return _outcome(event)
        case ours.AgentToolUse():
            return wire.AgentToolUse(
                id=id,
                processed_at=at,
                name=event.name,
                input=event.input,
                evaluated_permission=event.evaluated_permission,
                evaluation=_evaluation(event.evaluated_permission),
            )
        case ours.AgentMcpToolUse():
            return wire.AgentMcpToolUse(
                id=id,
                processed_at=at,
                mcp_server_name=event.mcp_server_name,
                name=event.name,
                input=event.input,
                evaluated_permission=event.evaluated_permission,
                evaluation=_evaluation(event.evaluated_permission),
            )
        case ours.SessionIdle():
            reason, details = idle_reason(event)
            return wire.SessionIdle(id=id, processed_at=at, stop_reason=reason, stop_details=details)
        case ours.SessionTerminated():
            return wire.SessionTerminated(id=id, processed_at=at, sojourn_status=event.status)
        case ours.SessionUsage():
            usage = cumulative(event.usage, cost_microcents=event.cost_microcents, active_seconds=event.active_seconds)
            return wire.SessionUsage(id=id, processed_at=at, usage=usage, budget=_budget(event.budget))
        case ours.SessionUpdated():
            return _updated(event)
        case ours.SessionErrorEvent():
            return wire.SessionError(id=id, processed_at=at, error=_error(event.error))
        case ours.ModelRequestEnd():
            return wire.ModelRequestEnd(
                id=id,
                processed_at=at,
                model_request_start_id=event.model_request_start_id,
                model_usage=of_request(event.model_usage),
                is_error=event.is_error,
            )
        case _:
            return wire.OtherEvent.model_validate(event.model_dump(exclude={"seq"}) | {"id": id, "processed_at": at})


def idle_reason(event: ours.SessionIdle) -> tuple[wire.StopReason | wire.RequiresAction, wire.StopDetails | None]:
    """Why the session waits, and more about it."""
    reason = event.stop_reason
    if isinstance(reason, RequiresAction):
        return wire.RequiresAction(event_ids=reason.event_ids), None
    # The contract has no word for an answer that was cut at the model's limit.
    kind = "end_turn" if reason.type == "max_tokens" else reason.type
    details = wire.StopDetails() if kind == "refusal" else None
    return wire.StopReason(type=kind), details


def _evaluation(permission: Permission) -> wire.Evaluation | None:
    return None if permission == "deny" else wire.Evaluation(type=_RULES[permission])


_RULES: dict[str, Literal["always_allow", "always_ask"]] = {"allow": "always_allow", "ask": "always_ask"}


def _outcome(event: ours.UserDefineOutcome) -> wire.UserDefineOutcome:
    return wire.UserDefineOutcome(
        id=event.id,
        processed_at=event.processed_at,
        outcome_id=f"outc_{event.id.removeprefix('sevt_')}",
        description=event.description,
        rubric=wire.TextRubric(content=event.rubric.text),
        max_iterations=event.max_iterations,
    )


def _updated(event: ours.SessionUpdated) -> wire.SessionUpdated:
    kind = wire.SessionUnlimited if event.budget_removed else wire.SessionUpdated
    return kind.model_validate(
        {
            "id": event.id,
            "processed_at": event.processed_at,
            "title": event.title,
            "metadata": event.metadata,
            "agent_version": event.agent_version,
            "budget": _budget(event.budget),
            "skip_permissions": event.skip_permissions,
        }
    )


def _budget(budget: Budget | None) -> wire.Budget | None:
    if budget is None:
        return None
    return wire.Budget(max_list_cost=Money(amount=str(budget.max_list_cost_cents)))


def _error(error: ErrorDetail) -> wire.ErrorDetail:
    return wire.ErrorDetail(
        type=error.type if error.type in ERROR_TYPES else "unknown_error",
        message=error.message,
        retry_status=wire.RetryStatus(type=error.retry_status.type),
        mcp_server_name=error.mcp_server_name,
        event_ids=error.event_ids,
        repository_url=error.repository_url,
    )
