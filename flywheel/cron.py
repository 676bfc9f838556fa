"""Checks and computes cron lines: five fields, each within its range, and the times they mean.

The settings are read without Prefect, whose own parser is not part of its interface; what is
refused here would end in a traceback at the first `flywheel schedule`. The times are those at
which Prefect makes its runs, also where the clock is put forward or back: a test compares both.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

_ALL_DAYS, _ALL_WEEKDAYS = 31, 7
_MOST_DAYS = 50 * 366
"""after which a day never comes, as for Prefect; 29 February may be a Monday after 40 years"""
_SKIPPED_IS_EARLY = sys.version_info < (3, 13)
_FIELDS = (
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day", 1, 31),
    ("month", 1, 12),
    ("weekday", 0, 7),
)
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_NAMES = {
    "month": {name: number for number, name in enumerate(_MONTHS, start=1)},
    "weekday": {name: number for number, name in enumerate(_WEEKDAYS)},
}
_ITEM = re.compile(r"(?P<every>\*)|(?P<first>[0-9]{1,2}|[a-z]{3})(-(?P<last>[0-9]{1,2}|[a-z]{3}))?")


def cron_fault(cron: str) -> str | None:
    """What is wrong with a cron line, and what is allowed; None when nothing is."""
    fields = cron.split()
    if len(fields) != len(_FIELDS):
        return "is no cron line; write five fields"
    for text, (name, low, high) in zip(fields, _FIELDS, strict=True):
        if not all(_is_item(item, name, low, high) for item in text.lower().split(",")):
            return f"its {name} {text!r} is not within {low}..{high}, * or */n"
    return None


def time_after(cron: str, timezone: str, moment: datetime) -> datetime | None:
    """The first time of a cron line after a moment, in UTC; None when it never comes."""
    found: datetime | None = None
    for times in _days(cron, timezone, moment, 1):
        later = [one for one in times if one > moment]
        if found is not None:  # a clock that is put may bring the next day's first one before it
            return min([found, *later])
        found = min(later, default=None)
    return found


def time_before(cron: str, timezone: str, moment: datetime) -> datetime | None:
    """The last time of a cron line before a moment, in UTC; None when it never was."""
    found: datetime | None = None
    for times in _days(cron, timezone, moment, -1):
        earlier = [one for one in times if one < moment]
        if found is not None:
            return max([found, *earlier])
        found = max(earlier, default=None)
    return found


def _days(cron: str, timezone: str, moment: datetime, step: int) -> Iterator[list[datetime]]:
    """The times of one day after the other, from a day before they matter; days may have none."""
    minutes, hours, days, months, weekdays = (
        _values(text, *field) for text, field in zip(cron.lower().split(), _FIELDS, strict=True)
    )
    weekdays = {number % 7 for number in weekdays}
    # Standard cron: where both name some days only, either is enough.
    either = len(days) < _ALL_DAYS and len(weekdays) < _ALL_WEEKDAYS
    zone = ZoneInfo(timezone)
    here = moment.astimezone(zone)
    first = date(here.year, here.month, here.day) - step * timedelta(days=1)
    for number in range(_MOST_DAYS):
        day = first + step * timedelta(days=number)
        on_day, on_weekday = day.day in days, day.isoweekday() % 7 in weekdays
        if day.month in months and (on_day or on_weekday if either else on_day and on_weekday):
            yield [
                _instant(datetime.combine(day, time(hour, minute, tzinfo=zone)))
                for hour in hours
                for minute in minutes
            ]
        else:
            yield []


def _instant(wall: datetime) -> datetime:
    """When Prefect runs what is due at a time of the wall clock.

    Of an hour that comes twice the first counts. One that is skipped counts as if the clock had
    been put already, an hour early; Prefect on Python 3.13 and later runs it an hour late.
    """
    if not _SKIPPED_IS_EARLY:
        return wall.astimezone(UTC)
    return min(wall.astimezone(UTC), wall.replace(fold=1).astimezone(UTC))


def _values(text: str, name: str, low: int, high: int) -> set[int]:
    """The numbers that a field of a valid line stands for."""
    numbers: set[int] = set()
    for item in text.split(","):
        values, _, step = item.partition("/")
        found = _ITEM.fullmatch(values)
        if found is None or found["every"]:
            first, last = low, min(high, _ALL_WEEKDAYS - 1) if name == "weekday" else high
        else:
            first = _number(found["first"], name)
            last = _number(found["last"] or found["first"], name)
        numbers.update(range(first, last + 1, int(step or 1)))
    return numbers


def _is_item(item: str, name: str, low: int, high: int) -> bool:
    """`*`, `5`, `1-5`, `mon-fri`, and with a step `*/15` or `8-18/2`."""
    values, slash, step = item.partition("/")
    found = _ITEM.fullmatch(values)
    if found is None:
        return False
    if slash and not (step.isascii() and step.isdigit() and 1 <= int(step) <= high):
        return False
    if found["every"]:
        return True
    if slash and found["last"] is None:  # 5/10 is no standard: say where it ends
        return False
    first = _number(found["first"], name)
    last = _number(found["last"] or found["first"], name)
    # Prefect takes 5-5 for every value.
    return low <= first <= last <= high and (found["last"] is None or first < last)


def _number(text: str, name: str) -> int:
    """The number of a name, and one that is in no range for an unknown name."""
    return int(text) if text.isdigit() else _NAMES.get(name, {}).get(text, -1)
