"""flywheel doctor: runs every check of a project; a check that fails does not stop the others.

On request it measures what more training would bring without a single new label: asked before money
goes to labels. Two models are trained on the same part of the training data, the second with twice the
steps, and are compared on the labels of the other part. Both start afresh: the champion may have
learned the labels that are held back. No test set is touched.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from flywheel.errors import SettingsError
from flywheel.evaluate.scoring import score_one
from flywheel.evaluate.stats import Measured, paired_difference
from flywheel.gpu import hold_devices
from flywheel.ledger.datasets import latest_version, read_manifest
from flywheel.loop import Loop, open_loop
from flywheel.loop.retrain import training_data
from flywheel.metrics.compiled import compile_formula
from flywheel.metrics.scores import answer_columns
from flywheel.model import Model, cpu_threads, pick_device
from flywheel.project import Project, load_project
from flywheel.records import Array, Estimate, Split
from flywheel.settings.learning import Train
from flywheel.stack import environment
from flywheel.task import load_task
from flywheel.train import TrainingData, train
from flywheel.train.data import LEAST_VALIDATION, START, check_learnable, is_labeled, some_groups
from flywheel.upkeep import machine, servers
from flywheel.upkeep.finding import Finding, fail, look, ok, warn

Check = Callable[[Project], Iterable[Finding]]


def examine(
    directory: Path, prefect: Sequence[tuple[str, Check]] = (), *, train: bool = False
) -> list[Finding]:
    """Check settings, task, storage, servers and machine; nothing of the project is changed.

    Args:
        directory: the folder with flywheel.toml.
        prefect: checks of Prefect's server, with their names; they need its client.
        train: also measure what twice the training steps would bring; it trains twice.

    Returns:
        The findings, in the order of the checks. Without valid settings only the versions are checked.
    """
    try:
        project = load_project(directory)
    except SettingsError as error:
        faults = [fail("settings", line) for line in str(error).splitlines()]
        return [*faults, *look("versions", lambda: machine.versions(None))]
    found = [ok("settings", f"{project.directory}/flywheel.toml, project {project.name!r}")]
    checks = [*_checks(project, prefect), *([("training", more_steps)] if train else [])]
    for name, check in checks:
        found += look(name, lambda check=check: check(project))  # type: ignore[misc]
    return found


def _checks(project: Project, prefect: Sequence[tuple[str, Check]]) -> Iterator[tuple[str, Check]]:
    known = {**os.environ, **environment(project)}
    yield "task", _task
    yield "versions", machine.versions
    yield "ledger", machine.ledger
    yield "blobs", machine.blobs
    yield "model", servers.model
    yield "disk", machine.disk
    yield "secrets", machine.secrets
    yield "GPU", machine.gpu
    yield from prefect
    yield "Label Studio", lambda checked: servers.label_studio(checked, known)
    yield "model server", lambda checked: servers.model_server(checked, known)
    yield from servers.CHECKS
    yield "clock", servers.clocks
    yield "notices", machine.notices


def _task(project: Project) -> Iterator[Finding]:
    load_task(project.project.task, project.directory)
    yield ok("task", f"{project.project.task} loads; flywheel check looks closer")


_HELD_SHARE = 0.2
_TOPIC = "training"


def more_steps(project: Project) -> Iterator[Finding]:
    """A finding: how much the metric gains from twice the training steps alone."""
    with open_loop(project.directory) as loop:
        yield gain_of_steps(loop)


def gain_of_steps(loop: Loop) -> Finding:
    """How much the metric gains from twice the training steps alone, on labels that train."""
    data = _newest_data(loop)
    if data is None:
        return warn(_TOPIC, "there is no dataset version yet; run flywheel night once")
    seed = loop.project.project.seed
    is_held = some_groups(data, _HELD_SHARE, seed)
    exam = data.only(_exam(data, is_held).tolist())
    if len(exam.samples) < LEAST_VALIDATION:
        return warn(
            _TOPIC,
            f"{len(exam.samples)} labels to hold back are fewer than {LEAST_VALIDATION}; "
            "label more samples, then ask again",
        )
    rest = data.only(np.flatnonzero(~is_held).tolist())
    check_learnable(rest)
    return _compare(loop, rest, exam, seed)


def _newest_data(loop: Loop) -> TrainingData | None:
    with loop.ledger.read() as connection:
        version = latest_version(connection)
    if version is None:
        return None
    rows = [row for row in read_manifest(loop.blobs, version.id) if row.split is Split.TRAIN]
    return training_data(loop, version, rows, None)


def _exam(data: TrainingData, is_held: Array) -> Array:
    """Row numbers to compare on: labels from production, or of the start data if these are few."""
    known = is_held & is_labeled(data)
    of_production = known & np.array([origin != START for origin in data.origins], dtype=bool)
    return np.flatnonzero(of_production if of_production.sum() >= LEAST_VALIDATION else known)


def _compare(loop: Loop, rest: TrainingData, exam: TrainingData, seed: int) -> Finding:
    project, started = loop.project, time.perf_counter()
    steps = project.train.steps_for(len(rest.samples))
    with (
        hold_devices(project.train.device, project.name) as held,
        cpu_threads(project.train.cpu_threads),
    ):
        once, twice = (
            _measure(loop, _settings(project.train, number, held.names[0]), rest, exam, seed)
            for number in (steps, 2 * steps)
        )
    formula = compile_formula(project.metric.optimize, project.directory)
    missing = formula.columns - set(once.scores)
    if missing:
        return warn(
            _TOPIC,
            f"{formula.text} needs {', '.join(sorted(missing))}, which is not measured offline; "
            "compare two nights with different train.steps",
        )
    gain = paired_difference(formula, twice, once, np.random.default_rng(seed))
    seconds = time.perf_counter() - started
    return _verdict(project, gain, 2 * steps, len(exam.samples), seconds)


def _settings(settings: Train, steps: int, device: str) -> Train:
    changes = {"steps": steps, "shrink": 0.0, "validation_share": 0.0, "device": device}
    return settings.model_copy(update=changes)


def _measure(
    loop: Loop, settings: Train, rest: TrainingData, exam: TrainingData, seed: int
) -> Measured:
    """The scores of a model that was trained on the rest, on the labels that were held back."""
    trained = train(loop.task, settings, rest, seed=seed, now=loop.now(), progress=lambda *_: None)
    model = Model(loop.task, trained.weights, pick_device(settings.device))
    answers = [answer.value for answer in model.answer_samples(exam.samples)]
    rows = [
        score_one(loop.task, sample.id, answer, label)
        for sample, answer, label in zip(exam.samples, answers, exam.answers, strict=True)
    ]
    return Measured(
        ids=tuple(sample.id for sample in exam.samples),
        scores={name: np.array([row[name] for row in rows]) for name in rows[0]}
        | answer_columns(answers, exam.answers),
        weights=np.ones(len(rows)),
        clusters=np.unique(exam.groups or np.arange(len(rows)), return_inverse=True)[1],
    )


def _verdict(
    project: Project, gain: Estimate | None, steps: int, number: int, seconds: float
) -> Finding:
    asked = f"twice the steps, {steps:,}, on {number} labels held back ({seconds:.0f} s)"
    if gain is None:
        return warn(_TOPIC, f"{asked}: {project.metric.optimize} is not defined on so few labels")
    what = f"{project.metric.optimize} {gain.value:+.3g} [{gain.low:+.3g}, {gain.high:+.3g}]"
    least = gain.low if project.metric.higher_is_better else -gain.high
    if least > 0:
        return warn(
            _TOPIC,
            f"{asked}, bring {what} without a new label; set train.steps = {steps} "
            "before you pay for labels",
        )
    return ok(_TOPIC, f"{asked}, bring {what}, which is not significant; steps are enough")
