"""Sending events once, though the request comes twice.

With an `Idempotency-Key` the events' ids come from it, and the same id twice is one event. Without one, an id carries a
mark of its request beside the time; an SDK's retry looks in the log for the newest event with its mark.
"""

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid5

import uuid_utils

from sojourn.gateway.endpoint import Call
from sojourn.gateway.error import GatewayError
from sojourn.gateway.idempotency import BUCKET_SECONDS, attempt, derived, explicit_key
from sojourn.types import EventId, UserEvent

_PREFIX = "sevt_"

_STEM = 20
"""Hexadecimal digits of an id that tell when it was made, and are random; the rest is the mark."""

_RECENT = timedelta(seconds=2 * BUCKET_SECONDS)


async def send_once(call: Call[Any, Any], session_id: str, events: Sequence[UserEvent]) -> list[UserEvent]:
    """Send events to a session, or find that this request has sent them before.

    Raises:
        GatewayError: The `Idempotency-Key` is no key, or was used for other events.
        SojournError: As `AgentRuntime.send_event`.
    """
    request = derived(call, "send", call.principal.key_id, call.body_digest)
    key = explicit_key(call)
    if key is not None:
        _check_key(call, key)
    stem = derived(call, "events", key).hex[:_STEM] if key is not None else _new_stem()

    async def send() -> list[UserEvent]:
        marked = _marked(events, stem, request)
        return await call.runtime.send_event(session_id, *marked, owner=call.owner)

    async def send_unless_sent() -> list[UserEvent]:
        found = await _sent_before(call, session_id, request, events)
        return _marked(events, found, request) if found is not None else await send()

    if key is None and attempt(call) > 0:
        return await call.gateway.recent.fly_alone(request, send_unless_sent)
    return await call.gateway.recent.fly(request, send)


def _check_key(call: Call[Any, Any], key: str) -> None:
    """Refuse a key that this process has seen with another body."""
    name = derived(call, "events", key)
    used_for = call.gateway.recent.keys.get(name)
    if used_for not in (None, call.body_digest):
        raise GatewayError(400, f"Idempotency-Key {key!r} was used for another request; use a new one")
    call.gateway.recent.keys.put(name, call.body_digest)


async def _sent_before(call: Call[Any, Any], session_id: str, request: UUID, events: Sequence[UserEvent]) -> str | None:
    """The stem of the ids under which the newest equal request has sent its events."""
    place = next((place for place, event in enumerate(events) if not event.id), None)
    if place is None:
        return None
    mark = _mark(request, place)
    for event in reversed(await call.runtime.list_events(session_id, owner=call.owner)):
        if event.id.startswith(_PREFIX) and event.id.endswith(mark):
            stem = event.id.removeprefix(_PREFIX)[:_STEM]
            return stem if _is_recent(stem) else None
    return None


def _marked(events: Sequence[UserEvent], stem: str, request: UUID) -> list[UserEvent]:
    """The events with ids; those that the client has chosen stay."""
    return [
        event if event.id else event.model_copy(update={"id": EventId(f"{_PREFIX}{stem}{_mark(request, place)}")})
        for place, event in enumerate(events)
    ]


def _mark(request: UUID, place: int) -> str:
    return uuid5(request, str(place)).hex[_STEM:]


def _new_stem() -> str:
    return uuid_utils.uuid7().hex[:_STEM]


def _is_recent(stem: str) -> bool:
    """By the time in a uuid7: milliseconds in its first twelve digits."""
    return time.time() - int(stem[:12], 16) / 1000 < _RECENT.total_seconds()
