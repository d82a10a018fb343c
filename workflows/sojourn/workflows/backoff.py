"""How long to wait before a model step is tried again. Plain arithmetic, no Temporal."""

from datetime import timedelta

from sojourn.types.failure import ModelFailure

LONGEST = timedelta(minutes=1)


def retry_delay(failure: ModelFailure, *, attempt: int, first: timedelta) -> timedelta:
    """The provider's own wish if it has one, else an interval that doubles up to a minute.

    Args:
        failure: What went wrong.
        attempt: The attempt that failed, from 1.
        first: The wait after the first attempt.
    """
    if failure.retry_after is not None:
        return failure.retry_after
    return min(first * int(2 ** min(attempt - 1, 16)), LONGEST)
