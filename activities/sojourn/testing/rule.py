"""The rules that hold for the log of every session, whatever was done to it."""

from collections import Counter
from collections.abc import Iterator, Sequence

from sojourn.types.event import (
    AgentCustomToolUse,
    AgentMcpToolResult,
    AgentMcpToolUse,
    AgentToolResult,
    AgentToolUse,
    ModelRequestEnd,
    ModelRequestStart,
    SessionEvent,
    SessionIdle,
    SessionTerminated,
    SessionUsage,
    UserCustomToolResult,
    UserInterrupt,
    UserToolResult,
)


def log_faults(log: Sequence[SessionEvent]) -> Iterator[str]:
    """What is wrong with a log that was read from its first event on; nothing for a sound one.

    A log that has not come to rest yet may end anywhere; only at rest must every tool call have its result.
    """
    yield from _number_faults(log)
    yield from _span_faults(log)
    yield from _idle_faults(log)
    yield from _call_faults(log)


def _number_faults(log: Sequence[SessionEvent]) -> Iterator[str]:
    for wanted, event in enumerate(log, start=1):
        if event.seq != wanted:
            yield f"event {event.id} has the number {event.seq} where {wanted} should be"
            break
    for id, count in Counter(event.id for event in log).items():
        if count > 1 or not id:
            yield f"{count} events have the id {id!r}"
    for event in log[:-1]:
        if isinstance(event, SessionTerminated):
            yield f"events follow the terminal event {event.seq}"


def _span_faults(log: Sequence[SessionEvent]) -> Iterator[str]:
    open_span: str | None = None
    for event in log:
        if isinstance(event, ModelRequestStart):
            if open_span is not None:
                yield f"model step {event.seq} began before the last one had ended"
            open_span = event.id
        elif isinstance(event, ModelRequestEnd):
            if event.model_request_start_id != open_span:
                yield f"event {event.seq} ends a model step that is not open"
            open_span = None


def _idle_faults(log: Sequence[SessionEvent]) -> Iterator[str]:
    for place, event in enumerate(log):
        if not isinstance(event, SessionIdle) or (place and isinstance(log[place - 1], SessionUsage)):
            continue
        before = [each.type for each in log[:place] if each.type.startswith("session.status_")]
        if before and before[-1] == "session.status_running":
            yield f"the turn that ended with event {event.seq} has no usage"
        if not any(isinstance(each, UserInterrupt) for each in log[:place]):
            yield f"event {event.seq} says idle without a turn or an interrupt before it"


def _call_faults(log: Sequence[SessionEvent]) -> Iterator[str]:
    calls = {event.id: event for event in log if isinstance(event, AgentToolUse | AgentCustomToolUse | AgentMcpToolUse)}
    of_mcp = {event.tool_use_id for event in log if isinstance(event, AgentMcpToolResult)}
    results = Counter(event.tool_use_id for event in log if isinstance(event, AgentToolResult | AgentMcpToolResult))
    answers = {event.custom_tool_use_id for event in log if isinstance(event, UserCustomToolResult)}
    answers |= {event.tool_use_id for event in log if isinstance(event, UserToolResult)}
    for id in results.keys() - calls.keys():
        yield f"there is a result for {id}, which nobody called"
    for call in calls.values():
        if results[call.id] > 1:
            yield f"{call.name} {call.id} has {results[call.id]} results"
        if results[call.id] and isinstance(call, AgentMcpToolUse) is not (call.id in of_mcp):
            yield f"{call.name} {call.id} has a result of another kind"
        answered = call.id in answers
        if _rests(log) and not results[call.id] and not answered:
            yield f"{call.name} {call.id} has no result"


def _rests(log: Sequence[SessionEvent]) -> bool:
    match log[-1]:
        case SessionTerminated():
            return True
        case SessionIdle(stop_reason=reason):
            return reason.type != "requires_action"
        case _:
            return False
