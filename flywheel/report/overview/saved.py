"""Labels saved: failures found where we looked, beside what labels at random would have found.

Both shares are drawn from the same production: the failure rate among random labels is estimated
from the probability share, with its interval, and is never a guess. What an answer is worth is
the project's own rule for a failure.
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
"""whose batches count"""
_FEWEST = 10
"""labels of the targeted share"""
_FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved:
    """What looking where failures are suspected has brought."""

    num_labels: int
    """of the targeted share, in batches of which random labels are back too"""
    num_found: int
    """failures among them: the label says that the logged answer was wrong"""
    at_random: Estimate
    """failures that as many random labels of the same batches would have found"""
    saved: float | None
    """labels that random ones would take more for as many failures; None: no end to them"""
    low: float
    high: float | None
    """the same of the other end of the interval"""


def labels_saved(loop: Loop) -> Saved | None:
    """What targeting has saved over the last 60 nights; None below 10 targeted and 5 random labels.

    Formula: with f failures among n targeted labels, and the failure rate p of random labels, as
    many random labels would have found n p, and f failures take f / p of them: f / p - n are saved.
    p is Hajek's mean over the probability share with Wilson's interval, each batch weighed by its
    targeted labels, so that easy and hard nights count alike on both sides; the ends of the other
    numbers follow from its ends. f is a count of what was found and has no interval.
    """
    with loop.ledger.read() as connection:
        since = max(current_night_number(connection) - NIGHTS, 0)
        labeled = labeled_choices(connection, since)
        draws = draws_since(connection, since)
    both = _batches_of(labeled, Share.TARGETED) & _batches_of(labeled, Share.PROBABILITY)
    labeled = [one for one in labeled if one.batch_id in both]
    is_targeted = np.array([one.share is Share.TARGETED for one in labeled], dtype=bool)
    number = int(is_targeted.sum())
    if number < _FEWEST:
        return None
    wrong = _failures(loop, labeled)
    found = int(wrong[is_targeted].sum())
    rate = _rate(loop, labeled, wrong, [one for one in draws if one.batch_id in both])
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
    return {one.batch_id for one in labeled if one.share is share}


def _failures(loop: Loop, labeled: Sequence[LabeledChoice]) -> Array:
    """(N,) whether production was wrong: abstain.failure or the metric, else disagreement.

    There is at least one label: an empty table has no scores to tell a failure by.
    """
    project = loop.project
    rows = [
        score_one(loop.task, one.sample_id, one.answer, one.label)
        | {CONFIDENCE: one.confidence, LATENCY: one.latency_ms}
        for one in labeled
    ]
    names = set.intersection(*map(set, rows))
    table = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in names}
    metric = compile_formula(project.metric.optimize, project.directory)
    wrong = failed(table, project.abstain, metric, higher_is_better=project.metric.higher_is_better)
    if wrong is not None:
        return wrong
    agree = loop.task.agree
    return np.array([not agree(one.answer, one.label) for one in labeled], dtype=bool)


def _rate(
    loop: Loop, labeled: Sequence[LabeledChoice], wrong: Array, draws: Sequence[Drawn]
) -> Estimate | None:
    """The failure rate of random labels; a batch weighs as much as it has targeted ones."""
    targeted = Counter(one.batch_id for one in labeled if one.share is Share.TARGETED)
    places = {draw.batch_id: index for index, draw in enumerate(draws)}
    random = [index for index, one in enumerate(labeled) if one.share is Share.PROBABILITY]
    chosen = [labeled[index] for index in random]
    returned = Returned(
        ids=tuple(one.sample_id for one in chosen),
        scores={_FAILED: wrong[random].astype(np.float64)},
        confidences=np.array([one.confidence for one in chosen]),
        probabilities=np.array([one.inclusion_probability or np.nan for one in chosen]),
        clusters=np.unique([one.group for one in chosen], return_inverse=True)[1],
        batches=np.array([places[one.batch_id] for one in chosen], dtype=np.int64),
        populations=tuple(
            Population(size=targeted[draw.batch_id], mean_confidence=None, night=draw.night)
            for draw in draws
        ),
    )
    rng = np.random.default_rng(loop.project.project.seed)
    found = production_estimate(compile_formula(_FAILED, loop.project.directory), returned, rng)
    return None if found is None else found.estimate
