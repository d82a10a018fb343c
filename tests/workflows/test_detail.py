from datetime import UTC, datetime

import pytest

from sojourn.types.id import EventId
from sojourn.types.record import ToolCallPart
from sojourn.types.session import EndTurn, SessionStatus, StopReason
from sojourn.workflows.call import Call, Calls
from sojourn.workflows.detail import describe, snippet


def waiting(*kinds: str) -> list[Call]:
    parts = [
        ToolCallPart.model_validate(
            {
                "id": f"sevt_{place}",
                "call_id": "c",
                "name": "pay",
                "input": {"amount": 5},
                "kind": kind,
                "permission": "ask",
            }
        )
        for place, kind in enumerate(kinds)
    ]
    return Calls.asked(parts, at=datetime(2026, 1, 1, tzinfo=UTC)).waiting


def described(
    *, reason: StopReason | None = None, heard: str = "", said: str = "", calls: tuple[Call, ...] = ()
) -> list[str]:
    text = describe(SessionStatus.IDLE, reason=reason, turn=2, step=3, queued=1, heard=heard, said=said, waiting=calls)
    return text.split("\n")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("short", "short"),
        ("two\n  lines\t!", "two lines !"),
        ("x" * 80, "x" * 80),
        ("x" * 81, "x" * 79 + "…"),
    ],
)
def test_snippet_is_the_start_in_one_line(text: str, line: str) -> None:
    assert snippet(text) == line


def test_snippet_is_never_longer_than_wanted() -> None:
    assert len(snippet("word " * 100, length=10)) == 10


def test_session_without_words_is_one_line() -> None:
    assert described() == ["**idle**: turn 2, step 3, 1 message(s) in the queue"]


def test_stop_reason_is_told() -> None:
    assert described(reason=EndTurn()) == ["**idle** (end_turn): turn 2, step 3, 1 message(s) in the queue"]


def test_last_words_are_told_in_one_line_each() -> None:
    assert described(heard="pay\nit", said="may I?")[1:] == ["", "- user: pay it", "- agent: may I?"]


def test_calls_that_wait_are_told_with_what_they_wait_for() -> None:
    assert described(calls=tuple(waiting("function", "custom")))[1:] == [
        "",
        "- waits for the approval of `pay(amount=5)` (`sevt_0`)",
        "- waits for the result of `pay(amount=5)` (`sevt_1`)",
    ]


def test_many_calls_do_not_fill_the_page() -> None:
    assert len(described(calls=tuple(waiting(*["custom"] * 30)))) == 12


def test_call_keeps_its_id_so_that_an_operator_can_answer_it() -> None:
    assert all(EventId(call.id) in "\n".join(described(calls=(call,))) for call in waiting("custom"))
