"""Which workers of self-hosted environments this gateway has heard lately."""

import time

_LATELY = 30.0
"""Seconds (Managed Agents API §1.2)."""

_MANY = 10_000


class Pollers:
    """Remembers polls for half a minute. Each gateway knows its own only."""

    def __init__(self) -> None:
        self._heard: dict[tuple[str, str], float] = {}

    def heard(self, environment_id: str, worker_id: str) -> None:
        """A worker has polled; one without an id cannot be counted."""
        if worker_id:
            self._forget()
            self._heard[environment_id, worker_id[:256]] = time.monotonic()

    def count(self, environment_id: str) -> int:
        """How many have polled an environment's queue."""
        self._forget()
        return sum(known == environment_id for known, _ in self._heard)

    def _forget(self) -> None:
        if len(self._heard) > _MANY:
            self._heard.clear()
        since = time.monotonic() - _LATELY
        for key in [key for key, at in self._heard.items() if at < since]:
            del self._heard[key]
