"""The select stage: chooses a batch from production since the last batch.

The probability share is a Poisson draw from groups that no model was trained on: all of them, or
with `[dataset] holdout = "groups"` those that can only test. While challenges are open it leans
towards samples that a challenger answers otherwise than the champion. The targeted share is chosen by the
strategy of the settings from the other groups: from waiting failures and from recent production, all
scored again by the model that serves, until its part of the budget is spent. No sample is chosen
twice, and all batches of a night together stay within its budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import NamedTuple

import numpy as np

from flywheel.ledger import Ledger
from flywheel.ledger.batches import add_batch, has_batch, targeted_of
from flywheel.ledger.failures import move_failures
from flywheel.ledger.predictions import Agree
from flywheel.ledger.requests import answers_asked
from flywheel.ledger.windows import Candidate, move_watermark, population, watermark
from flywheel.records import (
    Array,
    Batch,
    Choice,
    FailureState,
    Share,
    Split,
    canonical,
    content_id,
    same_json,
)
from flywheel.select.pool import Serving, Suspect, read_pool, within_trust
from flywheel.select.sampling import inclusion_probabilities, leaning_probabilities, poisson_sample
from flywheel.select.strategies import EMPTY, Strategy, diverse
from flywheel.settings.labeling import LabelingSettings

_MARK = "selected"
_BACKLOG = 20_000
"""newest predictions that can still be drawn when there is too little new production"""
_MOST_ASKED = 2_000
"""samples, drawn evenly, that models are asked about before a draw that leans"""
_MOST_DRAWN_FROM = 100_000
"""of more, that many are drawn evenly first: chances are computed one by one"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rivals:
    """The models of the open challenges."""

    challengers: tuple[str, ...]
    champion_digest: str
    differ: Callable[[Sequence[str]], Array]
    """sample ids -> (N,) whether any challenger's answer differs from the champion's at all"""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Draw:
    """The probability share, with the facts of the population that its weights rest on."""

    choices: tuple[Choice, ...]
    population: int
    mean_confidence: float | None
    least_probability: float | None
    rivals: Rivals | None
    """None: the draw does not lean"""
    least_differing: float | None


