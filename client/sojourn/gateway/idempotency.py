"""Creating things once, though the request comes twice, and without a database.

The id of what is made is derived from the request, so that Temporal itself refuses the second one (Managed Agents API
§4.4). With the header `Idempotency-Key` the id comes from the key. Without it, a first attempt takes the next free one
of a row of ids that all equal requests of ten minutes share; an SDK's retry (`x-stainless-retry-count`) takes what the
last of that row holds. So equal requests make things of their own, and a retry makes none.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid5

from sojourn.gateway.endpoint import Call
from sojourn.gateway.error import GatewayError
from sojourn.types import ConflictError, NotFoundError

T = TypeVar("T")

_NAMESPACE = UUID("5a6f6a6f-7572-5e00-8000-6964656d706f")

BUCKET_SECONDS = 600
"""As long as the SDKs wait for an answer: a retry comes within this or the next stretch of time."""


@dataclass(frozen=True)
class Creation(Generic[T]):
    """How one kind of thing is made and found.

    Attributes:
        prefix: Of its ids, such as ``agent_``.
        make: Makes it under an id; raises ``taken`` if there is one.
        find: Finds it; raises `NotFoundError` if there is none.
        taken: What ``make`` raises.
        same: Whether what was found is what the request asks for, as far as that can be told.
    """

    prefix: str
    make: Callable[[str], Awaitable[T]]
    find: Callable[[str], Awaitable[T]]
    taken: type[ConflictError]
    same: Callable[[T], bool] = lambda found: True


async def create_once(call: Call[Any, Any], creation: Creation[T]) -> T:
    """Make a thing, or find the one that this request has made before.

    Raises:
        GatewayError: The `Idempotency-Key` is no key, or was used for something else.
    """
    if (key := explicit_key(call)) is not None:
        return await _keyed(call, creation, key)
    row = _Row(call, creation)
    if attempt(call) == 0:
        return await row.next()
    return await row.last()


def explicit_key(call: Call[Any, Any]) -> str | None:
    """The `Idempotency-Key`, if there is one.

    Raises:
        GatewayError: It is no key.
    """
    key = call.request.headers.get("idempotency-key")
    if key is not None and not (0 < len(key) <= 255 and key.isascii() and key.isprintable()):
        raise GatewayError(400, "Idempotency-Key: up to 255 printable characters")
    return key


def attempt(call: Call[Any, Any]) -> int:
    """How often the client has tried this before."""
    text = call.request.headers.get("x-stainless-retry-count", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 5 else 0


def derived(call: Call[Any, Any], *parts: str) -> UUID:
    """A name for something of this caller at this path."""
    scope = (call.principal.workspace, call.principal.user, call.request.url.path)
    # Lengths, because a key may hold any separator.
    return uuid5(_NAMESPACE, "".join(f"{len(part)}:{part}" for part in (*scope, *parts)))


async def _keyed(call: Call[Any, Any], creation: Creation[T], key: str) -> T:
    id = creation.prefix + derived(call, "key", key).hex
    try:
        return await creation.make(id)
    except creation.taken:
        found = await creation.find(id)
    if not creation.same(found):
        raise GatewayError(400, f"Idempotency-Key {key!r} was used for another request; use a new one")
    return found


class _Row(Generic[T]):
    """The ids that equal requests of one stretch of time take, one after the other."""

    def __init__(self, call: Call[Any, Any], creation: Creation[T], *, back: int = 0) -> None:
        self._call = call
        self._creation = creation
        self._recent = call.gateway.recent
        bucket = int(time.time() // BUCKET_SECONDS) - back
        self._request = derived(call, "create", call.principal.key_id, call.body_digest)
        self._base = uuid5(self._request, str(bucket))

    async def next(self) -> T:
        """Make the thing under the first id that is free."""
        return await self._recent.fly(self._request, self._make_next)

    async def _make_next(self) -> T:
        number = self._recent.rows.get(self._base) or 0
        while True:
            try:
                made = await self._creation.make(self._id(number))
            except self._creation.taken:
                # Who took it may be this request's own retry, if its client has not waited for the answer.
                if await self._call.request.is_disconnected():
                    raise GatewayError(400, "the client has gone; nothing was made") from None
                number = await self._free(number + 1)
            else:
                self._note(number + 1)
                return made

    async def last(self) -> T:
        """What the last taken id of this row or the row before holds; makes the thing if there is none."""
        await self._recent.landed(self._request)
        for row in (self, _Row(self._call, self._creation, back=1)):
            if (number := await row._free(0)) > 0:
                return await self._creation.find(row._id(number - 1))
        try:
            return await self._creation.make(self._id(0))
        except self._creation.taken:
            return await self._creation.find(self._id(0))

    async def _free(self, number: int) -> int:
        """The first id from ``number`` on that is free, found in steps that double."""
        low, step = max(number, self._recent.rows.get(self._base) or 0), 1
        while await self._is_taken(low + step - 1):
            low, step = low + step, step * 2
        high = low + step - 1
        while low < high:
            middle = (low + high) // 2
            if await self._is_taken(middle):
                low = middle + 1
            else:
                high = middle
        self._note(low)
        return low

    async def _is_taken(self, number: int) -> bool:
        try:
            await self._creation.find(self._id(number))
        except NotFoundError:
            return False
        return True

    def _id(self, number: int) -> str:
        return self._creation.prefix + uuid5(self._base, str(number)).hex

    def _note(self, number: int) -> None:
        self._recent.rows.put(self._base, max(number, self._recent.rows.get(self._base) or 0))
