from datetime import timedelta

import pytest

from sojourn.types.failure import ModelFailure
from sojourn.workflows.backoff import LONGEST, retry_delay

FAILURE = ModelFailure(kind="retryable", message="overloaded")


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (8, 60), (100, 60)])
def test_wait_doubles_up_to_a_minute(attempt: int, seconds: int) -> None:
    assert retry_delay(FAILURE, attempt=attempt, first=timedelta(seconds=1)) == timedelta(seconds=seconds)


def test_wait_starts_with_the_interval_of_the_agent() -> None:
    assert retry_delay(FAILURE, attempt=2, first=timedelta(milliseconds=10)) == timedelta(milliseconds=20)


def test_interval_over_a_minute_is_a_minute() -> None:
    assert retry_delay(FAILURE, attempt=1, first=timedelta(hours=1)) == LONGEST


@pytest.mark.parametrize("wish", [timedelta(0), timedelta(seconds=7), timedelta(minutes=5)])
def test_wish_of_the_provider_wins(wish: timedelta) -> None:
    limited = ModelFailure(kind="rate_limited", message="slow down", retry_after=wish)

    assert retry_delay(limited, attempt=4, first=timedelta(seconds=1)) == wish
