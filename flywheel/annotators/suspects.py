"""Suspect labels: those that the model contradicts, as many as it finds wrong where it is certain.

Confident learning for any kind of answer: it needs to know only whether the model agrees with a
label and how confident it is, not a probability for each class.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

_FIRMNESS = 20.0
"""Answers that what holds for all names is worth for each."""


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
    """of the model's confidence over the threshold; below 0 for those that only the share of
    mistakes makes suspect"""
    threshold: float
    """mean confidence of the model where it gives this answer and labels agree"""


def suspect_labels(judged: Sequence[Judged]) -> list[Suspect]:
    """As many contradicted labels as there are mistakes, the surest first.

    Formula: the threshold of an answer is the mean confidence with which the model gives it where
    labels agree. Above it the model is as good as right, so the share of its answers there that
    labels contradict is the share of mistakes; that share of all labels under this answer is
    suspect, those with the highest confidence among the contradicted ones. For names both are
    drawn to those of all names by 20 answers; where answers are no names there is one of each.
    Source: Northcutt, Jiang and Chuang, Confident Learning (2021): thresholds and counts of
    section 3.1, pruned by noise rate as in 3.2.
    Departure: they average, and count, the chance of each class over all labels; a pose has no
    chance of each class, so we know the model's one answer and count by it.
    Law: the model must not have learned from the label, or it agrees with the mistakes.

    Raises:
        ValueError: a confidence is no finite number.
    """
    _refuse_unsure(judged)
    if not any(judgement.agrees for judgement in judged):
        return []  # how sure the model is where it is right is not known
    answers: defaultdict[str | None, list[Judged]] = defaultdict(list)
    for one in judged:
        answers[one.name].append(one)
    usual = _measure(judged, _Usual(threshold=0.0, share=0.0), firmness=0.0)
    found = [
        suspect
        for given in answers.values()
        for suspect in _suspects(given, _measure(given, usual, _FIRMNESS))
    ]
    return sorted(found, key=lambda one: (-one.margin, one.sample))


class _Usual(NamedTuple):
    """Of the model, where it gives an answer."""

    threshold: float
    """mean confidence where labels agree"""
    share: float
    """of the answers above it that labels contradict"""


def _measure(judged: Sequence[Judged], usual: _Usual, firmness: float) -> _Usual:
    """Means to which `usual` is added as so many answers."""
    agreeing = [judgement.confidence for judgement in judged if judgement.agrees]
    total = math.fsum(agreeing) + firmness * usual.threshold
    # Rounded, a mean may come out above all that it is the mean of, and nothing would be sure.
    threshold = min(total / (len(agreeing) + firmness), max([*agreeing, usual.threshold]))
    sure = [judgement.agrees for judgement in judged if judgement.confidence >= threshold]
    share = (sure.count(False) + firmness * usual.share) / (len(sure) + firmness)
    return _Usual(threshold, share)


def _suspects(judged: Sequence[Judged], usual: _Usual) -> list[Suspect]:
    """Of labels under one answer of the model."""
    against = sorted(
        (judgement for judgement in judged if not judgement.agrees),
        key=lambda one: (-one.confidence, one.sample),
    )
    return [
        Suspect(
            sample=one.sample,
            margin=one.confidence - usual.threshold,
            threshold=usual.threshold,
        )
        for one in against[: round(usual.share * len(judged))]
    ]


def _refuse_unsure(judged: Sequence[Judged]) -> None:
    for judgement in judged:
        if not math.isfinite(judgement.confidence):
            raise ValueError(
                f"confidence on sample {judgement.sample[:12]!r} is {judgement.confidence}; only finite "
                "numbers are allowed: leave the sample out"
            )
