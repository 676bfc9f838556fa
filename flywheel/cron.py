"""Checks and computes cron lines: five fields, each within its range, and the times they mean.

The settings are read without Prefect, whose own parser is not part of its interface; what is
refused here would end in a traceback at the first `flywheel schedule`. An hour that the clock
skips or repeats is treated as cron treats it, which may differ from Prefect by an hour: enough to
know that a time is past, not to start runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_TWICE = timedelta(hours=2)
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
    times = _times(cron, timezone, moment, is_back=False)
    return next((time for time in times if time > moment), None)


def time_before(cron: str, timezone: str, moment: datetime) -> datetime | None:
    """The last time of a cron line before a moment, in UTC; None when it never was."""
    times = _times(cron, timezone, moment, is_back=True)
    return next((time for time in times if time < moment), None)


def _times(cron: str, timezone: str, moment: datetime, *, is_back: bool) -> Iterator[datetime]:
    """One after the other, from some time before they matter: an hour may come twice."""
    first = moment + (_TWICE if is_back else -_TWICE)
    try:
        times = CronSim(cron, first.astimezone(ZoneInfo(timezone)), reverse=is_back)
    except CronSimError:  # the 31st of February
        return
    for time in times:
        yield time.astimezone(UTC)


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
    return low <= first <= last <= high


def _number(text: str, name: str) -> int:
    """The number of a name, and one that is in no range for an unknown name."""
    return int(text) if text.isdigit() else _NAMES.get(name, {}).get(text, -1)
