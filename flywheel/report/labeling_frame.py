"""The people as one table, for a notebook or a CSV file: a row a person, a column a fact.

What is not known is missing, never 0.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from flywheel.report.labeling_facts import LabelingFacts, Person
from flywheel.report.labeling_words import Flag
from flywheel.report.quality import Quality


def people_frame(facts: LabelingFacts, quality: Quality, flags: list[Flag]) -> pd.DataFrame:
    """All who label, indexed by name, the busiest first.

    Columns: tier; answers, skipped, refused; minutes (an answer) with _low and _high, money; right,
    the chance of an answer to be right, with _low and _high; gold, gold_right; shown_minus_blind,
    how much more often the model's answer is given when it is seen, with _low and _high; flags.
    """
    rows = [_row(one, quality, flags) for one in facts.people]
    frame = pd.DataFrame(rows, columns=_COLUMNS, index=[one.name for one in facts.people])
    frame.index.name = "person"
    return frame.convert_dtypes()


def _row(one: Person, quality: Quality, flags: list[Flag]) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(_COLUMNS)
    row |= {
        "tier": one.tier,
        "answers": one.count.num_answers,
        "skipped": one.count.num_skipped,
        "refused": one.count.num_refused,
        "gold": one.num_gold,
        "gold_right": one.num_gold_right,
        "flags": " ".join(flag.what for flag in flags if one.name in flag.people) or None,
    }
    if one.expense is not None:
        row["money"] = one.expense.money
        row |= _interval("minutes", one.expense.minutes_per_answer, "value")
    if one.measured is not None and one.measured.num_answers:
        row |= _interval("right", one.measured, "reliability")
    return row | _interval("shown_minus_blind", quality.people.get(one.name), "difference")


def _interval(name: str, known: Any, value: str) -> dict[str, float | None]:
    names = (name, f"{name}_low", f"{name}_high")
    if known is None:
        return dict.fromkeys(names)
    return dict(zip(names, (getattr(known, value), known.low, known.high), strict=True))


_COLUMNS = [
    "tier",
    "answers",
    "skipped",
    "refused",
    *(f"minutes{end}" for end in ("", "_low", "_high")),
    "money",
    *(f"right{end}" for end in ("", "_low", "_high")),
    "gold",
    "gold_right",
    *(f"shown_minus_blind{end}" for end in ("", "_low", "_high")),
    "flags",
]
