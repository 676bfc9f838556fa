"""The select stage: one batch from what production saw since the last batch.

Probability share: a Poisson draw from the groups that can only test. Targeted share: the
strongest waiting failures of the groups that can train, spread over the data. No sample is
ever chosen twice, and all batches of a night together keep within its budget.
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
"""Waiting failures that compete; the weaker ones wait for another night."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Draw:
    """The probability share, and of the whole population what its labels will be weighed with."""

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

    One transaction: a batch is stored with the watermark behind it, or not at all. Run again
    for the same night it spends only what is left of the night's budget; when nothing is left,
    what came since waits for the next budget, so that everything gets its chance to be drawn.

    Args:
        ledger: of the project.
        settings: how many answers a night asks for, and of how many people.
        seed: of the draw.
        night: whose budget it spends.
        now: when.
        most_answers: that the money allows; None is no limit besides the settings'.
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
    uncertainty = 1.0 - np.clip(confidence, 0.0, 1.0)  # rounding may leave a bit more than 1
    wanted = inclusion_probabilities(uncertainty, left * settings.probability_share)
    drawn, probabilities = poisson_sample(wanted, left, rng)
    choices = [
        Choice(
            sample_id=candidates[index].sample_id,
            prediction_id=candidates[index].prediction_id,
            share=Share.PROBABILITY,
            reason=f"drawn at random with probability {probabilities[index]:.3g}",
            # By chance, not by difficulty: if people stop half-way, what they have done is
            # still a random part of the draw, and the estimate stays unbiased.
            priority=float(rng.random()),
            inclusion_probability=float(probabilities[index]),
            people=settings.annotations_per_sample,
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
    """As many as the answers left pay for; hard samples take more of them."""
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
        left -= choice.people
        if left < 0:
            break
        chosen.append(choice)
    return chosen


def _targeted(failure: Failure, settings: LabelingSettings) -> Choice:
    reasons = (f"{s.name.replace('_', ' ')} {s.strength:.2f}" for s in failure.signals)
    people = settings.annotations_per_sample
    if failure.strength >= settings.hard_strength:
        people = settings.annotations_per_hard_sample or people
    return Choice(
        sample_id=failure.sample_id,
        prediction_id=failure.prediction_id,
        share=Share.TARGETED,
        reason=", ".join(reasons),
        priority=failure.strength,
        inclusion_probability=None,
        people=people,
    )
