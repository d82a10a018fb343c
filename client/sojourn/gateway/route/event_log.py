"""`/v1/sessions/{id}/events`: lists and streams of events."""

from collections.abc import Callable, Sequence
from typing import Any

from starlette.responses import Response

from sojourn.gateway.endpoint import Call, Endpoint
from sojourn.gateway.logbook import Entry
from sojourn.gateway.stream import open_stream
from sojourn.gateway.wire.cursor import bad_cursor, cursor, read_cursor
from sojourn.gateway.wire.log import EventPage, EventQuery, Order, StreamQuery
from sojourn.types.id import SessionId


async def list_events(call: Call[None, EventQuery]) -> Response:
    query = call.query
    types = frozenset(query.types)

    def wanted(entry: Entry) -> bool:
        return (not types or entry.kind in types) and _in_time(entry, query)

    return await event_page(call, wanted, order=query.order, limit=query.limit, page=query.page)


async def stream_events(call: Call[None, StreamQuery]) -> Response:
    return await open_stream(call)


async def event_page(
    call: Call[Any, Any], wanted: Callable[[Entry], bool], *, order: Order, limit: int, page: str | None
) -> Response:
    """One page of a session's events.

    All pages of a list show the log as it was when the first one was read, so none is missing and none is there twice.

    Raises:
        InvalidRequestError: The cursor is none, or that of another list.
        SessionNotFoundError: There is no such session, or it is another owner's.
    """
    session_id = SessionId(call.path["session_id"])
    # The order and the session belong to the list: a cursor is none of another one's.
    name = f"events {order} {session_id}"
    end, start = _place(name, page) if page is not None else (0, 0)
    book = await call.gateway.logbooks.open(call.runtime, session_id, call.owner, until=end)
    if end > book.seq:
        raise bad_cursor()
    end = end or book.seq
    entries = book.as_of(end)
    found, rest = _part(entries if order == "asc" else entries[::-1], start, limit, wanted)
    next_page = cursor(name, end=end, start=rest) if rest is not None else None
    # The events are JSON already.
    data = b",".join(entry.json for entry in found)
    told = f'"{next_page}"' if next_page else "null"
    return Response(b'{"data":[' + data + b'],"next_page":' + told.encode() + b"}", media_type="application/json")


def _place(name: str, page: str) -> tuple[int, int]:
    """With which event the log ended when the first page was read, and how many entries of the list come before."""
    place = read_cursor(name, page)
    end, start = place.get("end"), place.get("start")
    if type(end) is not int or type(start) is not int or end < 1 or start < 0:
        raise bad_cursor()
    return end, start


def _part(
    entries: Sequence[Entry], start: int, limit: int, wanted: Callable[[Entry], bool]
) -> tuple[list[Entry], int | None]:
    """Up to so many entries, and where the next one is; ``None`` if there is no other."""
    found: list[Entry] = []
    for number in range(start, len(entries)):
        if wanted(entries[number]):
            if len(found) == limit:
                return found, number
            found.append(entries[number])
    return found, None


def _in_time(entry: Entry, query: EventQuery) -> bool:
    if query.gt is query.gte is query.lt is query.lte is None:
        return True
    return entry.at is not None and (
        (query.gt is None or entry.at > query.gt)
        and (query.gte is None or entry.at >= query.gte)
        and (query.lt is None or entry.at < query.lt)
        and (query.lte is None or entry.at <= query.lte)
    )


_PATH = "/v1/sessions/{session_id}/events"

ENDPOINTS = (
    Endpoint(
        "GET",
        _PATH,
        "sessions.events.list",
        list_events,
        "read",
        "List a session's events",
        query=EventQuery,
        reply=EventPage,
        for_workers=True,
    ),
    Endpoint(
        "GET",
        f"{_PATH}/stream",
        "sessions.events.stream",
        stream_events,
        "read",
        "Stream a session's events as they happen",
        query=StreamQuery,
        for_workers=True,
    ),
)
