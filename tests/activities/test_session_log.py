from typing import cast

from temporalio.client import Client

from sojourn.activities.session_log import SessionLogs

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
