"""Lists of agents and sessions, from Temporal's visibility store. A second behind the truth at worst."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import ListWorkflowExecutionsRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey

from sojourn.types.error import InvalidRequestError

T = TypeVar("T")

MAX_LIMIT = 1000


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page of a list."""

    data: Sequence[T]
    next_page: str | None
    """Cursor of the next page; ``None`` at the end."""
    prev_page: str | None = None
    """Cursor of the page before, where a list can be read backwards; ``None`` at the beginning."""


def condition(filters: Mapping[SearchAttributeKey[str] | str, str | Sequence[str] | None]) -> str:
    """A visibility query that wants every given attribute to be one of its values; ``None`` leaves it open."""
    parts = []
    for key, wanted in filters.items():
        if wanted is None:
            continue
        values = [wanted] if isinstance(wanted, str) else list(wanted)
        name = key if isinstance(key, str) else key.name
        parts.append(f"{name} IN ({', '.join(map(quote, values))})")
    return " AND ".join(parts)


@dataclass(frozen=True)
class CreatedRange:
    """When the things in a list were created; ``None`` leaves an end open."""

    gt: datetime | None = None
    gte: datetime | None = None
    lt: datetime | None = None
    lte: datetime | None = None

    def conditions(self, key: SearchAttributeKey[datetime]) -> list[str]:
        """Parts of a visibility query. What an earlier release started is known by the start of its latest run.

        The attribute holds whole milliseconds, and is compared with the middle between two of them: SQLite compares
        times as texts, in which ``.370`` is not ``.37``.
        """
        signs = ((">", self.gt), (">=", self.gte), ("<", self.lt), ("<=", self.lte))
        return [
            f"({key.name} {sign[0]} {quote(timestamp(_middle(sign, at)))}"
            f" OR ({key.name} IS NULL AND StartTime {sign} {quote(timestamp(at))}))"
            for sign, at in signs
            if at is not None
        ]

    def admits(self, at: datetime) -> bool:
        """The same for one time."""
        return (
            (self.gt is None or at > self.gt)
            and (self.gte is None or at >= self.gte)
            and (self.lt is None or at < self.lt)
            and (self.lte is None or at <= self.lte)
        )


ALWAYS = CreatedRange()

_MILLISECOND = timedelta(milliseconds=1)


def _middle(sign: str, at: datetime) -> datetime:
    """The middle between the milliseconds that a comparison with this time parts."""
    after = timedelta(microseconds=at.microsecond % 1000)
    if sign in (">", "<="):
        return at - after + _MILLISECOND / 2
    return at + (_MILLISECOND - after if after else timedelta(0)) - _MILLISECOND / 2


def timestamp(at: datetime) -> str:
    """A time as the query language takes it."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def quote(value: str) -> str:
    """A string literal of the query language.

    Raises:
        InvalidRequestError: It has a character that no database takes.
    """
    if "\0" in value:
        raise InvalidRequestError(f"{value[:40]!r} holds a NUL character; leave it out")
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def check_limit(limit: int) -> None:
    """How many entries a page may have.

    Raises:
        InvalidRequestError: Not so many.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequestError(f"limit is {limit}; it can be 1 to {MAX_LIMIT}", param="limit")


async def list_workflows(
    client: Client, query: str, *, limit: int, page: str | None
) -> tuple[list[WorkflowExecutionInfo], str | None]:
    """One page of workflows and the cursor of the next.

    Uses the service itself: the SDK's own listing cannot read workflows that an operator has paused (temporal.md §1).

    Raises:
        InvalidRequestError: The limit or the cursor is none.
        RPCError: As the server says.
    """
    check_limit(limit)
    try:
        token = bytes.fromhex(page or "")
    except ValueError:
        raise InvalidRequestError(
            f"page {page!r} is no cursor of ours; use next_page of a list", param="page"
        ) from None
    request = ListWorkflowExecutionsRequest(
        namespace=client.namespace, page_size=limit, next_page_token=token, query=query
    )
    found = await client.workflow_service.list_workflow_executions(request, retry=True)
    return list(found.executions), found.next_page_token.hex() or None
