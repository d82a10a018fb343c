"""`/v1/sessions/{id}/threads`: the primary thread, which has all that its session has."""

from typing import Any

from starlette.responses import Response

from sojourn.gateway.endpoint import Call, Endpoint
from sojourn.gateway.error import GatewayError
from sojourn.gateway.route.event_log import event_page
from sojourn.gateway.stream import open_stream
from sojourn.gateway.translation import thread_id
from sojourn.gateway.wire.log import EventPage, StreamQuery, ThreadEventQuery
from sojourn.gateway.wire.thread import Thread, ThreadPage, ThreadQuery, primary_thread
from sojourn.types.error import InvalidRequestError
from sojourn.types.id import SessionId


async def list_threads(call: Call[None, ThreadQuery]) -> ThreadPage:
    if call.query.page:
        raise InvalidRequestError("page is no cursor of this list; it has one page only", param="page")
    thread = await _read(call)
    statuses = call.query.statuses
    return ThreadPage(data=(thread,) if not statuses or thread.status in statuses else ())


async def get_thread(call: Call[None, None]) -> Thread:
    _check(call)
    return await _read(call)


async def archive_thread(call: Call[None, None]) -> Thread:
    _check(call)
    await _read(call)
    text = f"thread {call.path['thread_id']!r} is the primary one and ends with its session; archive the session"
    raise GatewayError(400, text)


async def list_thread_events(call: Call[None, ThreadEventQuery]) -> Response:
    _check(call)
    return await event_page(call, lambda entry: True, order="asc", limit=call.query.limit, page=call.query.page)


async def stream_thread_events(call: Call[None, StreamQuery]) -> Response:
    _check(call)
    return await open_stream(call)


def _check(call: Call[Any, Any]) -> None:
    session_id, asked = call.path["session_id"], call.path["thread_id"]
    if asked != thread_id(SessionId(session_id)):
        raise GatewayError(404, f"thread {asked!r} not found in session {session_id!r}; list its threads")


async def _read(call: Call[Any, Any]) -> Thread:
    session_id = SessionId(call.path["session_id"])
    return primary_thread(await call.runtime.session_snapshot(session_id, owner=call.owner), call.models)


_ALL = "/v1/sessions/{session_id}/threads"
_ONE = f"{_ALL}/{{thread_id}}"

ENDPOINTS = (
    Endpoint(
        "GET",
        _ALL,
        "sessions.threads.list",
        list_threads,
        "read",
        "List a session's threads",
        query=ThreadQuery,
        reply=ThreadPage,
    ),
    Endpoint("GET", _ONE, "sessions.threads.get", get_thread, "read", "Get a thread", reply=Thread),
    Endpoint(
        "POST",
        f"{_ONE}/archive",
        "sessions.threads.archive",
        archive_thread,
        "control",
        "Archive a thread; the primary one cannot be archived",
        reply=Thread,
    ),
    Endpoint(
        "GET",
        f"{_ONE}/events",
        "sessions.threads.events.list",
        list_thread_events,
        "read",
        "List a thread's events",
        query=ThreadEventQuery,
        reply=EventPage,
    ),
    Endpoint(
        "GET",
        f"{_ONE}/stream",
        "sessions.threads.events.stream",
        stream_thread_events,
        "read",
        "Stream a thread's events as they happen",
        query=StreamQuery,
    ),
)
