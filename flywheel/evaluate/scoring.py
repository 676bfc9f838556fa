"""Scores the answers of all entrants on the same rows, in one pass that decodes each row once.

Rows are split into pieces of a fixed size, and a model sees the same batches wherever a piece is
scored, so the numbers are the same in this process and in others.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from flywheel.calls import copied
from flywheel.errors import TaskError
from flywheel.evaluate.book import Rows
from flywheel.metrics.scores import ScoreTable, answer_columns
from flywheel.model import Model, isolated
from flywheel.records import Answer, Json
from flywheel.task import Predictor, Task

CONFIDENCE = "confidence"
"""a score that every model has: the confidence of its answer"""

_CHUNK = 256
_PIECE = 8 * _CHUNK
"""rows that go to another process at once; a multiple of the batch size keeps batches the same"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Rows and models to score, by ids and digests only, so that a piece is small to send."""

    sample_ids: tuple[str, ...] = field(repr=False)
    labels: tuple[Json, ...] = field(repr=False)
    digests: Mapping[str, str]
    """entrant -> its weights"""
    device: str
    """on which the run itself would score"""
    keeps_answers: bool = False
    """see `Rows`"""


Spread = Callable[[Sequence[Piece]], Iterable[Mapping[str, ScoreTable]]]
"""pieces -> the scores of each piece, in order, as `score_models` returns them"""


def score_entrants(
    task: Task,
    rows: Rows,
    models: Mapping[str, Model],
    predictors: Mapping[str, Predictor],
    spread: Spread | None = None,
) -> dict[str, ScoreTable]:
    """Scores of every model and predictor on the same rows, by entrant; {} when there is no row.

    A model's table also has the confidence of its answers. With a `spread`, other processes score
    the models; the numbers are the same.

    Raises:
        TaskError: an entrant gives too few answers, or a score is not a finite number.
    """
    if not rows.samples:
        return {}
    _check_separate(list(models.values()))
    starts = range(0, len(rows.samples), _PIECE)
    parts = [
        Rows(
            samples=rows.samples[at : at + _PIECE],
            answers=rows.answers[at : at + _PIECE],
            keeps_answers=rows.keeps_answers,
        )
        for at in starts
    ]
    if spread is None or not models:
        scored = [score_models(task, part, models) for part in parts]
    else:
        scored = [dict(tables) for tables in spread([_piece(part, models) for part in parts])]
    tables = {name: _joined([tables[name] for tables in scored], name) for name in models}
    for name, predict in predictors.items():
        with isolated():
            answers = copied(list(predict(copied(list(rows.samples)))))
        tables[name] = score_answers(task, rows, answers, name)
    return tables


def _check_separate(models: Sequence[Model]) -> None:
    for one, other in itertools.combinations(models, 2):
        if not one.weight_places().isdisjoint(other.weight_places()):
            raise TaskError(
                f"task.model() gave one network for {one.digest[:12]} and {other.digest[:12]}, so "
                "that both have the weights that were loaded last. Return a new network each time"
            )


def score_models(task: Task, rows: Rows, models: Mapping[str, Model]) -> dict[str, ScoreTable]:
    """Scores and confidence of every model on one piece of the rows, by entrant.

    Raises:
        TaskError: a model gives too few answers, or a score is not a finite number.
    """
    answers: dict[str, list[Answer]] = {name: [] for name in models}
    for start in range(0, len(rows.samples), _CHUNK):
        # Decoded once for all models, of which each gets a copy: all see the same numbers.
        with isolated():
            inputs = task.inputs(copied(list(rows.samples[start : start + _CHUNK])))
        for name, model in models.items():
            with isolated():
                # A model under the code that it was made with also decodes with that code.
                given = (
                    model.answer_samples(copied(list(rows.samples[start : start + _CHUNK])))
                    if model.is_then
                    else model.answer(inputs)
                )
            # Copied: a task may hand out one list again and again, and change it.
            answers[name] += [replace(answer, value=copied(answer.value)) for answer in given]
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
        keeps_answers=rows.keeps_answers,
    )


def _joined(tables: Sequence[ScoreTable], who: str) -> ScoreTable:
    """The scores of all pieces, concatenated."""
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
    # One that is not finite is 0, as the model server stores it.
    found = [answer.confidence if math.isfinite(answer.confidence) else 0.0 for answer in answers]
    return {**table, CONFIDENCE: np.array(found)}


def score_answers(task: Task, rows: Rows, answers: Sequence[Json], who: str) -> ScoreTable:
    """All scores of one entrant's answers, one answer a row; with the answers when rows keep them.

    Raises:
        TaskError: there are not as many answers as rows, the names of the scores change from
            sample to sample, or a score is not a finite number.
    """
    if len(answers) != len(rows.samples):
        raise TaskError(
            f"{who} gave {len(answers)} answers for {len(rows.samples)} samples; "
            "a predictor returns one answer for each sample"
        )
    pairs = zip(rows.samples, answers, rows.answers, strict=True)
    with isolated():
        scores = [score_one(task, sample.id, answer, label) for sample, answer, label in pairs]
    names = sorted(scores[0])
    for sample, row in zip(rows.samples, scores, strict=True):
        if sorted(row) != names:
            raise TaskError(
                f"sample {sample.id} has the scores {sorted(row)}, another one has {names}; "
                "the task's scores function returns the same names for every sample"
            )
    table = {name: np.array([row[name] for row in scores], dtype=np.float64) for name in names}
    return table | (answer_columns(answers, rows.answers) if rows.keeps_answers else {})


def score_one(task: Task, sample_id: str, answer: Json, label: Json) -> dict[str, float]:
    """The scores of one answer.

    Raises:
        TaskError: a score is not a finite number.
    """
    scores = task.scores(answer, label)
    for name, score in scores.items():
        if not abs(score) <= sys.float_info.max:  # an int of hundreds of digits is not finite, too
            raise TaskError(
                f"sample {sample_id}: the score {name!r} of the answer {answer!r} is {score}, "
                "which is not a finite number. Fix the task's scores function"
            )
    return scores
