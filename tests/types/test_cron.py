from datetime import UTC, datetime, timedelta

import pytest

from sojourn.types.cron import Cron


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "matching", "other"),
    [
        ("* * * * *", "2026-01-01T00:00", None),
        ("0 9 * * 1-5", "2026-11-20T09:00", "2026-11-21T09:00"),
        ("0 9 * * MON-Fri", "2026-11-20T09:00", "2026-11-22T09:00"),
        ("*/15 0,12 * * *", "2026-01-01T12:45", "2026-01-01T12:50"),
        ("10-20/5 * * * *", "2026-01-01T03:15", "2026-01-01T03:25"),
        ("0 0 * * 7", "2026-11-22T00:00", "2026-11-23T00:00"),
        ("0 0 * * 5-7", "2026-11-22T00:00", "2026-11-23T00:00"),
        ("0 0 * feb,mar *", "2026-02-01T00:00", "2026-04-01T00:00"),
        ("0 0 29 2 *", "2028-02-29T00:00", "2028-02-28T00:00"),
        # One of two restricted fields for days is enough …
        ("0 0 13 * 5", "2026-11-13T00:00", "2026-11-14T00:00"),
        ("0 0 13 * 5", "2026-12-13T00:00", None),
        ("0 0 13 * 5", "2026-11-20T00:00", None),
        # … and a field that begins with a star restricts nothing by itself.
        ("0 0 */2 * 5", "2026-11-13T00:00", "2026-11-20T00:00"),
    ],
)
def test_expression_matches(expression: str, matching: str, other: str | None) -> None:
    cron = Cron.parse(expression)

    assert cron.matches(at(matching))
    assert other is None or not cron.matches(at(other))


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * * *",
        "* * * * * *",
        "@daily",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 13 *",
        "* * * * 8",
        "a * * * *",
        "* * L * *",
        "* * 1W * *",
        "* * * * 5#2",
        "? * * * *",
        "5-1 * * * *",
        "*/0 * * * *",
        "5/10 * * * *",
        "1,, * * * *",
        "1,2, * * * *",
        "-1 * * * *",
        "1-2-3 * * * *",
        "* * * sun *",
        "TZ=UTC * * * *",
        "٣ * * * *",
        "* * * * *" + " " * 300,
    ],
)
def test_what_is_no_expression_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"write|no |it is|steps|backwards"):
        Cron.parse(expression)


@pytest.mark.parametrize("expression", ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 31 2 */2"])
def test_expression_that_never_matches_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match="would never run"):
        Cron.parse(expression)


@pytest.mark.parametrize(
    ("expression", "minutes"),
    [
        ("* * * * *", 1),
        ("*/7 * * * *", 4),
        ("30 * * * *", 60),
        ("0 9,17 * * *", 480),
        ("0 3 * * *", 1440),
        ("0 3 1 1 *", 1440),
        ("0,59 0,23 * * *", 1),
    ],
)
def test_shortest_gap(expression: str, minutes: int) -> None:
    assert Cron.parse(expression).shortest_gap == timedelta(minutes=minutes)


def test_temporal_gets_two_expressions_where_one_of_two_fields_is_enough() -> None:
    assert Cron.parse("0 9 13 * FRI").expressions == ("0 9 13 * *", "0 9 * * fri")
    assert Cron.parse(" 0  9 * * 1-5 ").expressions == ("0 9 * * 1-5",)
