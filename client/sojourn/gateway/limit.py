"""How many requests a key may make: a token bucket for reading and one for the rest."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from sojourn.gateway.error import GatewayError

_MINUTE = 60.0


@dataclass(frozen=True)
class RateLimits:
    """Requests a minute for each key and process; as many may come at once. ``None`` sets no limit."""

    write_per_minute: int | None = 300
    """Managed Agents API §4.5."""
    read_per_minute: int | None = 1200


@dataclass
class _Bucket:
    tokens: float
    at: float


class RateLimiter:
    """Counts requests. What it remembers of a key is gone two minutes after its last request."""

    def __init__(self, limits: RateLimits | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits or RateLimits()
        self._clock = clock
        self._buckets: dict[tuple[str, bool], _Bucket] = {}
        self._swept_at = clock()

    def check(self, key_id: str, *, reads: bool) -> None:
        """Count a request.

        Args:
            key_id: Whose.
            reads: Whether it changes nothing.

        Raises:
            GatewayError: 429, with the time after which one more will be let through.
        """
        limit = self.limits.read_per_minute if reads else self.limits.write_per_minute
        if limit is None:
            return
        now = self._clock()
        self._sweep(now)
        bucket = self._buckets.setdefault((key_id, reads), _Bucket(limit, now))
        bucket.tokens = min(limit, bucket.tokens + (now - bucket.at) * limit / _MINUTE)
        bucket.at = now
        if bucket.tokens < 1:
            raise _refused(limit, (1 - bucket.tokens) * _MINUTE / limit, reads=reads)
        bucket.tokens -= 1

    def __len__(self) -> int:
        """How many buckets there are."""
        return len(self._buckets)

    def _sweep(self, now: float) -> None:
        """Drop buckets that have filled up: a new one would be the same."""
        if now - self._swept_at >= _MINUTE:
            self._swept_at = now
            self._buckets = {key: each for key, each in self._buckets.items() if now - each.at < _MINUTE}


def _refused(limit: int, wait_seconds: float, *, reads: bool) -> GatewayError:
    what = "reads" if reads else "changes"
    # A little more than needed, so that who waits exactly so long is not refused again by a rounding.
    wait_ms = math.ceil(wait_seconds * 1000) + 1
    return GatewayError(
        429,
        f"over {limit} {what} a minute with this key; wait {wait_ms / 1000:.1f} s",
        headers={"retry-after": str(math.ceil(wait_ms / 1000)), "retry-after-ms": str(wait_ms)},
    )
