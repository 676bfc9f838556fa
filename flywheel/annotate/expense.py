"""Cost-effectiveness of labeling: cost per answer and per label.

Costs can be grouped by annotator, campaign, night or slice. Everything that was paid for counts:
skips, gold samples, and answers that led to no label.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import scipy

from flywheel.annotate.cost import FEWEST, Costed, ratio
from flywheel.records import Array, Estimate, Split

_TAIL = 0.025

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, kw_only=True, slots=True)
class Expense:
    """Cost of a set of annotations, and of what they brought."""

    num_annotations: int
    num_answers: int
    """annotations that are neither skipped nor deleted"""
    num_labels: int
    """samples among them with a label by annotators"""
    minutes: float
    """in total"""
    money: float
    """in total, in [cost] currency"""
    minutes_per_answer: Estimate | None
    money_per_answer: Estimate | None
    minutes_per_label: Estimate | None
    money_per_label: Estimate | None
    money_per_right_label: Estimate | None
    """a label counts with its probability of being right"""
    money_per_training_label: Estimate | None


def expense(rows: Sequence[Costed], labels: Mapping[str, float]) -> Expense:
    """Compute what annotations cost and brought.

    Args:
        rows: annotations with their cost.
        labels: sample id -> reliability of its label; without unlabeled samples.
    """
    minutes = np.array([row.minutes for row in rows])
    money = np.array([row.money for row in rows])
    given = np.array([float(row.work.is_given) for row in rows])
    samples = list(dict.fromkeys(row.work.sample_id for row in rows))
    place = {sample: number for number, sample in enumerate(samples)}
    index = np.array([place[row.work.sample_id] for row in rows], dtype=np.intp)
    right = np.array([labels.get(sample, 0.0) for sample in samples])
    labeled = np.array([float(sample in labels) for sample in samples])
    trains = {row.work.sample_id for row in rows if row.work.split is Split.TRAIN}
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
    """Return the expense of each group, sorted by key; a row may be in several groups or in none."""
    groups: defaultdict[Key, list[Costed]] = defaultdict(list)
    for row in rows:
        for name in key(row):
            groups[name].append(row)
    return {name: expense(groups[name], labels) for name in sorted(groups)}  # type: ignore[type-var]


def trend(nights: Mapping[int, Expense]) -> Estimate | None:
    """Return how much the cost of a label changes per night: -0.03 is 3 % less each night.

    Formula: exp(b) - 1, b the slope of log(money per label) over the nights with Student's 95 %
    interval. None below 5 nights that have such a cost.
    """
    known = {
        night: spent.money_per_label.value
        for night, spent in nights.items()
        if spent.money_per_label is not None and spent.money_per_label.value > 0
    }
    if len(known) < FEWEST:
        return None
    fitted = scipy.stats.linregress(list(known), np.log(list(known.values())))
    half = float(scipy.stats.t.isf(_TAIL, len(known) - 2)) * fitted.stderr
    value, low, high = np.expm1([fitted.slope, fitted.slope - half, fitted.slope + half]).tolist()
    return Estimate(value=value, low=low, high=high, num_samples=len(known))
