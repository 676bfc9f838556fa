"""Laws on scores: what is right scores best, and training makes answers right.

A task does not say whether a score is better high or low, so the laws find it out: a label
compared with itself must be at one end of all the scores, the same end for every label.
"""

from __future__ import annotations

import itertools
import math
from types import MappingProxyType

import numpy as np

from flywheel.checks.subject import STEPS, Law, Subject
from flywheel.records import Array, Json

_ALL_OR_NOTHING = 0.9
"""of the way from other samples' scores to the best, due of a score that is 0 or 1"""
_BY_DEGREES = 0.25
"""the same of a distance, which a few steps do not bring to zero"""


def _scores_are_finite(subject: Subject) -> str | None:
    labels = subject.labels
    rows = [subject.task.scores(a, b) for a, b in zip(labels, labels[1:] + labels[:1], strict=True)]
    if not rows[0]:
        return "scores() is empty; give at least the score that the metric optimizes"
    for row in rows:
        if row.keys() != rows[0].keys():
            return f"scores() has {sorted(row)} once and {sorted(rows[0])} before; keep the names"
        for name, value in row.items():
            if not isinstance(value, (int, float)) or not math.isfinite(value):
                return f"score {name!r} is {value!r}; a finite number is allowed"
    return None


def _right_answers_score_best(subject: Subject) -> str | None:
    tables = _tables(subject, subject.some_labels)
    if not tables:
        return "no score depends on both the answer and the label; give one that compares the two"
    for name, table in tables.items():
        perfect = np.diag(table)
        if len(table) > 1 and np.ptp(table) == 0:
            return f"score {name!r} is {table[0, 0]:.4g} for every answer; it measures nothing"
        if not ((table <= perfect).all() or (table >= perfect).all()):
            return (
                f"score {name!r}: some wrong answer scores better than the label itself does; "
                "scores(label, label) must be the best there is, for every label"
            )
    return None


def _training_makes_answers_right(subject: Subject) -> str | None:
    """Catches classes that are counted in one order in targets() and another in answers()."""
    *_, answers = subject.overfitted
    labels = subject.labels
    for name, table in _tables(subject, labels).items():
        got = [
            subject.task.scores(answer.value, label)[name]
            for answer, label in zip(answers, labels, strict=True)
        ]
        best, others = float(np.diag(table).mean()), float(table.mean())
        if best == others:
            continue  # all labels of the batch are alike
        way = (float(np.mean(got)) - others) / (best - others)
        due = _ALL_OR_NOTHING if set(table.ravel()) <= {0.0, 1.0} else _BY_DEGREES
        if not way >= due:
            return (
                f"after {STEPS} steps on {len(labels)} samples their mean {name!r} is "
                f"{np.mean(got):.4g}, where {best:.4g} is perfect and {others:.4g} is mixing them "
                "up; do targets() and answers() count the classes in the same order?"
            )
    return None


def _tables(subject: Subject, labels: list[Json]) -> dict[str, Array]:
    """For each score a table: answer down, label across; columns for formulas are left out."""
    rows = [subject.task.scores(a, b) for a, b in itertools.product(labels, repeat=2)]
    shape = (len(labels), len(labels))
    tables = {name: np.array([row[name] for row in rows]).reshape(shape) for name in rows[0]}
    return {name: table for name, table in tables.items() if not _is_column(table)}


def _is_column(table: Array) -> bool:
    """Whether it says what was answered or what is right, as a recall needs, and compares nothing."""
    of_label, of_answer = (
        bool((np.ptp(table, axis=0) == 0).all()),
        bool((np.ptp(table, axis=1) == 0).all()),
    )
    return of_label != of_answer


SCORE_LAWS: MappingProxyType[str, Law] = MappingProxyType(
    {
        "scores() are finite, under the same names": _scores_are_finite,
        "no answer scores better than the right one": _right_answers_score_best,
        "training on a few samples makes their answers right": _training_makes_answers_right,
    }
)
"""what a law says -> the law"""
