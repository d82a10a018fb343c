"""Lists of sessions in the order in which they were created, forwards and backwards.

Visibility stores do not sort: those on SQL refuse ``ORDER BY`` and show open workflows before closed ones. So a page
is cut out of a window of time that holds enough sessions and not too many; how many it holds, the store can tell. What
only the archive has comes after everything that the server has, the latest end first, because it ended long ago.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import CountWorkflowExecutionsRequest
from temporalio.client import Client

from sojourn.client.archived import ArchivedSessions, SessionFilter
from sojourn.client.failure import translated
from sojourn.client.listing import CreatedRange, check_limit, list_workflows
from sojourn.types.described import session_info, sorted_at
from sojourn.types.error import InvalidRequestError
from sojourn.types.name import CREATED_ATTRIBUTE
from sojourn.types.session import SessionInfo

Order = Literal["asc", "desc"]
Way = Literal["next", "prev"]

_WINDOW = 1000
"""Sessions that one window may hold, and one call of the server can list."""
_FIRST_SPAN = timedelta(hours=1)
_BEGINNING = datetime(2020, 1, 1, tzinfo=UTC)
_LONGEST_SPAN = timedelta(days=365 * 50)
_SHRINKS = 40


@dataclass(frozen=True)
class Found:
    """A session in a list."""

    info: SessionInfo
    run_id: str
    """The latest run."""
    at: datetime
    """What it is sorted by."""
    path: str = ""
    """Its place in the index of the archive, if only that has it."""


@dataclass(frozen=True)
class OrderedSessions:
    """One page."""

    data: Sequence[Found]
    next_page: str | None
    prev_page: str | None


@dataclass(frozen=True)
class _Cursor:
    order: Order
    way: Way
    path: str
    at: datetime
    id: str

    def __str__(self) -> str:
        micros = (self.at - _BEGINNING) // timedelta(microseconds=1)
        text = f"{self.order} {self.way} {micros} {self.id} {self.path}"
        return urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def of(cls, text: str, order: Order) -> "_Cursor":
        try:
            told, way, micros, id, path = (
                urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().split(" ", maxsplit=4)
            )
            at = _BEGINNING + timedelta(microseconds=int(micros))
        except (ValueError, OverflowError):
            raise _no_cursor(text) from None
        if told not in ("asc", "desc") or way not in ("next", "prev"):
            raise _no_cursor(text)
        if told != order:
            raise InvalidRequestError(f"page is a cursor of a list in order {told!r}, not {order!r}", param="page")
        return cls(order, "next" if way == "next" else "prev", path, at, id)


class Ordering:
    """Reads lists of sessions in order."""

    def __init__(self, client: Client, archived: ArchivedSessions | None) -> None:
        self._client = client
        self._archived = archived

    async def page(self, wanted: SessionFilter, *, order: Order, limit: int, cursor: str | None) -> OrderedSessions:
        """One page of sessions.

        Raises:
            InvalidRequestError: The limit or the cursor is none, or the cursor is of a list in another order.
        """
        check_limit(limit)
        place = _Cursor.of(cursor, order) if cursor else None
        newest_first = (order == "desc") is (place is None or place.way == "next")
        with translated(self._client.service_client.config.target_host):
            found = await self._walk(wanted, place, newest_first=newest_first, number=limit + 1)
        more, found = len(found) > limit, found[:limit]
        if place is not None and place.way == "prev":
            found.reverse()
            back, forth = more, True
        else:
            back, forth = place is not None, more

        def at(way: Way, each: Found) -> str:
            return str(_Cursor(order, way, each.path, each.at, each.info.id))

        return OrderedSessions(
            found,
            next_page=at("next", found[-1]) if found and forth else None,
            prev_page=at("prev", found[0]) if found and back else None,
        )

    async def _walk(
        self, wanted: SessionFilter, place: _Cursor | None, *, newest_first: bool, number: int
    ) -> list[Found]:
        """The next sessions from a place, without the one at it."""
        path = place.path if place is not None else ""
        if newest_first:
            found = [] if path else await self._server(wanted, place, newest_first=True, number=number)
            return [*found, *await self._archive(wanted, path, backwards=False, number=number - len(found))]
        if place is not None and not path:
            return await self._server(wanted, place, newest_first=False, number=number)
        found = await self._archive(wanted, path, backwards=True, number=number)
        return [*found, *await self._server(wanted, None, newest_first=False, number=number - len(found))]

    async def _archive(self, wanted: SessionFilter, path: str, *, backwards: bool, number: int) -> list[Found]:
        if self._archived is None or number <= 0:
            return []
        entries = await self._archived.walk(wanted, after=path, backwards=backwards, number=number)
        return [Found(each.info, each.run_id, each.info.created_at, path) for path, each in entries]

    # --- the server ------------------------------------------------------------------------------------------------

    async def _server(
        self, wanted: SessionFilter, place: _Cursor | None, *, newest_first: bool, number: int
    ) -> list[Found]:
        if number <= 0:
            return []
        near = place.at if place is not None else None
        far = await self._far_end(wanted, near, newest_first=newest_first, number=number + 1)
        infos, page = [], None
        while True:
            query = _query(wanted, near, far, newest_first=newest_first)
            some, page = await list_workflows(self._client, query, limit=_WINDOW, page=page)
            infos += some
            if page is None:
                break
        ordered = sorted(infos, key=_key, reverse=newest_first)
        if place is not None:
            key = (place.at, place.id)
            ordered = [each for each in ordered if (_key(each) < key if newest_first else _key(each) > key)]
        return [
            Found(await session_info(self._client, each), each.execution.run_id, sorted_at(each))
            for each in ordered[:number]
        ]

    async def _far_end(
        self, wanted: SessionFilter, near: datetime | None, *, newest_first: bool, number: int
    ) -> datetime | None:
        """The far end of a window that holds so many sessions, if there are so many; ``None`` takes all."""
        if await self._count(wanted, near, None, newest_first=newest_first) <= _WINDOW:
            return None
        start = near or (datetime.now(UTC) if newest_first else _BEGINNING)
        short, span = timedelta(0), _FIRST_SPAN
        sign = -1 if newest_first else 1
        while await self._count(wanted, near, start + sign * span, newest_first=newest_first) < number:
            short, span = span, span * 8
            if span > _LONGEST_SPAN:
                return None
        for _ in range(_SHRINKS):
            count = await self._count(wanted, near, start + sign * span, newest_first=newest_first)
            if count <= _WINDOW:
                break
            middle = short + (span - short) / 2
            if await self._count(wanted, near, start + sign * middle, newest_first=newest_first) < number:
                short = middle
            else:
                span = middle
        return start + sign * span

    async def _count(
        self, wanted: SessionFilter, near: datetime | None, far: datetime | None, *, newest_first: bool
    ) -> int:
        query = _query(wanted, near, far, newest_first=newest_first)
        request = CountWorkflowExecutionsRequest(namespace=self._client.namespace, query=query)
        return (await self._client.workflow_service.count_workflow_executions(request, retry=True)).count


def _no_cursor(text: str) -> InvalidRequestError:
    return InvalidRequestError(f"page {text!r} is no cursor of ours; use next_page of a list", param="page")


def _query(wanted: SessionFilter, near: datetime | None, far: datetime | None, *, newest_first: bool) -> str:
    window = CreatedRange(gte=far, lte=near) if newest_first else CreatedRange(gte=near, lte=far)
    return " AND ".join([wanted.query(), *window.conditions(CREATED_ATTRIBUTE)])


def _key(info: WorkflowExecutionInfo) -> tuple[datetime, str]:
    return sorted_at(info), info.execution.workflow_id.rpartition("/")[2]
