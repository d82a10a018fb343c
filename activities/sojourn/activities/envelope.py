"""What an activity may hand back: a result that can be written, fits, and can be read again.

Temporal would try a result that it cannot write or that is too large again and again, and a workflow that cannot read
one fails its task for ever. So an activity seals its result while it can still do something about it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError
from temporalio import activity
from temporalio.client import Client

from sojourn.types.error import StoreUnavailableError
from sojourn.types.payload import THRESHOLD_BYTES, driver_of, inline, limit_bytes

R = TypeVar("R", bound=BaseModel)
T = TypeVar("T")

_ROOM_BYTES = 64 * 1024
"""Kept free below the server's limit, for what else stands in the same history event."""

_PATIENCE = timedelta(seconds=8)
"""How long a tool call waits for the store; less than the grace between a tool's limit and the activity's."""


class UnfitError(Exception):
    """A result cannot be handed back. The text says why, in words for a model or a person."""

    def __init__(self, text: str, *, size_bytes: int | None = None) -> None:
        super().__init__(text)
        self.size_bytes = size_bytes
        """How large it is, if that is why."""


class Envelope:
    """Seals results.

    Args:
        client: The worker's; its store decides what fits.
    """

    def __init__(self, client: Client) -> None:
        self.limit_bytes = limit_bytes(client) - _ROOM_BYTES
        self._converter = inline(client)
        self._driver = driver_of(client)

    async def seal(self, result: R) -> R:
        """Make sure that a result will be stored and read; a large one is uploaded here, while the activity beats.

        Returns:
            The result as everybody will read it: JSON has no NaN, for one.

        Raises:
            StoreUnavailableError: The store cannot be reached or refuses.
            UnfitError: It is too large, or cannot be written as JSON or read again.
        """
        try:
            (payload,) = await self._converter.encode([result])
            size = payload.ByteSize()
            if size > self.limit_bytes:
                raise UnfitError(f"{size:,} bytes; the limit is {self.limit_bytes:,}", size_bytes=size)
            read: R = (await self._converter.decode([payload], [type(result)]))[0]
        except (PydanticSerializationError, UnicodeEncodeError) as error:
            raise UnfitError(f"it cannot be written as JSON: {_line(error)}") from None
        except ValidationError as error:
            raise UnfitError(f"it cannot be read again: {_line(error.errors()[0]['msg'])}") from None
        if self._driver is not None and size >= THRESHOLD_BYTES:
            await self._driver.upload(activity.info().workflow_id or "", payload)
        return read


async def patiently(attempt: Callable[[], Awaitable[T]]) -> T:
    """Try until the store is there, for what must not be given up because it is away for a moment.

    Raises:
        StoreUnavailableError: It stayed away.
    """
    loop = asyncio.get_running_loop()
    end, pause = loop.time() + _PATIENCE.total_seconds(), 0.1
    while True:
        try:
            return await attempt()
        except StoreUnavailableError:
            if loop.time() + pause > end:
                raise
        await asyncio.sleep(pause)
        pause *= 2


def _line(error: object) -> str:
    return " ".join(str(error).split())[:300]


def whole(text: str) -> str:
    """The text as valid Unicode: halves of a surrogate pair that met are joined, others replaced.

    Providers that stream JSON escapes cut emojis in two.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
