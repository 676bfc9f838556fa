"""Outcomes as training rows: an answer that worked is a label, one that failed is an answer to avoid.

They cost nothing and are less certain than a label by annotators, which always takes precedence.
Where a sample has both, the two are compared, and from that comes how far outcomes are trusted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from flywheel.dataset.leakage import Dropped
from flywheel.faults import NO_ANSWER
from flywheel.ledger.predictions import Outcome, newest_outcomes, outcomes_of
from flywheel.records import FAILED, WORKED, DatasetRow, Json, Split
from flywheel.task import Task

_PRIOR_RIGHT, _PRIOR_WRONG = 9, 1
_LEAST_TRUST = 0.5
_STEP = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Trust:
    """How far outcomes of one kind are trusted, from samples that also have a label."""

    num_compared: int
    num_right: int
    """outcomes that the label bears out"""

    @property
    def weight(self) -> float:
        """The weight of a row in training; 0 below 0.5, where such rows would mostly take up steps.

        Formula: 2 p - 1 with p = (9 + right) / (10 + compared), the mean of a Beta posterior whose
        prior, Beta(9, 1), says 0.9: outcomes that are always right weigh 1, a coin weighs 0. It is
        rounded to 0.05, so that another comparison alone makes no new dataset version.
        """
        number = _PRIOR_RIGHT + _PRIOR_WRONG + self.num_compared
        trust = 2 * (_PRIOR_RIGHT + self.num_right) / number - 1
        return round(round(trust / _STEP) * _STEP, 2) if trust >= _LEAST_TRUST else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class OutcomeRows:
    """The rows that outcomes give, and what was found about them."""

    rows: list[DatasetRow]
    dropped: list[Dropped]
    """answers that the task cannot read any more"""
    note: str
    """how many train, and how far they are trusted; "" without outcomes"""


def read_outcomes(
    connection: Connection, task: Task, labels: Mapping[str, Json], known: set[str], limit: int
) -> OutcomeRows:
    """Return the rows of the newest outcomes on samples without a label.

    Args:
        connection: to the ledger.
        task: reads and compares answers.
        labels: answers of annotators by sample, for the trust; of samples that may train alone.
        known: samples with a label of any source.
        limit: number of newest outcomes to read.
    """
    if limit == 0:
        return OutcomeRows(rows=[], dropped=[], note="")
    found = [one for one in newest_outcomes(connection, limit) if one.sample_id not in known]
    valid, dropped = _valid(task, found)
    compared, _ = _valid(task, outcomes_of(connection, list(labels)))
    rows, notes = list[DatasetRow](), list[str]()
    for kind in (WORKED, FAILED):
        mine = [one for one in valid if one.worked == (kind == WORKED)]
        if not mine:
            continue
        trust = _trust(task, kind, compared, labels)
        trains = trust.weight > 0 and (kind == WORKED or task.loss_not is not None)
        notes.append(_note(kind, len(mine), trust, trains=trains))
        rows += [_row(one, kind, trust.weight) for one in mine] if trains else []
    return OutcomeRows(rows=rows, dropped=dropped, note="; ".join(notes))


def _trust(task: Task, kind: str, compared: Sequence[Outcome], labels: Mapping[str, Json]) -> Trust:
    """Return how often labels bear out that an answer worked, or that it failed."""
    agrees = [
        task.agree(one.answer, labels[one.sample_id])
        for one in compared
        if one.worked == (kind == WORKED)
    ]
    num_right = sum(agrees) if kind == WORKED else len(agrees) - sum(agrees)
    return Trust(num_compared=len(agrees), num_right=num_right)


def _row(outcome: Outcome, kind: str, weight: float) -> DatasetRow:
    return DatasetRow(
        sample_id=outcome.sample_id,
        split=Split.TRAIN,
        origin=kind,
        answer=outcome.answer,
        weight=weight,
    )


def _note(kind: str, number: int, trust: Trust, *, trains: bool) -> str:
    proof = f"right on {trust.num_right} of {trust.num_compared} with a label"
    if trains:
        proof = proof if trust.num_compared else "no label to compare with"
        return f"{number:,} answers that {kind} train with weight {trust.weight:g}, {proof}"
    why = f"outcomes are {proof}" if trust.weight == 0 else "the task has no loss_not"
    return f"{number:,} answers that {kind} do not train, {why}"


def _valid(task: Task, outcomes: Sequence[Outcome]) -> tuple[list[Outcome], list[Dropped]]:
    """Return the outcomes whose answers the task can read, and the others with the reason."""
    valid, dropped = list[Outcome](), list[Dropped]()
    for outcome in outcomes:
        try:
            task.scores(outcome.answer, outcome.answer)
            task.targets([outcome.answer])
        except NO_ANSWER as error:
            fault = str(error) or type(error).__name__
            reason = f"its outcome is on {outcome.answer!r}, not an answer of the task: {fault}"
            dropped.append(Dropped(sample_id=outcome.sample_id, split=Split.TRAIN, reason=reason))
        else:
            valid.append(outcome)
    return valid, dropped
