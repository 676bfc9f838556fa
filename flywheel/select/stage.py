"""The select stage: chooses a batch from production since the last batch.

The probability share is a Poisson draw from the groups that can only test. The targeted share is
the strongest waiting failures of the groups that can train, spread over the data. No sample is
chosen twice, and all batches of a night together stay within its budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from sqlalchemy import Connection

from flywheel.ledger import Ledger
from flywheel.ledger.batches import add_batch
from flywheel.ledger.failures import move_failures, strongest_failures
from flywheel.ledger.requests import answers_asked
from flywheel.ledger.windows import Candidate, embeddings, move_watermark, population, watermark
from flywheel.records import (
    Batch,
    Choice,
    Failure,
    FailureState,
    Share,
    Split,
    canonical,
    content_id,
)
from flywheel.select.sampling import (
    inclusion_probabilities,
    poisson_sample,
    spread,
    stack_embeddings,
)
from flywheel.settings.labeling import LabelingSettings

_MARK = "selected"
_POOL = 2_000
"""strongest waiting failures that compete for the targeted share"""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Draw:
    """The probability share, with the facts of the population that its weights rest on."""

    choices: tuple[Choice, ...]
    population: int
    mean_confidence: float | None
    least_probability: float | None


def select_batch(
    ledger: Ledger,
    settings: LabelingSettings,
    *,
    seed: int,
    night: int,
    now: datetime,
    most_answers: int | None = None,
) -> Batch:
    """Choose and store a batch, and queue its samples for labeling.

    Batch and watermark are stored in one transaction. Another call in the same night spends only
    what is left of the night's budget. If nothing is left, new production waits for the next
    budget, so that every sample gets its chance to be drawn.

    Args:
        ledger: the project's.
        settings: how many answers a night asks for, and of how many annotators.
        seed: seed of the draw.
        night: night whose budget is spent.
        now: time of creation.
        most_answers: answers that the money allows; None: only the settings limit them.
    """
    with ledger.begin() as connection:
        after = watermark(connection, _MARK)
        upto = watermark(connection, "predictions collected")
        rng = np.random.default_rng([seed, night, upto])
        each = settings.annotations_per_sample
        budget = settings.samples_per_night * each - answers_asked(connection, night)
        left = max(min(budget, budget if most_answers is None else most_answers), 0)
        if left < each:
            upto = after
        candidates = population(connection, after, upto, Split.TEST)
        drawn = _probability_share(candidates, left // each, settings, rng)
        targeted = _targeted_share(connection, left - len(drawn.choices) * each, settings, rng)
        chosen = (*drawn.choices, *targeted)
        text = canonical([night, after, upto, [choice.sample_id for choice in chosen]])
        batch = Batch(
            id=content_id(text.encode()),
            choices=chosen,
            night=night,
            population=drawn.population,
            mean_confidence=drawn.mean_confidence,
            least_probability=drawn.least_probability,
            created_at=now,
        )
        if upto > after or chosen:
            add_batch(connection, batch)
            queued = [choice.sample_id for choice in chosen]
            move_failures(connection, queued, FailureState.QUEUED, night, now)
            move_watermark(connection, _MARK, upto)
    return batch


def _probability_share(
    candidates: Sequence[Candidate],
    left: int,
    settings: LabelingSettings,
    rng: np.random.Generator,
) -> _Draw:
    confidence = np.array([candidate.confidence for candidate in candidates])
    uncertainty = 1.0 - np.clip(confidence, 0.0, 1.0)  # rounding may leave slightly more than 1
    wanted = inclusion_probabilities(uncertainty, left * settings.probability_share)
    drawn, probabilities = poisson_sample(wanted, left, rng)
    choices = [
        Choice(
            sample_id=candidates[index].sample_id,
            prediction_id=candidates[index].prediction_id,
            share=Share.PROBABILITY,
            reason=f"drawn at random with probability {probabilities[index]:.3g}",
            # Random, not by difficulty: if annotators stop half-way, the finished part is still a
            # random part of the draw, and the estimate stays unbiased.
            priority=float(rng.random()),
            inclusion_probability=float(probabilities[index]),
            num_annotators=settings.annotations_per_sample,
        )
        for index in drawn
    ]
    return _Draw(
        choices=tuple(choices),
        population=len(candidates),
        mean_confidence=float(confidence.mean()) if candidates else None,
        least_probability=float(probabilities.min()) if candidates else None,
    )


def _targeted_share(
    connection: Connection, left: int, settings: LabelingSettings, rng: np.random.Generator
) -> list[Choice]:
    """Choose as many failures as `left` answers allow; hard samples take more answers each."""
    size = left // settings.annotations_per_sample
    if size == 0:
        return []
    waiting = strongest_failures(connection, FailureState.SEEN, Split.TRAIN, _POOL)
    places = embeddings(connection, [failure.prediction_id for failure in waiting])
    vectors = stack_embeddings([places[failure.prediction_id] for failure in waiting])
    strength = np.array([failure.strength for failure in waiting])
    chosen = []
    for index in spread(strength, vectors, size, rng):
        choice = _targeted(waiting[index], settings)
        left -= choice.num_annotators
        if left < 0:
            break
        chosen.append(choice)
    return chosen


def _targeted(failure: Failure, settings: LabelingSettings) -> Choice:
    reasons = (
        f"{signal.name.replace('_', ' ')} {signal.strength:.2f}" for signal in failure.signals
    )
    num_annotators = settings.annotations_per_sample
    if failure.strength >= settings.hard_strength:
        num_annotators = settings.annotations_per_hard_sample or num_annotators
    return Choice(
        sample_id=failure.sample_id,
        prediction_id=failure.prediction_id,
        share=Share.TARGETED,
        reason=", ".join(reasons),
        priority=failure.strength,
        inclusion_probability=None,
        num_annotators=num_annotators,
    )
