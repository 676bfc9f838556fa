"""Arms: what other ways of labeling would have brought, trained and measured on an exam, night by night.

A random arm gets as many labels a night as the loop trained on, drawn evenly from the same
arrivals, and the outcomes of what it answered itself; the last arm gets the label of every arrival
at once. Labels of both are the truth, so that they are harder to beat than with real annotators.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import scipy

from flywheel.dataset.outcomes import Trust
from flywheel.evaluate.scoring import score_one
from flywheel.evaluate.stats import Measured, estimate, paired_difference
from flywheel.examples.demos import World
from flywheel.examples.traffic import Arrival, reactions
from flywheel.metrics.compiled import Statistic, compile_formula
from flywheel.metrics.scores import ScoreTable, answer_columns
from flywheel.model import Model, pick_device
from flywheel.records import (
    FAILED,
    WORKED,
    Answer,
    Array,
    Estimate,
    FeedbackKind,
    Json,
    Sample,
    Split,
    Verdict,
)
from flywheel.report.kit.charts import Ink, canvas, to_png
from flywheel.settings.judging import Metric
from flywheel.settings.learning import Sensors, Train
from flywheel.task import Example, Task
from flywheel.train import TrainingData, train

_EXAM_SAMPLES = 1_000
_NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)
_Row = tuple[Sample, Json, str, float]
"""sample, answer, origin and weight of a training row"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Exam:
    """Arrivals that no arm has trained on, and what is measured on them."""

    task: Task
    arrivals: Sequence[Arrival]
    statistic: Statistic
    device: str = "auto"

    def answers(self, weights: bytes) -> list[Answer]:
        """The answers of a model, in the order of the arrivals."""
        model = Model(self.task, weights, pick_device(self.device))
        return model.answer_samples([arrival.sample for arrival in self.arrivals])

    def scores(self, weights: bytes) -> ScoreTable:
        """(N,) of each score that the task gives, in the order of the N arrivals."""
        names = [arrival.sample.id for arrival in self.arrivals]
        answers, truths = self.answers(weights), [arrival.truth for arrival in self.arrivals]
        rows = [
            score_one(self.task, name, answer.value, truth)
            for name, answer, truth in zip(names, answers, truths, strict=True)
        ]
        table: ScoreTable = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        if self.statistic.needs_answers:
            table |= answer_columns([answer.value for answer in answers], truths)
        return table

    def grade(self, weights: bytes) -> Estimate | None:
        """The metric of a model with its interval; None where it is not defined."""
        return self.estimate(self.measure(weights))

    def measure(self, weights: bytes) -> Measured:
        """All scores of a model."""
        number = len(self.arrivals)
        return Measured(
            ids=tuple(f"{index}" for index in range(number)),
            scores=self.scores(weights),
            weights=np.ones(number),
            clusters=_scenes(self.arrivals),
        )

    def estimate(self, measured: Measured) -> Estimate | None:
        """The metric with its interval; None where it is not defined."""
        return estimate(self.statistic, measured, np.random.default_rng(0))

    def difference(self, one: Measured, other: Measured) -> Estimate | None:
        """The metric of one model minus that of another, paired; None where it is not defined."""
        return paired_difference(self.statistic, one, other, np.random.default_rng(0))


