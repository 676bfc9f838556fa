"""Answers to scores: every entrant on the same rows, decoded once, in one pass.

Refuses to know what a score means; it only insists that it is a finite number under a known name.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence

import numpy as np

from flywheel.errors import SettingsError, TaskError
from flywheel.evaluate.rows import Rows, ScoreTable
from flywheel.model import Model
from flywheel.records import Array, Json
from flywheel.task import Predictor, Task

_CHUNK = 256


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
