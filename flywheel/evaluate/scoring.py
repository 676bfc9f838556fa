"""Answers to scores: every entrant on the same rows, decoded once, in one pass.

Rows go in pieces of a fixed size, and a model sees the same batches wherever a piece is scored: here
or in other processes, the numbers are the same. Refuses to know what a score means; it only
insists that it is a finite number under a known name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from flywheel.errors import TaskError
from flywheel.evaluate.book import Rows
from flywheel.metrics.scores import ScoreTable
from flywheel.model import Model
from flywheel.records import Answer, Json
from flywheel.task import Predictor, Task

CONFIDENCE = "confidence"
"""a score that every model has: the confidence of its answer"""

_CHUNK = 256
_PIECE = 8 * _CHUNK
"""so many rows go to another process at once; whole batches, or the batches would be others"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Rows for some models to answer, by name only, so that it is small to send."""

    sample_ids: tuple[str, ...] = field(repr=False)
    labels: tuple[Json, ...] = field(repr=False)
    digests: Mapping[str, str]
    """entrant -> its weights"""
    device: str
    """where the run itself would score"""


Spread = Callable[[Sequence[Piece]], Iterable[Mapping[str, ScoreTable]]]
"""pieces -> the scores of each by entrant, in order, as `score_models` gives them"""


def score_entrants(
    task: Task,
    rows: Rows,
    models: Mapping[str, Model],
    predictors: Mapping[str, Predictor],
    spread: Spread | None = None,
) -> dict[str, ScoreTable]:
    """Scores of every model and predictor on the same rows, by entrant; {} when there is no row.

    A model's table has the confidence of its answers too. Other processes answer for the models
    when there is a `spread`; the numbers are the same.

    Raises:
        TaskError: an entrant gives too few answers, or a score is no finite number.
    """
    if not rows.samples:
        return {}
    starts = range(0, len(rows.samples), _PIECE)
    parts = [
        Rows(samples=rows.samples[at : at + _PIECE], answers=rows.answers[at : at + _PIECE])
        for at in starts
    ]
    if spread is None or not models:
        scored = [score_models(task, part, models) for part in parts]
    else:
        scored = [dict(tables) for tables in spread([_piece(part, models) for part in parts])]
    tables = {name: _joined([tables[name] for tables in scored], name) for name in models}
    for name, predict in predictors.items():
        tables[name] = score_answers(task, rows, list(predict(rows.samples)), name)
    return tables


def score_models(task: Task, rows: Rows, models: Mapping[str, Model]) -> dict[str, ScoreTable]:
    """Scores and confidence of every model on one piece of the rows, by entrant.

    Raises:
        TaskError: a model gives too few answers, or a score is no finite number.
    """
    answers: dict[str, list[Answer]] = {name: [] for name in models}
    for start in range(0, len(rows.samples), _CHUNK):
        inputs = task.inputs(rows.samples[start : start + _CHUNK])
        for name, model in models.items():
            answers[name] += model.answer(inputs)
    return {
        name: _with_confidence(
            score_answers(task, rows, [answer.value for answer in given], name), given, name
        )
        for name, given in answers.items()
    }


def _piece(rows: Rows, models: Mapping[str, Model]) -> Piece:
    return Piece(
        sample_ids=rows.ids,
        labels=tuple(rows.answers),
        digests={name: model.digest for name, model in models.items()},
        device=str(next(iter(models.values())).device),
    )


def _joined(tables: Sequence[ScoreTable], who: str) -> ScoreTable:
    """The scores of all rows from those of the pieces."""
    names = sorted(tables[0])
    for table in tables:
        if sorted(table) != names:
            raise TaskError(
                f"{who} has the scores {sorted(table)} on some samples and {names} on others; "
                "the task's scores function returns the same names for every sample"
            )
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def _with_confidence(table: ScoreTable, answers: Sequence[Answer], who: str) -> ScoreTable:
    if CONFIDENCE in table:
        raise TaskError(
            f"{who} has a score called {CONFIDENCE!r}, which is the answer's own confidence; "
            "give the task's score another name"
        )
    return {**table, CONFIDENCE: np.array([answer.confidence for answer in answers])}


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
