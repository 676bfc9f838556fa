"""Formats numbers, intervals, answers, ids and durations for all pages.

A missing number is "not enough data", never 0 or NaN.
"""

from __future__ import annotations

import math

from flywheel.records import Estimate, Json, canonical

NOT_ENOUGH = "not enough data"

_ANSWER_CHARACTERS = 80
_BAR_CHARACTERS = 20
_DIGEST_CHARACTERS = 12


def number(value: float | None) -> str:
    """Format with three decimals near one, fewer for larger values; None or NaN in words."""
    if value is None or not math.isfinite(value):
        return NOT_ENOUGH
    size = abs(value)
    if 0 < size < 0.001:
        return f"{value:.1e}"
    decimals = 3 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0
    return f"{value:,.{decimals}f}"


def estimate(value: Estimate | None) -> str:
    """Format a number with its interval, 0.912 [0.871, 0.949]; a constant without."""
    if value is None:
        return NOT_ENOUGH
    if value.low == value.high and value.num_samples == 0:
        return number(value.value)
    return f"{number(value.value)} [{number(value.low)}, {number(value.high)}]"


def interval(value: Estimate | None) -> str:
    """Format only the interval; "" for a constant."""
    if value is None or (value.low == value.high and value.num_samples == 0):
        return ""
    return f"[{number(value.low)}, {number(value.high)}]"


def bar(share: float) -> str:
    """Draw a share in 0..1 as a text bar."""
    full = min(int(_BAR_CHARACTERS * share), _BAR_CHARACTERS)
    return "█" * full + "░" * (_BAR_CHARACTERS - full)


def percent(share: float) -> str:
    """Format a share in 0..1 as a percentage: 4.2 %, 95 %."""
    return f"{100 * share:.3g} %"


def evidence_bar(e_value: float, needed: float) -> str:
    """Draw an e-value on a log scale as a text bar: empty up to 1, full at `needed`."""
    share = math.log(max(e_value, 1.0)) / math.log(needed) if needed > 1 else 1.0
    return bar(share)


def answer(value: Json) -> str:
    """Format an answer as text or JSON, cut to 80 characters."""
    text = value if isinstance(value, str) else canonical(value)
    return text if len(text) <= _ANSWER_CHARACTERS else text[: _ANSWER_CHARACTERS - 1] + "…"


def digest(value: str | None) -> str:
    """Return the first twelve characters of an id; "none" for none."""
    return value[:_DIGEST_CHARACTERS] if value else "none"


def duration(seconds: float) -> str:
    """Format seconds: 0.4 s, 3 min 5 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
