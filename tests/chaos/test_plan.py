from collections import Counter
from itertools import islice

from tests.chaos.plan import Mix, SessionPlan, blows, every_point, points, session
from tests.chaos.shell import SHELL

PLACES = range(40)


def _keys(plan: SessionPlan) -> list[str]:
    orders = [move.order for move in plan.moves if move.order is not None]
    return [call.key for order in orders for step in order.steps for call in step if call.tool == SHELL]


def test_a_seed_gives_the_same_plan_again() -> None:
    sessions = [session(7, place, shell=0.35) for place in PLACES]

    assert sessions == [session(7, place, shell=0.35) for place in PLACES]
    assert sessions != [session(8, place, shell=0.35) for place in PLACES]
    for plan in (blows, every_point):
        once, again = (list(islice(plan(7, Mix(), shell=True), 300)) for _ in range(2))
        assert once == again


def test_sessions_with_the_shell_use_it_and_read_the_ledger_back() -> None:
    sessions = [session(7, place, shell=0.35) for place in PLACES]
    with_shell = [plan for plan in sessions if plan.shell]

    keys = Counter(key for plan in with_shell for key in _keys(plan))
    assert keys.most_common(1)[0][1] == 1
    assert all(any(move.order and move.order.reads for move in plan.moves) for plan in with_shell)
    assert not any(_keys(plan) for plan in sessions if not plan.shell)


def test_without_a_sandbox_there_is_no_shell() -> None:
    sessions = [session(7, place, shell=0) for place in PLACES]

    assert not any(plan.shell or _keys(plan) for plan in sessions)
    assert not [point for point in points(shell=False) if point.startswith(("shell.", "open.", "store."))]