def select_batch(
    ledger: Ledger,
    settings: LabelingSettings,
    *,
    seed: int,
    night: int,
    now: datetime,
    most_answers: int | None = None,
    agree: Agree = same_json,
    strategy: Strategy = diverse,
    serving: Serving | None = None,
    drawn_from: Split | None = None,
    fills: bool = True,
    rivals: Rivals | None = None,
) -> Batch:
    """Choose and store a batch, and queue its samples for labeling.

    Another call in a night spends what is left of its budget; without any, new production waits.

    Args:
        ledger: the project's.
        settings: how many answers a night asks for, and of how many annotators.
        seed: of the draw.
        night: whose budget is spent.
        now: time of creation.
        most_answers: answers that the money allows; None: only the settings limit them.
        agree: the task's: whether feedback was right to contradict an answer.
        strategy: chooses the targeted share.
        serving: the model that is asked about what other models answered; None: what was logged counts.
        drawn_from: split of the probability share; None: all of production.
        fills: whether production without a suspicion may fill the budget; not before the night.
        rivals: towards whose disagreement the probability share leans; None: no challenge is open.
    """
    each = settings.annotations_per_sample
    # Read first: asking a model takes long, and the model server must log meanwhile.
    with ledger.read() as connection:
        after = watermark(connection, _MARK)
        upto = watermark(connection, "predictions collected")
        rng = np.random.default_rng([seed, night, upto])
        budget = settings.samples_per_night * each - answers_asked(connection, night)
        left = max(budget if most_answers is None else min(budget, most_answers), 0)
        window = (after, after if left < each else upto)
        # A run after a kill must not draw once more, so only the night's first draw looks back.
        back = 0 if has_batch(connection, night) else _BACKLOG
        of = partial(population, connection, split=drawn_from)
        drawn, again = _draw_twice(of, (*window, back), left // each, settings, rng, rivals)
        chosen = (*drawn.choices, *again.choices)
        left -= len(chosen) * each
        before, size = targeted_of(connection, night), left // each
        believe = partial(within_trust, connection, size=size, chosen=before, agree=agree, rng=rng)
        names = [choice.sample_id for choice in chosen]
        suspects, pool = list[Suspect](), EMPTY
        if size:  # without a budget no model is asked about anything
            suspects, pool = read_pool(connection, upto, rng, believe, serving, names, fills=fills)
    picks = strategy(pool, size, rng)
    wanted = [(suspects[row], float(pool.doubt[row])) for row in picks]
    batch = _batch(night, window, drawn, _targeted_share(wanted, left, settings), now)
    second = _batch(night, window, again, (), now)
    _store(ledger, [one for one in (batch, second) if one.choices or one.population], window[1])
    return batch


def _draw_twice(
    production: Callable[[int, int], list[Candidate]],
    places: tuple[int, int, int],
    most: int,
    settings: LabelingSettings,
    rng: np.random.Generator,
    rivals: Rivals | None,
) -> tuple[_Draw, _Draw]:
    """Draw from new production; where it is less than is wanted, also from what earlier batches left.

    That draw has no population: earlier batches stand for that production already, and what they
    left is no random part of it.
    """
    after, upto, back = places
    new, old = production(after, upto), list[Candidate]()
    wanted = most * settings.probability_share
    drawn = _probability_share(new, wanted, most, settings, rng, rivals)
    missing = max(wanted - len(new), 0.0)
    if missing and back:
        again = {one.sample_id for one in new}
        before = production(max(after - back, 0), after)
        old = [one for one in before if one.sample_id not in again]
    left = most - len(drawn.choices)
    more = _probability_share(old, missing, left, settings, rng, rivals if old else None)
    return drawn, replace(more, population=0, mean_confidence=None)


def _store(ledger: Ledger, found: Sequence[Batch], upto: int) -> None:
    with ledger.begin() as connection:
        for batch in found:
            queued = [choice.sample_id for choice in batch.choices]
            add_batch(connection, batch)
            move_failures(connection, queued, FailureState.QUEUED, batch.night, batch.created_at)
        move_watermark(connection, _MARK, upto)


def _batch(
    night: int,
    window: tuple[int, int],
    drawn: _Draw,
    targeted: Sequence[Choice],
    now: datetime,
) -> Batch:
    chosen = (*drawn.choices, *targeted)
    text = canonical([night, *window, [choice.sample_id for choice in chosen]])
    return Batch(
        id=content_id(text.encode()),
        choices=chosen,
        night=night,
        population=drawn.population,
        mean_confidence=drawn.mean_confidence,
        least_probability=drawn.least_probability,
        challengers=drawn.rivals.challengers if drawn.rivals else (),
        champion_digest=drawn.rivals.champion_digest if drawn.rivals else None,
        least_differing=drawn.least_differing,
        created_at=now,
    )


def _probability_share(
    candidates: Sequence[Candidate],
    size: float,
    most: int,
    settings: LabelingSettings,
    rng: np.random.Generator,
    rivals: Rivals | None,
) -> _Draw:
    confidence = np.array([candidate.confidence for candidate in candidates])
    leaning = _leaning(candidates, size, rng, rivals) if rivals is not None and most else None
    asked: Array
    if leaning is None:
        asked = np.arange(len(candidates))
        if len(asked) > _MOST_DRAWN_FROM:
            asked = np.sort(rng.choice(asked, _MOST_DRAWN_FROM, replace=False))
        uncertainty = 1.0 - np.clip(confidence[asked], 0.0, 1.0)  # rounding may leave more than 1
        wanted = inclusion_probabilities(uncertainty, size)
    else:
        asked, wanted = leaning.asked, leaning.wanted
    taken, inclusion = poisson_sample(wanted, most, rng)
    # Those that were not asked about had their chance when the others were drawn.
    inclusion = inclusion * (len(asked) / max(len(candidates), 1))
    choices = [
        Choice(
            sample_id=candidates[index].sample_id,
            prediction_id=candidates[index].prediction_id,
            share=Share.PROBABILITY,
            reason=f"drawn at random with probability {probability:.3g}",
            # Random, not by difficulty: if annotators stop half-way, the finished part is still a
            # random part of the draw, and the estimate stays unbiased.
            priority=float(rng.random()),
            inclusion_probability=probability,
            num_annotators=settings.annotations_per_sample,
        )
        for index, probability in zip(asked[taken].tolist(), inclusion[taken].tolist(), strict=True)
    ]
    return _Draw(
        choices=tuple(choices),
        population=len(candidates),
        mean_confidence=float(confidence.mean()) if candidates else None,
        least_probability=float(inclusion.min()) if candidates else None,
        rivals=rivals if leaning is not None else None,
        least_differing=float(inclusion[leaning.differs].min()) if leaning is not None else None,
    )


class _Leaning(NamedTuple):
    """A draw of M that leans towards disagreement."""

    asked: Array
    """(M,) places of the candidates whose answers are known"""
    differs: Array
    """(M,)"""
    wanted: Array
    """(M,) inclusion probabilities among them"""


def _leaning(
    candidates: Sequence[Candidate], size: float, rng: np.random.Generator, rivals: Rivals
) -> _Leaning | None:
    """How to draw where two models differ; None when there is nothing to lean towards.

    Among those asked about the draw is a Poisson sample; they themselves are drawn evenly, without
    replacement, which keeps the gate's test valid: the expected product of its factors is at most
    that of independent draws (Maclaurin's inequality).
    """
    asked = np.sort(rng.choice(len(candidates), min(len(candidates), _MOST_ASKED), replace=False))
    differs = rivals.differ([candidates[place].sample_id for place in asked])
    wanted = leaning_probabilities(differs, size)
    return None if wanted is None else _Leaning(asked, differs, wanted)


def _targeted_share(
    wanted: Sequence[tuple[Suspect, float]], left: int, settings: LabelingSettings
) -> list[Choice]:
    """Take as many candidates as `left` answers allow; hard samples take more answers each."""
    chosen = []
    for suspect, doubt in wanted:
        choice = _targeted(suspect, doubt, settings)
        left -= choice.num_annotators
        if left < 0:
            break
        chosen.append(choice)
    return chosen


def _targeted(suspect: Suspect, doubt: float, settings: LabelingSettings) -> Choice:
    failure = suspect.failure
    signals = failure.signals if failure else ()
    reasons = [f"{signal.name.replace('_', ' ')} {signal.strength:.2f}" for signal in signals]
    num_annotators = settings.annotations_per_sample
    if failure is not None and failure.strength >= settings.hard_strength:
        num_annotators = settings.annotations_per_hard_sample or num_annotators
    return Choice(
        sample_id=suspect.sample_id,
        prediction_id=suspect.prediction_id,
        share=Share.TARGETED,
        reason=", ".join(reasons) or f"no signal, doubt {doubt:.2f}; no suspect was worth more",
        priority=failure.strength if failure else doubt,
        inclusion_probability=None,
        num_annotators=num_annotators,
    )
