from itertools import product

import pytest

from sojourn.types.session import SessionStatus
from sojourn.workflows.transition import may_move, refusal

LEGAL = {
    "queued": "running idle completed failed archived",
    "running": "running idle rescheduling paused completed failed archived",
    "idle": "idle running paused completed failed archived",
    "rescheduling": "running idle completed failed archived",
    "paused": "running idle completed failed archived",
    "completed": "",
    "failed": "",
    "archived": "",
}
MOVES = list(product(SessionStatus, SessionStatus))


def test_table_knows_every_status() -> None:
    assert set(LEGAL) == {status.value for status in SessionStatus}


@pytest.mark.parametrize(("source", "target"), MOVES, ids=lambda status: status.value)
def test_move_is_legal_as_the_table_says(source: SessionStatus, target: SessionStatus) -> None:
    assert may_move(source, target) is (target.value in LEGAL[source.value].split())


@pytest.mark.parametrize("source", [status for status in SessionStatus if status.is_terminal])
def test_refusal_of_a_closed_session_leads_to_a_new_one(source: SessionStatus) -> None:
    assert refusal(source, SessionStatus.RUNNING) == f"session is {source.value}; start a new one"


def test_refusal_names_what_may_be_done_instead() -> None:
    text = refusal(SessionStatus.QUEUED, SessionStatus.PAUSED)

    assert text == "session is queued and cannot become paused; from here it can become idle, running"
