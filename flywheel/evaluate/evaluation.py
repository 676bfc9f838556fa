"""The judge's measurements: everyone on one frozen test set, in one run, into one report.

Stored scores are never compared with fresh ones: the champion is measured again beside the
candidate, on the same bytes in the same order. Refuses to decide anything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from flywheel.errors import FlywheelError
from flywheel.evaluate.archive import pack_scores
from flywheel.evaluate.baseline import (
    annotator_scores,
    fit_baselines,
)
from flywheel.evaluate.latency import latency_p95_ms
from flywheel.evaluate.lines import GUARD_ALPHA, Lines, Part
from flywheel.evaluate.rows import Rows
from flywheel.evaluate.scoring import score_entrants
from flywheel.model import Model
from flywheel.project import Metric
from flywheel.records import (
    Annotation,
    Report,
    canonical,
    content_id,
)
from flywheel.task import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationData:
    """The rows of one dataset version that measure, and those that the baselines learn from."""

    test: Rows
    """the frozen test set: samples of the probability share only"""
    start_test: Rows
    """held-out rows of the start data"""
    train: Rows
    """for the baselines"""
    annotations: Sequence[Annotation] = field(repr=False)
    """of samples of the test set; others are ignored"""
    dataset_id: str
    test_set_digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Contest:
    """Who is compared, on which night, at which error rate."""

    candidate: Model | None
    """None when nothing new was trained"""
    champion: Model | None
    """None before the first release"""
    night: int
    alpha: float
    """chance, in (0, 0.5), that one bound alone of the difference's interval fails"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """A report and the scores behind it."""

    report: Report
    scores: bytes = field(repr=False)
    """npz, see `archive.pack_scores`; its SHA-256 is report.scores_digest"""


def evaluate(
    task: Task,
    metric: Metric,
    data: EvaluationData,
    contest: Contest,
    *,
    rng: np.random.Generator,
    now: datetime,
) -> Evaluation:
    """Measure the candidate, the champion, the baselines and the annotators.

    A candidate with the champion's very weights counts as nothing new, and the champion's line
    says so. All but the latency is the same for the same arguments.

    Raises:
        FlywheelError: a sample is both trained on and tested on.
        SettingsError: metric.optimize is no score of the task.
        TaskError: a score is no finite number, or an entrant's answers do not fit the samples.
    """
    _check_apart(data)
    models, note = _models(contest)
    predictors, faults = fit_baselines(task.baselines, data.train)
    test, start = (
        Part(rows=rows, tables=score_entrants(task, rows, models, predictors))
        for rows in (data.test, data.start_test)
    )
    agreed, people = annotator_scores(task, data.test, data.annotations)
    lines = Lines(task=task, metric=metric, rng=rng, faults=faults, note=note)
    scores = pack_scores(
        {
            "test": (test.rows, test.tables),
            "start": (start.rows, start.tables),
            "annotated": (agreed, {"annotators": people}),
        }
    )
    candidate = models.get("candidate")
    report = Report(
        id="",
        night=contest.night,
        metric=metric.optimize,
        higher_is_better=metric.higher_is_better,
        candidate_digest=None if candidate is None else candidate.digest,
        champion_digest=models["champion"].digest if "champion" in models else None,
        dataset_id=data.dataset_id,
        test_set_digest=data.test_set_digest,
        entries=lines.table(test, models, agreed, people),
        start_entries=tuple(lines.entries(start, models)),
        difference=lines.difference(test, contest.alpha),
        start_difference=lines.difference(start, GUARD_ALPHA),
        slices=tuple(lines.slices(test)),
        latency_p95_ms=_latency(candidate, data),
        alpha=contest.alpha,
        scores_digest=content_id(scores),
        created_at=now,
    )
    return Evaluation(report=_with_id(report), scores=scores)


def _check_apart(data: EvaluationData) -> None:
    trained_on = set(data.train.ids)
    for part, rows in (("test set", data.test), ("start test", data.start_test)):
        shared = trained_on.intersection(rows.ids)
        if shared:
            raise FlywheelError(
                f"{len(shared)} samples of the {part} are training rows too, {min(shared)} for one; "
                f"a sample has one split: dataset {data.dataset_id} is faulty, build it anew"
            )


def _models(contest: Contest) -> tuple[dict[str, Model], str]:
    """The models that are measured, and a note when the candidate is no new one."""
    models = {"candidate": contest.candidate, "champion": contest.champion}
    present = {name: model for name, model in models.items() if model is not None}
    if len({model.digest for model in present.values()}) == len(present):
        return present, ""
    del present["candidate"]
    return present, "training gave the champion's own weights: nothing new"


def _latency(candidate: Model | None, data: EvaluationData) -> float | None:
    samples = data.test.samples or data.start_test.samples
    return None if candidate is None else latency_p95_ms(candidate, samples)


def _with_id(report: Report) -> Report:
    """The report with the hash of its content, the time left out, as its id."""
    content = dataclasses.asdict(report)
    del content["id"], content["created_at"]
    return dataclasses.replace(report, id=content_id(canonical(content).encode()))
