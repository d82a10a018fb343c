"""What this process remembers of recent requests. Hints only: other processes have a memory of their own."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar
from uuid import UUID

T = TypeVar("T")
V = TypeVar("V")

_CAPACITY = 10_000


class Remembered(Generic[V]):
    """The newest values by key."""

    def __init__(self) -> None:
        self._values: OrderedDict[UUID, V] = OrderedDict()

    def get(self, key: UUID) -> V | None:
        return self._values.get(key)

    def put(self, key: UUID, value: V) -> None:
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > _CAPACITY:
            self._values.popitem(last=False)


class RecentRequests:
    """One process's memory."""

    def __init__(self) -> None:
        self.rows: Remembered[int] = Remembered()
        """How many ids of a row have been seen taken (`sojourn.gateway.idempotency`)."""
        self.keys: Remembered[str] = Remembered()
        """For which body an `Idempotency-Key` was used."""
        self._flights: dict[UUID, set[asyncio.Future[None]]] = {}

    async def fly(self, key: UUID, run: Callable[[], Awaitable[T]]) -> T:
        """Do it, and let others wait for it meanwhile."""
        flight: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._flights.setdefault(key, set()).add(flight)
        try:
            return await run()
        finally:
            flight.set_result(None)
            self._flights[key].discard(flight)
            if not self._flights[key]:
                del self._flights[key]

    async def landed(self, key: UUID) -> None:
        """Wait for all with this key that are under way."""
        while flights := self._flights.get(key):
            await asyncio.wait(set(flights))

    async def fly_alone(self, key: UUID, run: Callable[[], Awaitable[T]]) -> T:
        """Do it once all others with this key have landed, and let later ones wait."""
        await self.landed(key)
        return await self.fly(key, run)
