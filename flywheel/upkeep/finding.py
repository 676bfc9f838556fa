"""One thing that a doctor looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from flywheel.errors import FlywheelError


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """How it is, and where it is not well, how to mend it."""

    check: str
    """what was looked at, in one or two words"""
    status: Literal["ok", "warn", "fail"]
    """fail: a night cannot go well like this; warn: it can, and somebody should know"""
    line: str


def ok(check: str, line: str) -> Finding:
    """It is well."""
    return Finding(check=check, status="ok", line=line)


def warn(check: str, line: str) -> Finding:
    """A night goes well all the same; the line says how to mend it."""
    return Finding(check=check, status="warn", line=line)


def fail(check: str, line: str) -> Finding:
    """No night goes well like this; the line says how to mend it."""
    return Finding(check=check, status="fail", line=line)


def look(check: str, into: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """What a check finds; what it raises is its finding, since our errors say how to mend them."""
    try:
        return list(into())
    except FlywheelError as error:
        return [fail(check, " ".join(str(error).split()))]
