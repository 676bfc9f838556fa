"""What is measured on: rows of a dataset with their samples, and production by the labels that came back.

The production estimate also uses sealed labels, which is allowed because no decision reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from flywheel.artifact import load_model
from flywheel.evaluate import (
    Population,
    Returned,
    Rows,
    Rules,
    logged_right,
    production_estimate,
)
from flywheel.evaluate.book import LATENCY
from flywheel.evaluate.scoring import CONFIDENCE, score_one
from flywheel.gpu import hold_devices
from flywheel.ledger.batches import (
    Drawn,
    LabeledChoice,
    draws_since,
    labeled_choices,
    unanswered_draws,
)
from flywheel.ledger.samples import groups_of, load_each, load_samples
from flywheel.loop.context import Loop
from flywheel.metrics.compiled import compile_formula
from flywheel.metrics.names import check_scores
from flywheel.metrics.scores import ScoreTable, answer_columns
from flywheel.model import Model, cpu_threads, pick_device
from flywheel.records import (
    Array,
    DatasetRow,
    Json,
    ProductionEstimate,
    Sample,
)

_NIGHTS = 7
"""nights whose batches count, including tonight's: a week has every weekday once"""


def estimate_production(loop: Loop, night_number: int) -> ProductionEstimate | None:
    """The metric in production over the last 7 nights, from the labels that have come back.

    It scores the logged answers, whichever model gave them; no model runs. None below 5 labels of
    the probability share.

    Raises:
        SettingsError: the metric names a score that the task does not give.
        TaskError: a score is not a finite number.
    """
    since = night_number - _NIGHTS + 1
    with loop.ledger.read() as connection:
        labeled = labeled_choices(connection, since)
        draws = draws_since(connection, since)
        unanswered = unanswered_draws(connection, since)
    if not labeled:
        return None
    project = loop.project
    statistic = compile_formula(project.metric.optimize, project.directory)
    scores = _scores(loop, labeled)
    if statistic.needs_answers:
        scores |= answer_columns(
            [choice.answer for choice in labeled], [choice.label for choice in labeled]
        )
    returned = _returned(labeled, draws, unanswered, scores)
    check_scores(statistic, sorted(returned.scores))
    rng = np.random.default_rng([project.project.seed, night_number])
    return production_estimate(statistic, returned, rng)


def _scores(loop: Loop, labeled: Sequence[LabeledChoice]) -> ScoreTable:
    rows = [
        {
            **score_one(loop.task, choice.sample_id, choice.answer, choice.label),
            CONFIDENCE: choice.confidence,
            LATENCY: choice.latency_ms,
        }
        for choice in labeled
    ]
    names = set.intersection(*(set(row) for row in rows))
    return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in names}


def _returned(
    labeled: Sequence[LabeledChoice],
    draws: Sequence[Drawn],
    unanswered: Mapping[str, float],
    scores: ScoreTable,
) -> Returned:
    places = {draw.batch_id: index for index, draw in enumerate(draws)}
    # What was drawn from earlier production is of no population here.
    probabilities = [
        choice.inclusion_probability or np.nan if choice.batch_id in places else np.nan
        for choice in labeled
    ]
    return Returned(
        ids=tuple(choice.sample_id for choice in labeled),
        scores=scores,
        confidences=np.array([choice.confidence for choice in labeled]),
        probabilities=np.array(probabilities, dtype=np.float64),
        clusters=np.unique([choice.group for choice in labeled], return_inverse=True)[1],
        batches=np.array([places.get(choice.batch_id, 0) for choice in labeled], dtype=np.int64),
        populations=tuple(
            Population(
                size=draw.population,
                mean_confidence=draw.mean_confidence,
                night=draw.night,
                unanswered=unanswered.get(draw.batch_id, 0.0),
            )
            for draw in draws
        ),
    )


def load(loop: Loop, digest: str, device: str = "cpu") -> Model:
    """The model of a checkpoint on a device, which [train] device or the lock of the GPUs names."""
    return load_model(loop.ledger, loop.blobs, loop.task, digest, pick_device(device))


@contextmanager
def device_of(loop: Loop) -> Iterator[str]:
    """Hold the device that models are asked on, with the threads that a CPU has for it."""
    settings = loop.project.train
    with (
        hold_devices(settings.device, loop.project.name) as held,
        cpu_threads(settings.cpu_threads),
    ):
        yield held.names[0]


def rules_of(loop: Loop) -> Rules:
    """The project's settings of what is measured."""
    project = loop.project
    return Rules(metric=project.metric, abstain=project.abstain, directory=project.directory)


def right_by_label(loop: Loop, known: Mapping[str, tuple[Json, Json]]) -> dict[str, bool]:
    """Sample -> whether what the log says of it is right by its label; `known` has answer and label.

    Empty where neither the metric nor abstain.failure says when an answer is wrong.

    Raises:
        TaskError: a score is not a finite number.
    """
    samples = [Sample(id=name, payload=b"", media_type="") for name in known]
    rows = Rows(samples=samples, answers=[label for _, label in known.values()])
    said = [answer for answer, _ in known.values()]
    right = logged_right(loop.task, rows, said, rules_of(loop))
    return {} if right is None else dict(zip(known, right, strict=True))


def rows_of(
    loop: Loop,
    rows: list[DatasetRow],
    marks: Mapping[str, Array] | None = None,
    *,
    leaves_out: bool = False,
) -> Rows:
    """The rows with their samples; those whose payload is gone raise, or are left out."""
    with loop.ledger.read() as connection:
        if leaves_out:
            there, _ = load_each(connection, loop.blobs, [row.sample_id for row in rows])
            rows = [row for row in rows if row.sample_id in there]
            samples = list(there.values())
        else:
            samples = load_samples(connection, loop.blobs, [row.sample_id for row in rows])
        names = [row.sample_id for row in rows]
        groups = groups_of(connection, names)
    return Rows(
        samples=samples,
        answers=[row.answer for row in rows],
        weights=np.array([row.weight for row in rows]),
        groups=[groups[name] for name in names],
        marks=marks or {},
    )
