"""How a process that serves is told to stop."""

import asyncio
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta

from sojourn.cli import leave
from sojourn.cli.failure import ExitCode

LAST_WORDS = timedelta(seconds=1.5)
"""For what has been cancelled to say so, and for connections to close."""


@contextmanager
def signals(*, at_most: timedelta | None = None) -> Generator[asyncio.Event, None, None]:
    """An event that Ctrl-C, SIGTERM or a closed terminal sets. A second signal cuts the orderly stop short.

    The process ends with the block: asyncio's own end would wait for tools that hold on to their cancellation.

    Args:
        at_most: Time from the first signal after which the process ends whatever still runs; ``None`` sets no limit.
    """
    stop, task = asyncio.Event(), asyncio.current_task()

    def told() -> None:
        if stop.is_set():
            if at_most is not None:
                leave(ExitCode.INTERRUPTED)
            if task is not None:
                task.cancel()
        elif at_most is not None:
            # A thread, because a tool may block the loop.
            limit = threading.Timer(at_most.total_seconds(), leave, (ExitCode.OK,))
            limit.daemon = True
            limit.start()
        stop.set()

    # Windows has no such handlers; there Ctrl-C cancels the task at once.
    if sys.platform != "win32":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, told)
    try:
        yield stop
    except asyncio.CancelledError:
        leave(ExitCode.INTERRUPTED)
    leave(ExitCode.OK)
