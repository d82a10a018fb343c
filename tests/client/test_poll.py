from dataclasses import dataclass
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.client.poll import SHORT_POLL, SHORT_POLLS_PER_SECOND, PollBudget
from sojourn.types.chain import LONG_POLL


@dataclass(eq=False)
class Reader:
    running: bool = False
    yielded: int = 0

    def yield_poll(self) -> None:
        self.yielded += 1


def test_reader_gets_a_long_poll_while_there_are_any() -> None:
    budget = PollBudget(1)
    one, other = Reader(), Reader()

    assert budget.wait_for(one) == LONG_POLL
    assert budget.wait_for(other) == SHORT_POLL
    assert (budget.held, budget.holds(one), budget.holds(other)) == (1, True, False)


def test_reader_keeps_its_long_poll() -> None:
    budget = PollBudget(1)
    reader = Reader()

    assert [budget.wait_for(reader) for _ in range(3)] == [LONG_POLL] * 3
    assert budget.held == 1


def test_released_long_poll_goes_to_the_next() -> None:
    budget = PollBudget(1)
    one, other = Reader(), Reader()
    budget.wait_for(one)

    budget.release(one)

    assert budget.wait_for(other) == LONG_POLL


def test_release_of_what_is_not_held_changes_nothing() -> None:
    budget = PollBudget(1)
    holder = Reader()
    budget.wait_for(holder)

    budget.release(Reader())

    assert budget.holds(holder)


def test_running_session_takes_the_long_poll_of_an_idle_one() -> None:
    budget = PollBudget(2)
    busy, idle, late = Reader(running=True), Reader(), Reader(running=True)
    for reader in (busy, idle):
        budget.wait_for(reader)

    assert budget.wait_for(late) == LONG_POLL

    assert (busy.yielded, idle.yielded) == (0, 1)
    assert (budget.holds(busy), budget.holds(idle), budget.holds(late)) == (True, False, True)


def test_running_session_does_not_take_from_a_running_one() -> None:
    budget = PollBudget(1)
    holder, late = Reader(running=True), Reader(running=True)
    budget.wait_for(holder)

    assert budget.wait_for(late) == SHORT_POLL
    assert holder.yielded == 0


def test_idle_session_takes_from_nobody() -> None:
    budget = PollBudget(1)
    holder = Reader()
    budget.wait_for(holder)

    assert budget.wait_for(Reader()) == SHORT_POLL
    assert budget.holds(holder)


def test_idle_session_that_has_held_its_poll_longest_gives_way_first() -> None:
    budget = PollBudget(3)
    idle = [Reader(), Reader(), Reader()]
    for reader in idle:
        budget.wait_for(reader)

    budget.wait_for(Reader(running=True))

    assert [reader.yielded for reader in idle] == [1, 0, 0]


def test_budget_of_nothing_gives_short_polls_only() -> None:
    assert PollBudget(0).wait_for(Reader(running=True)) == SHORT_POLL


@given(
    limit=st.integers(min_value=0, max_value=3),
    moves=st.lists(st.tuples(st.integers(min_value=0, max_value=5), st.sampled_from(["poll", "release", "turn"]))),
)
def test_budget_is_never_exceeded_and_running_sessions_come_first(limit: int, moves: list[tuple[int, str]]) -> None:
    budget, readers = PollBudget(limit), [Reader() for _ in range(6)]

    for place, move in moves:
        reader = readers[place]
        if move == "turn":
            reader.running = not reader.running
        elif move == "release":
            budget.release(reader)
        else:
            long = budget.wait_for(reader) == LONG_POLL
            assert long is budget.holds(reader)
            # Whoever is refused a long poll found the budget used up, and by none who needs it less.
            assert long or budget.held == limit
            assert long or not reader.running or all(each.running for each in readers if budget.holds(each))
        assert budget.held == sum(budget.holds(each) for each in readers) <= limit


def test_short_polls_take_turns() -> None:
    budget = PollBudget(0)

    delays = [budget.delay(now=100.0) for _ in range(SHORT_POLLS_PER_SECOND + 1)]

    assert delays[0] == timedelta(0)
    assert delays == sorted(delays)
    assert delays[-1].total_seconds() == pytest.approx(1)


def test_short_poll_after_a_rest_needs_no_turn() -> None:
    budget = PollBudget(0)
    for _ in range(50):
        budget.delay(now=100.0)

    assert budget.delay(now=101.0) == timedelta(0)
