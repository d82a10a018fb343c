"""Heartbeats of a running activity, from a task of their own."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Self

from temporalio import activity

BEAT = timedelta(milliseconds=250)
"""Longest time between two beats: how late a cancellation is noticed on a server without worker commands."""

PREVIEW_BEAT = timedelta(milliseconds=100)
"""Shortest time between two beats that carry something new to preview."""


class Pulse:
    """Beats while the block runs. What there is to preview rides along.

    Args:
        details: Makes the heartbeat's details, or ``None`` if there is nothing new since the last beat.
    """

    def __init__(self, details: Callable[[], object | None]) -> None:
        self._details = details
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._beat())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _beat(self) -> None:
        last: object | None = None
        silent = timedelta(0)
        while True:
            await asyncio.sleep(PREVIEW_BEAT.total_seconds())
            silent += PREVIEW_BEAT
            fresh = self._details()
            if fresh is not None or silent >= BEAT:
                last, silent = fresh if fresh is not None else last, timedelta(0)
                # The last details go along with every beat, because the server keeps only the newest.
                activity.heartbeat(*([last] if last is not None else []))
