import threading
from datetime import timedelta

import pytest

from sojourn.activities import ToolCancelledError, ToolContext
from sojourn.types.id import EventId, SessionId


def context(cancelled: threading.Event | None = None) -> ToolContext:
    return ToolContext(SessionId("sesn_1"), EventId("sevt_1"), 1, _cancelled=cancelled or threading.Event())


def test_blocking_wait_ends_when_its_time_is_over() -> None:
    context().sleep_blocking(timedelta(0))


def test_blocking_wait_ends_with_an_error_when_the_call_is_interrupted() -> None:
    cancelled = threading.Event()
    cancelled.set()

    with pytest.raises(ToolCancelledError, match="'sevt_1'"):
        context(cancelled).sleep_blocking(timedelta(hours=1))


def test_tool_can_ask_whether_it_was_interrupted() -> None:
    cancelled = threading.Event()
    call = context(cancelled)
    assert not call.cancelled

    cancelled.set()

    assert call.cancelled


def test_tool_can_be_called_in_a_test_without_a_worker() -> None:
    call = context()

    call.progress("half")

    assert "_report" not in repr(call)
