"""Answers to scores: every entrant on the same rows, decoded once, in one pass.

Refuses to know what a score means; it only insists that it is a finite number under a known name.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from flywheel.errors import SettingsError, TaskError
from flywheel.evaluate.stats import Scored
from flywheel.model import Model
from flywheel.records import Array, Json, Sample
from flywheel.task import Predictor, Task

_CHUNK = 256

ScoreTable = dict[str, Array]
"""name of a score -> (N,) float64"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Labeled samples of a dataset version."""

    samples: Sequence[Sample] = field(repr=False)
    answers: Sequence[Json] = field(repr=False)
    """the label of each sample"""
    weights: Sequence[float] | Array | None = field(default=None, repr=False)
    """1 / inclusion probability of each sample; None weighs all alike"""

    def __post_init__(self) -> None:
        num_weights = len(self.samples) if self.weights is None else len(self.weights)
        if not len(self.samples) == len(self.answers) == num_weights:
            raise ValueError(
                f"{len(self.samples)} samples, {len(self.answers)} answers and {num_weights} "
                "weights; pass one answer and one weight for each sample"
            )

    @property
    def ids(self) -> tuple[str, ...]:
        """The sample ids, in order."""
        return tuple(sample.id for sample in self.samples)

    def scored(self, values: Array) -> Scored:
        """Scores (N,) of these rows with their ids and weights."""
        return Scored(ids=self.ids, values=values, weights=self.weight_array())

    def weight_array(self) -> Array:
        """(N,) float64, ones when there are no weights."""
        if self.weights is None:
            return np.ones(len(self.samples))
        return np.asarray(self.weights, dtype=np.float64)


def score_entrants(
    task: Task, rows: Rows, models: Mapping[str, Model], predictors: Mapping[str, Predictor]
) -> dict[str, ScoreTable]:
    """Scores of every model and predictor on the same rows, by entrant; {} when there is no row.

    Raises:
        TaskError: an entrant gives too few answers, or a score is no finite number.
    """
    if not rows.samples:
        return {}
    answers: dict[str, list[Json]] = {name: [] for name in models}
    for start in range(0, len(rows.samples), _CHUNK):
        inputs = task.inputs(rows.samples[start : start + _CHUNK])
        for name, model in models.items():
            answers[name] += [answer.value for answer in model.answer(inputs)]
    for name, predict in predictors.items():
        answers[name] = list(predict(rows.samples))
    return {name: score_answers(task, rows, given, name) for name, given in answers.items()}


def score_answers(task: Task, rows: Rows, answers: Sequence[Json], who: str) -> ScoreTable:
    """All scores of one entrant's answers, one answer a row.

    Raises:
        TaskError: the number of answers is another one, the names of the scores change from
            sample to sample, or a score is no finite number.
    """
    if len(answers) != len(rows.samples):
        raise TaskError(
            f"{who} gave {len(answers)} answers for {len(rows.samples)} samples; "
            "a predictor returns one answer for each sample"
        )
    pairs = zip(rows.samples, answers, rows.answers, strict=True)
    scores = [score_one(task, sample.id, answer, label) for sample, answer, label in pairs]
    names = sorted(scores[0])
    for sample, row in zip(rows.samples, scores, strict=True):
        if sorted(row) != names:
            raise TaskError(
                f"sample {sample.id} has the scores {sorted(row)}, another one has {names}; "
                "the task's scores function returns the same names for every sample"
            )
    return {name: np.array([row[name] for row in scores], dtype=np.float64) for name in names}


def score_one(task: Task, sample_id: str, answer: Json, label: Json) -> dict[str, float]:
    """The scores of one answer.

    Raises:
        TaskError: a score is no finite number.
    """
    scores = task.scores(answer, label)
    for name, score in scores.items():
        if not math.isfinite(score):
            raise TaskError(
                f"sample {sample_id}: the score {name!r} of the answer {answer!r} is {score}; "
                "a score is a finite number: mend the task's scores function"
            )
    return scores


def pick_score(table: ScoreTable, name: str) -> Array:
    """The score that metric.optimize names.

    Raises:
        SettingsError: the task has no score of that name.
    """
    if name not in table:
        nearest = difflib.get_close_matches(name, table, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(sorted(table))}"
        raise SettingsError(f"metric.optimize = {name!r} is no score of the task; {hint}")
    return table[name]
