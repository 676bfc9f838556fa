"""Numbers, answers and absence in the words that all pages share.

What there is no number for is said in words, never as 0 or NaN. No page and no markup is
known here.
"""

from __future__ import annotations

import math

from flywheel.records import Estimate, Json, canonical

NOT_ENOUGH = "not enough data"

_ANSWER_CHARACTERS = 80
_BAR_CHARACTERS = 20
_DIGEST_CHARACTERS = 12


def number(value: float | None) -> str:
    """Three decimals near one, fewer the larger it is; "not enough data" for what is no number."""
    if value is None or not math.isfinite(value):
        return NOT_ENOUGH
    size = abs(value)
    if 0 < size < 0.001:
        return f"{value:.1e}"
    decimals = 3 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0
    return f"{value:,.{decimals}f}"


def estimate(value: Estimate | None) -> str:
    """A number with its interval: 0.912 [0.871, 0.949]; a fixed one without."""
    if value is None:
        return NOT_ENOUGH
    if value.low == value.high and value.num_samples == 0:
        return number(value.value)
    return f"{number(value.value)} [{number(value.low)}, {number(value.high)}]"


def interval(value: Estimate | None) -> str:
    """Only the interval; nothing for a fixed number."""
    if value is None or (value.low == value.high and value.num_samples == 0):
        return ""
    return f"[{number(value.low)}, {number(value.high)}]"


def bar(share: float) -> str:
    """A share in 0..1 as a bar of text."""
    full = min(int(_BAR_CHARACTERS * share), _BAR_CHARACTERS)
    return "█" * full + "░" * (_BAR_CHARACTERS - full)


def percent(share: float) -> str:
    """A share as people say it: 4.2 %, 95 %."""
    return f"{100 * share:.3g} %"


def evidence_bar(e_value: float, needed: float) -> str:
    """How far evidence has come on a log scale, as a bar of text; empty up to 1, full at needed."""
    share = math.log(max(e_value, 1.0)) / math.log(needed) if needed > 1 else 1.0
    return bar(share)


def answer(value: Json) -> str:
    """An answer as people read it; a long one is cut."""
    text = value if isinstance(value, str) else canonical(value)
    return text if len(text) <= _ANSWER_CHARACTERS else text[: _ANSWER_CHARACTERS - 1] + "…"


def digest(value: str | None) -> str:
    """The first twelve characters of an id, which tell it apart; "none" when there is none."""
    return value[:_DIGEST_CHARACTERS] if value else "none"


def duration(seconds: float) -> str:
    """Seconds as a person says them: 0.4 s, 3 min 5 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
