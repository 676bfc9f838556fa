"""The result of one check of flywheel doctor."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from flywheel.errors import FlywheelError


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What a check found and, where it is not well, how to fix it."""

    check: str
    """what was checked, in one or two words"""
    status: Literal["ok", "warn", "fail"]
    """fail: a night cannot go well like this; warn: it can, but a person should know"""
    line: str


def ok(check: str, line: str) -> Finding:
    """A finding: all is well."""
    return Finding(check=check, status="ok", line=line)


def warn(check: str, line: str) -> Finding:
    """A finding: a night goes well all the same; the line says how to fix it."""
    return Finding(check=check, status="warn", line=line)


def fail(check: str, line: str) -> Finding:
    """A finding: no night goes well like this; the line says how to fix it."""
    return Finding(check=check, status="fail", line=line)


def look(check: str, run: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """What a check finds; an error of ours becomes a finding, since it says how to fix it."""
    try:
        return list(run())
    except FlywheelError as error:
        return [fail(check, " ".join(str(error).split()))]
