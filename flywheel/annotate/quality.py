"""Quality control: gold questions, expert reviews, re-checks of suspect labels, second opinions.

They are paid from the night's answers first; new samples get the rest. Another call in the same
night requests only what is still missing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import numpy as np
from sqlalchemy import Connection

from flywheel.annotate.evidence import Evidence, weigh_evidence
from flywheel.annotators import Doubt, Judged, rank_second_opinions, suspect_labels
from flywheel.ledger import Ledger
from flywheel.ledger.annotations import newest_labels
from flywheel.ledger.nights import add_skip
from flywheel.ledger.outbox import Asked, enqueue
from flywheel.ledger.requests import answers_asked, ask_more, asked_besides
from flywheel.ledger.reviews import doubtable, gold_candidates, how_asked, reviewed
from flywheel.project import Project
from flywheel.records import Purpose
from flywheel.task import Task

_TRUSTED = 0.95
"""reliability from which a label by several annotators may serve as a gold label"""
_FEW_TRUSTED = 20
"""trusted labels below which gold samples come from the start data, as long as it has any"""
_LIKELY_WRONG = 0.2
"""probability of a wrong label from which it is checked again"""
_LABELS = 5_000
"""newest labels that are compared with the model"""
_SECOND = "a second opinion is worth more than a new sample"
_SUSPECT = "the model contradicts the label"
_NO_GOLD = (
    "no sample has a known answer to ask about, so annotators are not measured. Give start_data, "
    "or ask two annotators about a sample with labeling.annotations_per_sample = 2"
)
_FIRST_IN_LINE = 1.0
"""priority of reviews"""


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityChecks:
    """Counts of the answers requested for quality control."""

    num_gold: int = 0
    """gold samples"""
    num_suspects: int = 0
    """labels that the model contradicts"""
    num_second: int = 0
    """second opinions"""
    num_review: int = 0
    """disputed samples that went to the experts"""


class _Budget:
    """Answers that may still be requested tonight."""

    def __init__(self, left: int) -> None:
        self.left = max(left, 0)

    def afford(self, number: int, each: int = 1) -> int:
        """Spend the answers for at most `number` samples; return how many are affordable."""
        can = max(min(number, self.left // each), 0)
        self.left -= can * each
        return can


class _Asking(NamedTuple):
    """Everything that each kind of check needs."""

    connection: Connection
    project: Project
    evidence: Evidence
    labeled: frozenset[str]
    """samples of the evidence that have a label"""
    already: dict[str, int]
    """reason or purpose -> answers requested by earlier calls of this night"""
    budget: _Budget
    total: int
    """answers of the whole night"""
    night: int
    now: datetime


def ask_quality_checks(
    ledger: Ledger,
    task: Task,
    project: Project,
    *,
    night: int,
    now: datetime,
    most_answers: int | None,
    rng: np.random.Generator,
) -> QualityChecks:
    """Request all answers that are worth more than a new sample, in one transaction.

    Args:
        ledger: the project's.
        task: decides which answers agree.
        project: its [labeling], [quality] and [annotators] are used.
        night: night whose answers are spent.
        now: time of the requests.
        most_answers: answers that the money allows; None is no limit.
        rng: generator that draws gold samples.
    """
    settings = project.labeling
    total = settings.samples_per_night * settings.annotations_per_sample
    with ledger.begin() as connection:
        suspects = _suspects(connection, task)
        evidence = weigh_evidence(connection, task, project.annotators, suspects)
        left = total - answers_asked(connection, night)
        asking = _Asking(
            connection=connection,
            project=project,
            evidence=evidence,
            labeled=_labeled(connection, evidence),
            already=asked_besides(connection, night),
            budget=_Budget(left if most_answers is None else min(left, most_answers)),
            total=total,
            night=night,
            now=now,
        )
        num_gold = _ask_gold(asking, rng)
        num_review = _ask_experts(asking)
        num_suspects = _ask_about_suspects(asking, suspects)
        num_second = _ask_second_opinions(asking)
    return QualityChecks(
        num_gold=num_gold, num_suspects=num_suspects, num_second=num_second, num_review=num_review
    )


def _suspects(connection: Connection, task: Task) -> list[str]:
    """Return labels that the model contradicts and that are likely wrong, most confident first.

    The prediction made when the sample was chosen counts, as the model had not trained on the
    label then.
    Formula: with a the share of labels that the model agrees with at this confidence or more, and
    r the label's reliability, P(wrong) = (1 - r) a / ((1 - r) a + r (1 - a)), by Bayes' rule if
    model and annotators err independently.
    """
    held = {doubt.sample_id: doubt for doubt in doubtable(connection, _LABELS)}
    judged = [
        Judged(
            sample=doubt.sample_id,
            agrees=task.agree(doubt.answer, doubt.label),
            confidence=doubt.confidence,
            name=doubt.answer if isinstance(doubt.answer, str) else None,
        )
        for doubt in held.values()
    ]
    found = []
    for suspect in suspect_labels(judged):
        confidence = held[suspect.sample].confidence
        agreeing = [label.agrees for label in judged if label.confidence >= confidence]
        right, reliability = sum(agreeing) / len(agreeing), held[suspect.sample].reliability
        wrong = (1.0 - reliability) * right
        if wrong >= _LIKELY_WRONG * (wrong + reliability * (1.0 - right)):
            found.append(suspect.sample)
    return found


def _ask_gold(asking: _Asking, rng: np.random.Generator) -> int:
    """Ask annotators about random samples with a trusted label; return how many samples."""
    quality = asking.project.quality
    wanted = _gold_due(quality.gold_share * asking.total / quality.gold_annotators, asking.night)
    wanted -= math.ceil(asking.already.get(Purpose.GOLD.value, 0) / quality.gold_annotators)
    trusted, start = gold_candidates(asking.connection, _TRUSTED)
    if wanted > 0 and not trusted and not start:
        add_skip(asking.connection, "gold questions", _NO_GOLD, asking.night, asking.now)
    number = min(max(wanted, 0), len(trusted) + len(start))
    number = asking.budget.afford(number, quality.gold_annotators)
    drawn = _draw_gold(trusted, start, number, rng)
    asked = (
        Asked(
            sample_id=sample_id,
            purpose=Purpose.GOLD,
            num_annotators=quality.gold_annotators,
            # A random place in the queue, so that the place does not reveal a gold sample.
            priority=float(rng.random()),
        )
        for sample_id in drawn
    )
    enqueue(asking.connection, asked, asking.night, asking.now)
    return number


def _draw_gold(
    trusted: Sequence[str], start: Sequence[str], number: int, rng: np.random.Generator
) -> list[str]:
    """So many gold samples: of each kind about half, while there are any left.

    Annotators who agree on a lie make trusted labels of it, which then speak for them. What the project
    began with is known without them.
    """
    kinds = [[kind[index] for index in rng.permutation(len(kind))] for kind in (trusted, start)]
    coins = rng.random(number) < (0.5 if len(trusted) >= _FEW_TRUSTED else 1.0)
    return [(kinds[coin] or kinds[1 - coin]).pop() for coin in coins.astype(int)]


def _gold_due(each_night: float, night: int) -> int:
    """Gold samples of a night: a fraction of one is carried over, and the first night has one.

    Formula: ceil(night x) - ceil((night - 1) x), x samples a night, so that after n nights it is
    n x rounded up.
    """
    upto, before = (math.ceil(round(number * each_night, 9)) for number in (night, night - 1))
    return upto - before


def _ask_experts(asking: _Asking) -> int:
    """Send samples to the experts that all available annotators answered without consensus."""
    if not asking.project.annotators.experts:
        return 0
    disputed = [key for key in asking.evidence.samples if key not in asking.labeled]
    able = set(_open_to_more(asking, disputed))
    # What annotators of an adopted project dispute is for that project to settle.
    ours = how_asked(asking.connection, disputed)
    stuck = [key for key in disputed if key in ours and key not in able]
    return _send_to_experts(asking, stuck, asking.budget.left)


def _ask_about_suspects(asking: _Asking, suspects: Sequence[str]) -> int:
    """Send suspect labels to the experts; without experts, to one more annotator."""
    wanted = round(asking.project.quality.suspect_share * asking.total)
    wanted -= asking.already.get(_SUSPECT, 0) + asking.already.get(Purpose.REVIEW.value, 0)
    if asking.project.annotators.experts:
        return _send_to_experts(asking, suspects, wanted)
    able = _open_to_more(asking, suspects)
    chosen = able[: asking.budget.afford(min(len(able), max(wanted, 0)))]
    ask_more(asking.connection, chosen, Purpose.CHOICE, _SUSPECT, asking.night, asking.now)
    return len(chosen)


def _ask_second_opinions(asking: _Asking) -> int:
    """Ask one more annotator where that is worth more than a new sample."""
    evidence, settings = asking.evidence, asking.project.labeling
    keys = _open_to_more(asking, list(evidence.samples))
    doubts = [
        Doubt(
            sample=key,
            chances=tuple(evidence.samples[key].chances.values()),
            is_label=key in asking.labeled,
        )
        for key in keys
    ]
    ranked = rank_second_opinions(
        doubts, evidence.crowd, settings.annotations_per_sample, settings.min_reliability
    )
    chosen = ranked[: asking.budget.afford(len(ranked))]
    ask_more(asking.connection, chosen, Purpose.CHOICE, _SECOND, asking.night, asking.now)
    return len(chosen)


def _labeled(connection: Connection, evidence: Evidence) -> frozenset[str]:
    labels = newest_labels(connection, list(evidence.samples))
    return frozenset(key for key, label in labels.items() if label.answer is not None)


def _open_to_more(asking: _Asking, sample_ids: Sequence[str]) -> list[str]:
    """Return samples with all requested answers that one more annotator can be asked about."""
    asked = how_asked(asking.connection, list(sample_ids))
    known = asking.evidence.crowd.annotators.values()
    num_annotators = sum(annotator.num_answers > 0 for annotator in known)
    most = min(asking.project.labeling.most_annotations, num_annotators)
    samples = asking.evidence.samples
    return [
        key
        for key in sample_ids
        if key in asked
        and asked[key].state == "done"
        and asked[key].num_annotators < most
        and len(samples[key].annotators if key in samples else ()) >= asked[key].num_annotators
    ]


def _send_to_experts(asking: _Asking, sample_ids: Sequence[str], most: int) -> int:
    known = reviewed(asking.connection, sample_ids)
    new = [key for key in sample_ids if key not in known]
    chosen = new[: asking.budget.afford(min(len(new), max(most, 0)))]
    asked = (
        Asked(
            sample_id=sample_id, purpose=Purpose.REVIEW, num_annotators=1, priority=_FIRST_IN_LINE
        )
        for sample_id in chosen
    )
    enqueue(asking.connection, asked, asking.night, asking.now)
    return len(chosen)
