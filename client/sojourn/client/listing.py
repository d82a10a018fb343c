"""Lists of agents and sessions, from Temporal's visibility store. A second behind the truth at worst."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import ListWorkflowExecutionsRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey
from temporalio.converter import decode_typed_search_attributes

from sojourn.types.error import InvalidRequestError

T = TypeVar("T")

MAX_LIMIT = 1000


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page of a list, newest first."""

    data: Sequence[T]
    next_page: str | None
    """Cursor of the next page; ``None`` at the end."""


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


def quote(value: str) -> str:
    """A string literal of the query language."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


async def list_workflows(
    client: Client, query: str, *, limit: int, page: str | None
) -> tuple[list[WorkflowExecutionInfo], str | None]:
    """One page of workflows and the cursor of the next.

    Uses the service itself: the SDK's own listing cannot read workflows that an operator has paused (temporal.md §1).

    Raises:
        InvalidRequestError: The limit or the cursor is none.
        RPCError: As the server says.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequestError(f"limit is {limit}; it can be 1 to {MAX_LIMIT}", param="limit")
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


def attribute(info: WorkflowExecutionInfo, key: SearchAttributeKey[str]) -> str | None:
    """The value of a search attribute."""
    return decode_typed_search_attributes(info.search_attributes).get(key)


async def memo(client: Client, info: WorkflowExecutionInfo, key: str, kind: type[T]) -> T | None:
    """The value of a memo field, or ``None`` if it is not set."""
    fields = info.memo.fields
    if key not in fields:
        return None
    optional: Any = kind | None
    value: T | None = (await client.data_converter.decode([fields[key]], [optional]))[0]
    return value


def started_at(info: WorkflowExecutionInfo) -> datetime:
    """When the run began."""
    return info.start_time.ToDatetime(tzinfo=UTC)


def closed_at(info: WorkflowExecutionInfo) -> datetime | None:
    """When the run ended, or ``None`` if it goes on."""
    return info.close_time.ToDatetime(tzinfo=UTC) if info.HasField("close_time") else None


def is_open(info: WorkflowExecutionInfo) -> bool:
    """Whether the run goes on; one paused by an operator does."""
    closed = (
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED,
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_FAILED,
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CANCELED,
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TERMINATED,
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TIMED_OUT,
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW,
    )
    return info.status not in closed
