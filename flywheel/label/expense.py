"""How inexpensively people label: minutes per answer, money per label and per right label.

By person, campaign, night or slice, whatever rows are handed in. Everything that was paid counts:
skips, gold samples, answers that came to no label. Refuses to know prices and budgets.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy import stats

from flywheel.label.cost import Costed
from flywheel.label.ratio import FEWEST, ratio
from flywheel.records import Array, Estimate, Split

_TAIL = 0.025

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, kw_only=True, slots=True)
class Expense:
    """What some annotations cost, and what came of it."""

    num_annotations: int
    num_answers: int
    """neither skipped nor deleted"""
    num_labels: int
    """samples among them that have a label of people"""
    minutes: float
    """all together"""
    money: float
    """the same"""
    minutes_per_answer: Estimate | None
    money_per_answer: Estimate | None
    minutes_per_label: Estimate | None
    money_per_label: Estimate | None
    money_per_right_label: Estimate | None
    """a label counts with its chance to be right"""
    money_per_training_label: Estimate | None


def expense(rows: Sequence[Costed], labels: Mapping[str, float]) -> Expense:
    """Sum up what annotations cost.

    Args:
        rows: of which annotations.
        labels: sample -> reliability of its label, where people came to one.
    """
    minutes = np.array([one.minutes for one in rows])
    money = np.array([one.money for one in rows])
    given = np.array([float(one.work.is_given) for one in rows])
    samples = list(dict.fromkeys(one.work.sample_id for one in rows))
    place = {sample: number for number, sample in enumerate(samples)}
    index = np.array([place[one.work.sample_id] for one in rows], dtype=np.intp)
    right = np.array([labels.get(sample, 0.0) for sample in samples])
    labeled = np.array([float(sample in labels) for sample in samples])
    trains = {one.work.sample_id for one in rows if one.work.split is Split.TRAIN}
    training = labeled * np.array([float(sample in trains) for sample in samples])

    def by_sample(values: Array) -> Array:
        return np.bincount(index, values, len(samples))

    return Expense(
        num_annotations=len(rows),
        num_answers=int(given.sum()),
        num_labels=int(labeled.sum()),
        minutes=float(minutes.sum()),
        money=float(money.sum()),
        minutes_per_answer=ratio(minutes, given),
        money_per_answer=ratio(money, given),
        minutes_per_label=ratio(by_sample(minutes), labeled),
        money_per_label=ratio(by_sample(money), labeled),
        money_per_right_label=ratio(by_sample(money), right),
        money_per_training_label=ratio(by_sample(money), training),
    )


def expenses_by(
    rows: Sequence[Costed], labels: Mapping[str, float], key: Callable[[Costed], Sequence[Key]]
) -> dict[Key, Expense]:
    """The same for each group; a row may belong to several, or to none. Smallest key first."""
    groups: defaultdict[Key, list[Costed]] = defaultdict(list)
    for row in rows:
        for name in key(row):
            groups[name].append(row)
    return {name: expense(groups[name], labels) for name in sorted(groups)}  # type: ignore[type-var]


def trend(nights: Mapping[int, Expense]) -> Estimate | None:
    """How much a label's cost changes from night to night: -0.03 is 3 % less each night.

    Formula: exp(b) - 1, b the slope of log(money per label) over the nights with Student's 95 %
    interval. None below 5 nights that have such a cost.
    """
    known = {
        night: one.money_per_label.value
        for night, one in nights.items()
        if one.money_per_label is not None and one.money_per_label.value > 0
    }
    if len(known) < FEWEST:
        return None
    fitted = stats.linregress(list(known), np.log(list(known.values())))
    half = float(stats.t.isf(_TAIL, len(known) - 2)) * fitted.stderr
    value, low, high = np.expm1([fitted.slope, fitted.slope - half, fitted.slope + half]).tolist()
    return Estimate(value=value, low=low, high=high, num_samples=len(known))
