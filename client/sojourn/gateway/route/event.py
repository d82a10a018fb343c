"""Sending events (Managed Agents API §1.4, §2.1)."""

from sojourn.gateway.endpoint import Call, Endpoint
from sojourn.gateway.error import GatewayError
from sojourn.gateway.resend import send_once
from sojourn.gateway.translation import thread_id, translated
from sojourn.gateway.wire.send import (
    SendCustomToolResult,
    SendEvents,
    SendInterrupt,
    SendOutcome,
    SendSystemMessage,
    SendToolResult,
    SentEvents,
)
from sojourn.types import InvalidRequestError, SessionId, UserEvent


async def send(call: Call[SendEvents, None]) -> SentEvents:
    session_id = call.path["session_id"]
    events = _stored(call.body, session_id, by_worker=call.principal.environment_id is not None)
    await _check_waiting(call, session_id)
    done = await send_once(call, session_id, events)
    # Checked again, because there are events that nobody can send.
    return SentEvents.model_validate({"data": [translated(event) for event in done]})


def _stored(body: SendEvents, session_id: str, *, by_worker: bool) -> list[UserEvent]:
    events: list[UserEvent] = []
    for place, event in enumerate(body.events):
        if by_worker and not isinstance(event, SendToolResult | SendCustomToolResult):
            text = f"{event.type} takes an API key; the key of an environment's worker sends results"
            raise GatewayError(403, f"events.{place}.type: {text}")
        if isinstance(event, SendToolResult) and not by_worker:
            text = "takes the key of an environment's worker; with an API key send user.custom_tool_result"
            raise GatewayError(403, f"events.{place}.type: user.tool_result {text}")
        assert not isinstance(event, SendOutcome), "refused where it was read"
        if isinstance(event, SendInterrupt):
            _check_thread(event, session_id, f"events.{place}.session_thread_id")
        events.append(event.stored())
    return events


def _check_thread(event: SendInterrupt, session_id: str, path: str) -> None:
    if event.session_thread_id not in (None, thread_id(SessionId(session_id))):
        raise InvalidRequestError(
            f"{path}: no thread {event.session_thread_id!r} in the session; leave it out", param=path
        )


async def _check_waiting(call: Call[SendEvents, None], session_id: str) -> None:
    """While answers are awaited, instructions are taken right behind a tool's result only."""
    events = call.body.events
    if not isinstance(events[-1], SendSystemMessage) or isinstance(
        events[-2:][0], SendCustomToolResult | SendToolResult
    ):
        return
    info = await call.runtime.get_session(session_id, owner=call.owner)
    if info.stop_reason == "requires_action" and not info.status.is_terminal and info.status.value == "idle":
        path = f"events.{len(events) - 1}"
        text = "the session waits for answers; send it right behind a user.custom_tool_result"
        raise InvalidRequestError(f"{path}: {text}", param=path)


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/sessions/{session_id}/events",
        "sessions.events.send",
        send,
        "write",
        "Send events to a session, all or none",
        SendEvents,
        reply=SentEvents,
        for_workers=True,
    ),
)
