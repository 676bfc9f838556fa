"""Suspect labels: those that the model contradicts though it is as sure as where it is right.

Confident learning for any kind of answer: it needs to know only whether the model agrees with a
label and how sure it is, not a chance for each class. Refuses to know answers and what becomes of
a suspect.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

_FEWEST = 20
"""Agreements on a name from which it has a threshold of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """A label and what a model said that had not seen it."""

    sample: str
    agrees: bool
    """the model's answer with the label, as the task has it"""
    confidence: float
    """of the model in its answer; any scale that rises with it"""
    name: str | None = None
    """the model's answer, where answers are names (classes); None where they are only near each
    other"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspect:
    """A label that the model contradicts."""

    sample: str
    margin: float
    """of the model's confidence over the threshold, 0 or more"""
    threshold: float
    """mean confidence of the model where it gives this answer and labels agree"""


def suspect_labels(judged: Sequence[Judged]) -> list[Suspect]:
    """Labels that the model contradicts with at least its usual confidence, the surest first.

    Formula: the threshold of an answer is the mean confidence with which the model gives it where
    labels agree; of a name with fewer than 20 agreements, and where answers are no names, the
    mean over all agreements. A label is suspect when the model says something else with at least
    the threshold of what it says.
    Source: Northcutt, Jiang and Chuang, Confident Learning (2021), section 3.1.
    Departure: their threshold averages the chance of a class over all samples labeled with it,
    and they look at every class above its threshold. That needs a chance for each class; a pose
    has none. Ours, of agreements only, is at least as high, so it names fewer labels.
    Law: the model must not have learned from the label, or it agrees with the mistakes.

    Raises:
        ValueError: a confidence is no finite number.
    """
    _refuse_unsure(judged)
    agreeing = [one for one in judged if one.agrees]
    if not agreeing:
        return []  # how sure the model is where it is right is not known
    pooled = _mean(agreeing)
    by_name: defaultdict[str, list[Judged]] = defaultdict(list)
    for one in agreeing:
        if one.name is not None:
            by_name[one.name].append(one)
    own = {name: _mean(given) for name, given in by_name.items() if len(given) >= _FEWEST}
    found = []
    for one in judged:
        threshold = pooled if one.name is None else own.get(one.name, pooled)
        if not one.agrees and one.confidence >= threshold:
            margin = one.confidence - threshold
            found.append(Suspect(sample=one.sample, margin=margin, threshold=threshold))
    return sorted(found, key=lambda one: (-one.margin, one.sample))


def _mean(judged: Sequence[Judged]) -> float:
    return math.fsum(one.confidence for one in judged) / len(judged)


def _refuse_unsure(judged: Sequence[Judged]) -> None:
    for one in judged:
        if not math.isfinite(one.confidence):
            raise ValueError(
                f"confidence on sample {one.sample[:12]!r} is {one.confidence}; only finite "
                "numbers are allowed: leave the sample out"
            )
