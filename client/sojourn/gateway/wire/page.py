"""Pages of lists."""

from typing import Generic, TypeVar

from sojourn.types.wire import Wire

T = TypeVar("T")


class ListPage(Wire, Generic[T]):
    """One page (Managed Agents API §4.2)."""

    data: tuple[T, ...]
    next_page: str | None = None