class Exams:
    """Measures models on arrivals that the product never sees, night by night."""

    def __init__(self, world: World, task: Task, metric: Metric) -> None:
        self._world, self._task = world, task
        self._statistic = compile_formula(metric.optimize, Path.cwd())
        self.sign = 1 if metric.higher_is_better else -1
        self._newest: tuple[int, Sequence[Arrival]] | None = None

    def grade(self, number: int, weights: bytes) -> tuple[float, float]:
        """The metric on arrivals like those of a night, overall and on the kind where it is worst."""
        if self._newest is None or self._newest[0] != number:
            self._newest = number, self._world.truth_set(number - 1, _EXAM_SAMPLES)
        arrivals = self._newest[1]
        exam = Exam(task=self._task, arrivals=arrivals, statistic=self._statistic, device="cpu")
        scores = exam.scores(weights)
        kinds = np.array([arrival.kind for arrival in arrivals])
        values = [self._value(scores, kinds == kind) for kind in np.unique(kinds)]
        overall = self._value(scores, np.ones(len(arrivals), dtype=bool))
        return overall, min(values, key=lambda value: self.sign * value)

    def _value(self, scores: ScoreTable, part: Array) -> float:
        """The metric on the arrivals of a part, (N,) bool."""
        of_part = {name: column[part] for name, column in scores.items()}
        return float(self._statistic(of_part, np.ones((1, int(part.sum()))))[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class _Heard:
    """What a caller said of an answer of an arm's own model."""

    arrival: Arrival
    answer: Json
    kind: FeedbackKind
    value: Json


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class School:
    """What every arm trains with: the start data, the settings, and the arrivals of each night."""

    task: Task
    settings: Train
    start: Sequence[Example]
    nights: Sequence[Sequence[Arrival]]
    seed: int
    first: bytes | None = None
    """weights that the arms continue from, as the loop does; None: fresh ones"""
    sensors: Sensors = field(default_factory=lambda: Sensors(outcomes=0))
    """what of callers' feedback trains"""
    is_right: Callable[[Json, Json], bool] = operator.eq
    """whether an answer turns out well, given the truth"""
    epochs: int = 0
    """over all rows, in place of the settings' steps; 0: the settings' steps"""

    def at_random(self, num_labels: Sequence[int]) -> Iterator[bytes]:
        """The weights after each night, where as many labels as given are known by then.

        Each night continues from the weights of the night before, as the loop does.

        Args:
            num_labels: known after night 1, 2, ... of the arrivals of those nights; it never falls.
        """
        rng = np.random.default_rng([self.seed, 11])
        known: list[Arrival] = []
        heard: list[_Heard] = []
        weights = self.first
        for number, (arrivals, wanted) in enumerate(zip(self.nights, num_labels, strict=True)):
            heard += self._hear(arrivals, weights, number)
            more = min(wanted - len(known), len(arrivals))
            known += [arrivals[i] for i in rng.choice(len(arrivals), more, replace=False)]
            weights = self._train(known, self._fed_back(heard, known), weights, number)
            yield weights

    def everything(self) -> bytes:
        """The weights from the label of every arrival, trained once."""
        arrived = [arrival for night in self.nights for arrival in night]
        return self._train(arrived, [], self.first, len(self.nights))

    def _hear(
        self, arrivals: Sequence[Arrival], weights: bytes | None, number: int
    ) -> Iterator[_Heard]:
        """What callers say of a night's answers; before the first model there are none."""
        if weights is None or not (self.sensors.outcomes or self.sensors.correction_reliability):
            return
        model = Model(self.task, weights, pick_device(self.settings.device))
        answers = model.answer_samples([arrival.sample for arrival in arrivals])
        usual = reactions(len(arrivals), np.random.default_rng([self.seed, 12, number]))
        for arrival, answer, reaction in zip(arrivals, answers, usual, strict=True):
            right = self.is_right(answer.value, arrival.truth)
            said = (arrival.reaction or reaction).says(arrival.truth, right=right)
            if said is not None:
                yield _Heard(arrival=arrival, answer=answer.value, kind=said[0], value=said[1])

    def _fed_back(self, heard: Sequence[_Heard], known: Sequence[Arrival]) -> list[_Row]:
        """The rows that feedback on unlabeled arrivals gives, weighted as the loop weighs them."""
        labeled = {id(arrival) for arrival in known}
        rows: list[_Row] = []
        if reliability := self.sensors.correction_reliability:
            rows += [
                (one.arrival.sample, one.value, "sensor", reliability)
                for one in heard
                if one.kind is FeedbackKind.CORRECTION and id(one.arrival) not in labeled
            ]
        outcomes = [one for one in heard if one.kind is FeedbackKind.OUTCOME]
        newest = [one for one in outcomes if id(one.arrival) not in labeled]
        newest = newest[max(len(newest) - self.sensors.outcomes, 0) :]
        for worked, origin in ((True, WORKED), (False, FAILED)):
            agrees = [
                self.task.agree(one.answer, one.arrival.truth) == worked
                for one in outcomes
                if one.value is worked and id(one.arrival) in labeled
            ]
            weight = Trust(num_compared=len(agrees), num_right=sum(agrees)).weight
            if weight > 0:
                mine = [one for one in newest if one.value is worked]
                rows += [(one.arrival.sample, one.answer, origin, weight) for one in mine]
        return rows

    def _train(
        self,
        known: Sequence[Arrival],
        fed_back: Sequence[_Row],
        before: bytes | None,
        number: int,
    ) -> bytes:
        rows: list[_Row] = [
            (example.sample, example.answer, "start", 1.0)
            for example in self.start
            if example.split is Split.TRAIN
        ]
        rows += [(arrival.sample, arrival.truth, "probability", 1.0) for arrival in known]
        samples, answers, origins, weights = zip(*rows, *fed_back, strict=True)
        data = TrainingData(
            samples=samples,
            answers=answers,
            origins=origins,
            weights=weights,
            dataset_id="",
            champion=before,
        )
        seed = self.seed + number + 1
        settings = self.settings
        if self.epochs:
            steps = self.epochs * math.ceil(len(samples) / settings.batch_size)
            settings = settings.model_copy(update={"steps": steps})
        trained = train(
            self.task, settings, data, seed=seed, now=_NO_TIME, progress=lambda *_: None
        )
        return trained.weights


def _scenes(arrivals: Sequence[Arrival]) -> Array:
    """(N,) number of the scene of each arrival; one without a scene has a number of its own."""
    names = [
        arrival.metadata.get("scene", f"alone {index}") for index, arrival in enumerate(arrivals)
    ]
    return np.unique([str(name) for name in names], return_inverse=True)[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Turned:
    """One simulated night."""

    number: int
    num_labels: int
    """answers that annotators have been paid for so far"""
    metric: float
    """of what serves, on arrivals like this night's that the product never sees"""
    trained: float
    """of the newest model that was trained, released or not, on the same arrivals"""
    worst: float
    """the same as `trained` on the kind of arrival where it is worst"""
    verdict: Verdict = Verdict.NO_VERDICT
    is_worse: bool = False
    """whether a model was released that is worse than the one before, on the same arrivals"""
    nights_to_fix: float = float("nan")
    """median from a failure seen to the night after which it is fixed in what serves; NaN: none is yet"""
    num_train: int = 0
    """labels that the newest model was trained on, those of the start data too"""
    measured: Estimate | None = None
    """what the night's own report says of its candidate; None: nothing"""


def paired_interval(gains: Array) -> tuple[float, float, float]:
    """Mean of (S,) paired differences, and Student's 95 % interval; one seed has no interval."""
    mean = float(gains.mean())
    if len(gains) < 2:
        return mean, float("-inf"), float("inf")
    half = scipy.stats.t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(len(gains))
    return mean, mean - float(half), mean + float(half)


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One way over N nights, for S seeds."""

    serves: Array
    """(S, N) metric of what serves after each night"""
    trained: Array
    """(S, N) the same of the newest model"""
    worst: Array
    """(S, N) of the newest model, on the kind of arrival where it is worst"""
    labels: Array
    """(S, N) answers paid for by then"""

    @staticmethod
    def of(runs: Sequence[Sequence[Turned]]) -> Arm:
        """The nights of each seed."""

        def column(name: str) -> Array:
            values = [[getattr(night, name) for night in run] for run in runs]
            return np.array(values, dtype=np.float64)

        return Arm(
            serves=column("metric"),
            trained=column("trained"),
            worst=column("worst"),
            labels=column("num_labels"),
        )

    def share_of_labels(self, other: Arm, sign: int) -> list[float]:
        """Per seed, the answers until a trained model is where the other arm's ends, as a share of its.

        Infinite where none gets there. `sign` is 1 where higher is better, else -1.
        """
        level = other.trained[:, -1, None]
        there = sign * (self.trained - level) >= 0
        first = self.labels[np.arange(len(there)), there.argmax(axis=1)]
        taken = np.where(there.any(axis=1), first, np.inf)
        shares: list[float] = (taken / np.maximum(other.labels[:, -1], 1)).tolist()
        return shares


def arms_picture(arms: Mapping[str, Arm], label: str) -> bytes:
    """PNG of the trained models over the answers paid for: the mean of the seeds, and each seed pale."""
    figure, axes = canvas(3.2)
    colors = (Ink.CANDIDATE, Ink.CHAMPION, Ink.REQUIRED)
    for (name, arm), color in zip(arms.items(), colors, strict=False):
        for run, labels in zip(arm.trained, arm.labels, strict=True):
            axes.plot(labels, run, color=color, alpha=0.25, linewidth=0.8)
        mean = arm.trained.mean(axis=0)
        axes.plot(arm.labels.mean(axis=0), mean, color=color, linewidth=2, label=name)
    axes.set_xlabel("answers that annotators were paid for")
    axes.set_ylabel(label)
    axes.legend(frameon=False)
    figure.patch.set_alpha(1.0)
    return to_png(figure)
