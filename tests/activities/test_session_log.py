from datetime import timedelta
from typing import cast

from temporalio.client import Client

from sojourn.activities.session_log import SessionLogs, _read_on
from sojourn.types.chain import ChainReader
from sojourn.types.history import Stored

NOBODY = cast(Client, None)
"""Nothing is read before a log is asked for something."""


def test_log_of_a_session_is_kept() -> None:
    logs = SessionLogs(NOBODY)

    assert logs.get("acme/a") is logs.get("acme/a")
    assert logs.get("acme/a") is not logs.get("acme/b")


def test_log_unused_for_the_longest_time_is_dropped_first() -> None:
    logs = SessionLogs(NOBODY, capacity=2)
    a, b = logs.get("a"), logs.get("b")
    assert logs.get("a") is a

    logs.get("c")

    assert logs.get("a") is a
    assert logs.get("b") is not b


class BusyReader(ChainReader):
    """Reads from a server that does not answer in time at first."""

    def __init__(self, *, late: int) -> None:
        self.ended = False
        self.late = late

    async def read(self, *, wait: timedelta) -> list[Stored] | None:
        self.late -= 1
        return None if self.late >= 0 else []


async def test_a_server_that_answers_late_is_asked_again() -> None:
    assert await _read_on(BusyReader(late=3)) == []


async def test_the_end_of_a_log_is_not_waited_for() -> None:
    reader = BusyReader(late=1)
    reader.ended = True

    assert await _read_on(reader) is None
