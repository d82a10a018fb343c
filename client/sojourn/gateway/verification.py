"""API keys as the gateway knows them: asked of Temporal, and remembered for a moment."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from sojourn.client.key import FoundKey
from sojourn.types import InternalError, KeyId, KeyRefusedError
from sojourn.types.key import KeyRecord, KeyToken

_AT_ONCE = timedelta(seconds=3)
"""How long one question may take."""

_RESPITE = timedelta(seconds=1)
"""After a question that got no answer, how long keys that are known are not asked about again."""

_STRANGERS = 32
"""Questions at a time about keys that are not known: whoever makes ids up does not flood the server with them."""


class KeyLookup(Protocol):
    """Where keys are; `sojourn.client.key.KeyStore` is one."""

    async def find(self, key_id: KeyId) -> FoundKey | None:
        """A key by its id, or ``None`` if there is none.

        Raises:
            InternalError: That cannot be found out now.
        """
        ...


@dataclass(frozen=True)
class KeyMemory:
    """How long answers are remembered."""

    known: timedelta = timedelta(seconds=5)
    """A key that exists. So long may a revoked one still open something."""
    unknown: timedelta = timedelta(seconds=1)
    """A key that does not."""
    unreachable: timedelta = timedelta(minutes=1)
    """A key that exists, while the server cannot be asked."""
    size: int = 10_000
    """Keys, and as many that do not exist."""


@dataclass(frozen=True)
class _Answer:
    found: FoundKey | None
    at: float


class KeyCache:
    """Verifies tokens. One question at a time for each key, whatever its token; the secret is compared here.

    For one event loop.
    """

    def __init__(
        self,
        keys: KeyLookup,
        *,
        memory: KeyMemory | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._keys = keys
        self._memory = memory or KeyMemory()
        self._clock = clock
        self._now = now
        self._known: OrderedDict[KeyId, _Answer] = OrderedDict()
        self._unknown: OrderedDict[KeyId, _Answer] = OrderedDict()
        self._asking: dict[KeyId, asyncio.Task[_Answer | InternalError]] = {}
        self._strangers = asyncio.Semaphore(_STRANGERS)
        self._silent_until = float("-inf")

    async def verify(self, token: str) -> KeyRecord:
        """The key that the token opens.

        Raises:
            InternalError: That cannot be found out now.
            KeyRefusedError: It opens none.
        """
        read = KeyToken.read(token)
        found = await self._find(read.key_id)
        if found is None:
            raise KeyRefusedError("unknown")
        return found.check(read, now=self._now())

    async def close(self) -> None:
        """Give up all questions."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _find(self, key_id: KeyId) -> FoundKey | None:
        if (answer := self._remembered(key_id)) is not None:
            return answer.found
        if (task := self._asking.get(key_id)) is None:
            task = self._asking[key_id] = asyncio.create_task(self._ask(key_id))
            task.add_done_callback(lambda _: self._asking.pop(key_id, None))
        # One caller that goes away does not take the answer from the others.
        outcome = await asyncio.shield(task)
        if isinstance(outcome, InternalError):
            if (answer := self._held(key_id)) is None:
                raise outcome
            return answer.found
        return outcome.found

    def _remembered(self, key_id: KeyId) -> _Answer | None:
        """An answer that need not be asked for again."""
        now = self._clock()
        if (answer := self._unknown.get(key_id)) is not None and now - answer.at < self._memory.unknown.total_seconds():
            return answer
        if (answer := self._known.get(key_id)) is not None and now - answer.at < self._memory.known.total_seconds():
            self._known.move_to_end(key_id)
            return answer
        return self._held(key_id) if now < self._silent_until else None

    def _held(self, key_id: KeyId) -> _Answer | None:
        """An answer that is good enough while the server cannot be asked."""
        answer = self._known.get(key_id)
        if answer is None or self._clock() - answer.at >= self._memory.unreachable.total_seconds():
            return None
        return answer

    async def _ask(self, key_id: KeyId) -> _Answer | InternalError:
        """Ask the server. An error is a result, because maybe nobody waits for it any more."""
        known = key_id in self._known
        async with nullcontext() if known else self._strangers:
            try:
                # What the answer says was so when it was asked for, not when it came.
                asked_at = self._clock()
                async with asyncio.timeout(_AT_ONCE.total_seconds()):
                    answer = _Answer(await self._keys.find(key_id), asked_at)
            except (InternalError, TimeoutError):
                self._silent_until = self._clock() + _RESPITE.total_seconds()
                return InternalError("API keys cannot be checked at the moment; try again")
        self._silent_until = float("-inf")
        self._remember(key_id, answer)
        return answer

    def _remember(self, key_id: KeyId, answer: _Answer) -> None:
        kept, other = (self._unknown, self._known) if answer.found is None else (self._known, self._unknown)
        other.pop(key_id, None)
        kept[key_id] = answer
        kept.move_to_end(key_id)
        if len(kept) > self._memory.size:
            kept.popitem(last=False)
