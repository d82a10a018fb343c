import pytest

from sojourn.gateway.error import GatewayError
from sojourn.gateway.limit import RateLimiter, RateLimits


class Clock:
    time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


def limiter(clock: Clock, *, write: int | None = 60, read: int | None = 120) -> RateLimiter:
    return RateLimiter(RateLimits(write_per_minute=write, read_per_minute=read), clock=clock)


def refused(limits: RateLimiter, key_id: str = "key_1", *, reads: bool = False) -> GatewayError:
    with pytest.raises(GatewayError) as error:
        limits.check(key_id, reads=reads)
    return error.value


def taken(limits: RateLimiter, key_id: str = "key_1", *, reads: bool = False) -> int:
    """How many requests are let through at once."""
    for number in range(10_000):
        try:
            limits.check(key_id, reads=reads)
        except GatewayError:
            return number
    raise AssertionError("no limit")


def test_the_limits_are_those_of_the_contract() -> None:
    assert RateLimits() == RateLimits(write_per_minute=300, read_per_minute=1200)


def test_as_many_as_a_minute_allows_may_come_at_once(clock: Clock) -> None:
    limits = limiter(clock)

    assert taken(limits) == 60
    assert taken(limits, reads=True) == 120
    assert taken(limits, "key_2") == 60


def test_who_waits_as_told_is_let_through(clock: Clock) -> None:
    limits = limiter(clock, write=7)
    taken(limits)
    for _ in range(20):
        error = refused(limits)
        clock.time += int(error.headers["retry-after-ms"]) / 1000
        limits.check("key_1", reads=False)

    clock.time += int(refused(limits).headers["retry-after"])
    limits.check("key_1", reads=False)


def test_the_wait_is_told_in_whole_seconds_rounded_up(clock: Clock) -> None:
    limits = limiter(clock)
    taken(limits)

    error = refused(limits)

    assert error.status == 429
    assert 1000 <= int(error.headers["retry-after-ms"]) <= 1002
    assert error.headers["retry-after"] == "2"
    clock.time += 0.5
    assert refused(limits).headers["retry-after"] == "1"


def test_a_minute_later_all_are_let_through_again_and_no_more(clock: Clock) -> None:
    limits = limiter(clock)
    taken(limits)
    clock.time += 3600

    assert taken(limits) == 60


def test_refused_requests_do_not_count(clock: Clock) -> None:
    limits = limiter(clock)
    taken(limits)
    for _ in range(100):
        refused(limits)
    clock.time += 1.001

    limits.check("key_1", reads=False)


def test_no_limit_counts_nothing(clock: Clock) -> None:
    limits = limiter(clock, write=None, read=None)
    for _ in range(5000):
        limits.check("key_1", reads=False)

    assert len(limits) == 0


def test_keys_that_are_idle_are_forgotten(clock: Clock) -> None:
    limits = limiter(clock)
    for number in range(1000):
        limits.check(f"key_{number}", reads=True)
    clock.time += 59
    limits.check("busy", reads=True)
    assert len(limits) == 1001

    clock.time += 2
    limits.check("busy", reads=True)

    assert len(limits) == 1


def test_a_clock_that_stands_still_gives_nothing(clock: Clock) -> None:
    limits = limiter(clock, write=1)

    assert taken(limits) == 1
    assert taken(limits) == 0
