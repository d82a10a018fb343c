"""Cron expressions: five fields, as POSIX has them.

Temporal's calendar decides when a schedule fires. What is here refuses what Temporal would understand differently or
not at all, and knows enough of an expression to limit what depends on its shortest gap.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_DAY = 24 * 60
_PART = re.compile(r"(\*|[0-9a-z]{1,4}(?:-[0-9a-z]{1,4})?)(?:/([0-9]{1,2}))?")
_MAX_LENGTH = 256


@dataclass(frozen=True)
class _Field:
    name: str
    first: int
    last: int
    names: Sequence[str] = ()

    def read(self, text: str) -> frozenset[int]:
        """The values that a field admits."""
        return frozenset(value for part in text.split(",") for value in self._part(part))

    def _part(self, part: str) -> range:
        found = _PART.fullmatch(part)
        if found is None:
            raise ValueError(f"{part!r} is no {self.name}; write numbers, ranges, lists, * and */n")
        span, step = found.groups()
        first, last = (self.first, self.last) if span == "*" else self._ends(span)
        if first > last:
            raise ValueError(f"{part!r} runs backwards; write two ranges of the {self.name}")
        if step is not None and (int(step) == 0 or ("-" not in span and span != "*")):
            raise ValueError(f"{part!r} is no {self.name}; steps of 1 or more follow * or a range")
        return range(first, last + 1, int(step or 1))

    def _ends(self, span: str) -> tuple[int, int]:
        first, _, last = span.partition("-")
        return self._value(first), self._value(last or first)

    def _value(self, text: str) -> int:
        if text in self.names:
            return self.first + self.names.index(text)
        if not text.isdigit() or not self.first <= int(text) <= self.last:
            raise ValueError(f"{text!r} is no {self.name}; it is {self.first} to {self.last}")
        return int(text)


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of the week", 0, 7, _WEEKDAYS),
)


@dataclass(frozen=True)
class Cron:
    """An expression that has been read. Days match by either field when both are restricted, as in any cron."""

    fields: tuple[str, ...]
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Sunday."""

    @classmethod
    def parse(cls, expression: str) -> "Cron":
        """Read an expression.

        Raises:
            ValueError: It is none, or there is no day on which it matches.
        """
        fields = tuple(expression.lower().split())
        if len(fields) != len(_FIELDS) or len(expression) > _MAX_LENGTH:
            raise ValueError("write five fields: minute, hour, day of the month, month, day of the week")
        minutes, hours, days, months, weekdays = (kind.read(text) for kind, text in zip(_FIELDS, fields, strict=True))
        cron = cls(fields, minutes, hours, days, months, frozenset(day % 7 for day in weekdays))
        if not cron._either and all(min(days) > _LONGEST[month - 1] for month in months):
            raise ValueError("there is no such day in these months, so it would never run")
        return cron

    @property
    def _either(self) -> bool:
        """Whether both fields for days are restricted, so that a day need match one of them only."""
        _, _, day, _, weekday = self.fields
        return not day.startswith("*") and not weekday.startswith("*")

    @property
    def expressions(self) -> tuple[str, ...]:
        """The same for Temporal, for which a day must match both fields; a schedule fires when one of these does."""
        minute, hour, day, month, weekday = self.fields
        if not self._either:
            return (" ".join(self.fields),)
        return f"{minute} {hour} {day} {month} *", f"{minute} {hour} * {month} {weekday}"

    @property
    def shortest_gap(self) -> timedelta:
        """No two matches are closer than this; a day at most, however rare they are."""
        times = sorted(hour * 60 + minute for hour in self.hours for minute in self.minutes)
        following = [*times[1:], times[0] + _DAY]
        return timedelta(minutes=min(after - before for before, after in zip(times, following, strict=True)))

    def matches(self, at: datetime) -> bool:
        """Whether it fires in the minute of this wall clock."""
        day, weekday = at.day in self.days, at.isoweekday() % 7 in self.weekdays
        dated = (day or weekday) if self._either else (day and weekday)
        return at.minute in self.minutes and at.hour in self.hours and at.month in self.months and dated
