"""Timeouts and retries of the activities (temporal.md §4.6)."""

from datetime import timedelta

from temporalio.common import RetryPolicy

HEARTBEAT_TIMEOUT = timedelta(seconds=2.5)
"""A worker that died is noticed after this; activities beat from a task of their own, several times a second."""

MODEL_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=100), maximum_interval=timedelta(seconds=5), maximum_attempts=5
)
"""For lost workers only: what the model's provider answers is never retried by the server but by the turn, visibly."""

REPEATED_TOOL = RetryPolicy(
    initial_interval=timedelta(milliseconds=100), maximum_interval=timedelta(seconds=5), maximum_attempts=30
)
"""An idempotent tool is run again when its worker was lost; it gets the same key each time.

Minutes of crashing workers are outlasted; a call that itself brings down every worker is given up in the end.
"""

ONCE = RetryPolicy(maximum_attempts=1)
"""Any other tool is attempted once; a lost attempt becomes the result "outcome unknown"."""

LIST_TOOLS_TIMEOUT = timedelta(seconds=60)
"""Of one attempt, which asks all servers at the same time; the worker itself gives up on one after less."""

LIST_TOOLS = RetryPolicy(
    initial_interval=timedelta(milliseconds=100), maximum_interval=timedelta(seconds=5), maximum_attempts=5
)
"""For lost workers only: what a server answers is a result."""

ABANDON_TIMEOUT = timedelta(seconds=20)

OPEN_WORKSPACE_TIMEOUT = timedelta(minutes=15)
"""Of one attempt. It may restore gigabytes, clone repositories and install packages."""

OPEN_WORKSPACE = RetryPolicy(
    initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=5), maximum_attempts=5
)
"""Repeated when its worker was lost or the store is away; what a sandbox refuses is not."""

CHECKPOINT_TIMEOUT = timedelta(minutes=15)

CHECKPOINT = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=3)

LAST_STORE = timedelta(seconds=5)
"""How long the end of a session waits for its workspace to be stored, because its outputs become files then. Whoever
archives it waits for that, ten seconds at most."""
