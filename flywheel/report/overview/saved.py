"""Estimates the labels saved by targeting: failures found, against labels drawn at random.

Both shares of a batch are drawn from the same production. The failure rate of random labels is
estimated from the probability share, with its interval. Whether an answer is a failure is decided
by the project's own rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flywheel.evaluate import Population, Returned, production_estimate
from flywheel.evaluate.abstain import failed
from flywheel.evaluate.context import LATENCY
from flywheel.evaluate.scoring import CONFIDENCE, score_one
from flywheel.ledger.batches import Drawn, LabeledChoice, draws_since, labeled_choices
from flywheel.ledger.nights import current_night_number
from flywheel.loop import Loop
from flywheel.metrics.compiled import compile_formula
from flywheel.records import Array, Estimate, Share

NIGHTS = 60
"""only batches of these last nights count"""
_FEWEST = 10
"""targeted labels below which there is no estimate"""
_FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved:
    """Labels saved by targeting suspects."""

    num_labels: int
    """labels of the targeted share, in batches with random labels too"""
    num_found: int
    """failures among them: the logged answer contradicts the label"""
    at_random: Estimate
    """failures that the same number of random labels would have found"""
    saved: float | None
    """extra random labels needed to find as many failures; None: unbounded"""
    low: float
    high: float | None
    """bounds of its interval; None: unbounded"""


def labels_saved(loop: Loop) -> Saved | None:
    """Return the labels saved in the last 60 nights; None below 10 targeted or 5 random labels.

    Formula: with f failures among n targeted labels and failure rate p of random labels, n random
    labels would have found n p failures, and f failures need f / p of them: f / p - n are saved.
    p is the Hajek mean over the probability share with Wilson's interval. Each batch is weighted
    by its targeted labels, so that easy and hard nights count alike on both sides. The bounds of
    the other numbers follow from those of p; f is a count and has no interval.
    """
    with loop.ledger.read() as connection:
        since = max(current_night_number(connection) - NIGHTS, 0)
        labeled = labeled_choices(connection, since)
        draws = draws_since(connection, since)
    both = _batches_of(labeled, Share.TARGETED) & _batches_of(labeled, Share.PROBABILITY)
    labeled = [choice for choice in labeled if choice.batch_id in both]
    is_targeted = np.array([choice.share is Share.TARGETED for choice in labeled], dtype=bool)
    number = int(is_targeted.sum())
    if number < _FEWEST:
        return None
    wrong = _failures(loop, labeled)
    found = int(wrong[is_targeted].sum())
    rate = _rate(loop, labeled, wrong, [draw for draw in draws if draw.batch_id in both])
    if rate is None:
        return None
    return Saved(
        num_labels=number,
        num_found=found,
        at_random=Estimate(
            value=number * rate.value,
            low=number * rate.low,
            high=number * rate.high,
            num_samples=rate.num_samples,
        ),
        saved=found / rate.value - number if rate.value > 0 else None,
        low=found / rate.high - number,
        high=found / rate.low - number if rate.low > 0 else None,
    )


def _batches_of(labeled: Sequence[LabeledChoice], share: Share) -> set[str]:
    return {choice.batch_id for choice in labeled if choice.share is share}


def _failures(loop: Loop, labeled: Sequence[LabeledChoice]) -> Array:
    """Return (N,) booleans, N >= 1: abstain.failure or the metric, else disagreement."""
    project = loop.project
    rows = [
        score_one(loop.task, choice.sample_id, choice.answer, choice.label)
        | {CONFIDENCE: choice.confidence, LATENCY: choice.latency_ms}
        for choice in labeled
    ]
    names = set.intersection(*map(set, rows))
    table = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in names}
    metric = compile_formula(project.metric.optimize, project.directory)
    wrong = failed(table, project.abstain, metric, higher_is_better=project.metric.higher_is_better)
    if wrong is not None:
        return wrong
    agree = loop.task.agree
    return np.array([not agree(choice.answer, choice.label) for choice in labeled], dtype=bool)


def _rate(
    loop: Loop, labeled: Sequence[LabeledChoice], wrong: Array, draws: Sequence[Drawn]
) -> Estimate | None:
    """Return the failure rate of random labels; a batch is weighted by its targeted labels."""
    targeted = Counter(choice.batch_id for choice in labeled if choice.share is Share.TARGETED)
    places = {draw.batch_id: index for index, draw in enumerate(draws)}
    random = [index for index, choice in enumerate(labeled) if choice.share is Share.PROBABILITY]
    chosen = [labeled[index] for index in random]
    returned = Returned(
        ids=tuple(choice.sample_id for choice in chosen),
        scores={_FAILED: wrong[random].astype(np.float64)},
        confidences=np.array([choice.confidence for choice in chosen]),
        probabilities=np.array([choice.inclusion_probability or np.nan for choice in chosen]),
        clusters=np.unique([choice.group for choice in chosen], return_inverse=True)[1],
        batches=np.array([places[choice.batch_id] for choice in chosen], dtype=np.int64),
        populations=tuple(
            Population(size=targeted[draw.batch_id], mean_confidence=None, night=draw.night)
            for draw in draws
        ),
    )
    rng = np.random.default_rng(loop.project.project.seed)
    found = production_estimate(compile_formula(_FAILED, loop.project.directory), returned, rng)
    return None if found is None else found.estimate
