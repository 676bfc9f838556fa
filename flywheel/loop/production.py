"""The production estimate of a night: what was logged and what came back, brought together.

It tells people how production fares, on labels that may still be sealed; no decision reads it.
"""

from __future__ import annotations

import numpy as np

from flywheel.evaluate import Population, Returned, production_estimate
from flywheel.evaluate.context import LATENCY
from flywheel.evaluate.scoring import CONFIDENCE, score_one
from flywheel.ledger.batches import Drawn, LabeledChoice, draws_since, labeled_choices
from flywheel.loop.context import Loop
from flywheel.metrics.compiled import compile_formula
from flywheel.metrics.names import check_scores
from flywheel.metrics.scores import ScoreTable
from flywheel.records import ProductionEstimate

_NIGHTS = 7
"""whose batches count, tonight's included: a week holds every weekday once"""


def estimate_production(loop: Loop, night_number: int) -> ProductionEstimate | None:
    """The metric in production over the last 7 nights, from the labels that are back.

    The logged answers count, whichever model gave them; nothing is asked again. None below 5
    labels of the probability share.

    Raises:
        SettingsError: the metric names a score that the task does not give.
        TaskError: a score is no finite number.
    """
    since = night_number - _NIGHTS + 1
    with loop.ledger.read() as connection:
        labeled = labeled_choices(connection, since)
        draws = draws_since(connection, since)
    if not labeled:
        return None
    project = loop.project
    statistic = compile_formula(project.metric.optimize, project.directory)
    returned = _returned(labeled, draws, _scores(loop, labeled))
    check_scores(statistic, sorted(returned.scores))
    rng = np.random.default_rng([project.project.seed, night_number])
    return production_estimate(statistic, returned, rng)


def _scores(loop: Loop, labeled: list[LabeledChoice]) -> ScoreTable:
    rows = [
        {
            **score_one(loop.task, one.sample_id, one.answer, one.label),
            CONFIDENCE: one.confidence,
            LATENCY: one.latency_ms,
        }
        for one in labeled
    ]
    names = set.intersection(*(set(row) for row in rows))
    return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in names}


def _returned(labeled: list[LabeledChoice], draws: list[Drawn], scores: ScoreTable) -> Returned:
    places = {draw.batch_id: index for index, draw in enumerate(draws)}
    chances = [one.inclusion_probability or np.nan for one in labeled]
    return Returned(
        ids=tuple(one.sample_id for one in labeled),
        scores=scores,
        confidences=np.array([one.confidence for one in labeled]),
        probabilities=np.array(chances, dtype=np.float64),
        clusters=np.unique([one.group for one in labeled], return_inverse=True)[1],
        batches=np.array([places[one.batch_id] for one in labeled], dtype=np.int64),
        populations=tuple(
            Population(size=draw.population, mean_confidence=draw.mean_confidence, night=draw.night)
            for draw in draws
        ),
    )
