"""The task queue that one worker process alone serves, for what only it can do."""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.worker import Worker


class OwnQueue:
    """Serves activities on a queue of this process, from when somebody first asks for its name.

    Args:
        client: The worker's.
        task_queue: The queue that all workers share; the name is made of it.
        activities: What is served; asked for when serving begins.
        grace: How long running activities may go on after a stop.
    """

    def __init__(
        self,
        client: Client,
        *,
        task_queue: str,
        activities: Callable[[], Sequence[Callable[..., Any]]],
        grace: timedelta,
    ) -> None:
        self._name = f"{task_queue}-{uuid.uuid4().hex[:12]}"
        self._client = client
        self._activities = activities
        self._grace = grace
        self._lock = asyncio.Lock()
        self._worker: Worker | None = None

    async def name(self) -> str:
        """The name of the queue, which is served now."""
        async with self._lock:
            if self._worker is None:
                self._worker = Worker(
                    self._client,
                    task_queue=self._name,
                    activities=self._activities(),
                    graceful_shutdown_timeout=self._grace,
                    # Cancellations and previews travel with heartbeats.
                    max_heartbeat_throttle_interval=timedelta(milliseconds=100),
                    default_heartbeat_throttle_interval=timedelta(milliseconds=100),
                )
                await self._worker.__aenter__()
        return self._name

    async def close(self) -> None:
        """Serve no more."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.__aexit__(None, None, None)
