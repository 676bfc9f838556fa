"""A metric over the nights for three ways of labeling: routed, at random, and all at once.

The first two turn the product's own loop (log, collect, select, dataset, train) on the same traffic
and train with the same settings on the same number of training labels a night. They differ in one
thing: the labels are those that flywheel selects, or a random draw from the same groups. Every
candidate serves the next night in both, so that the gate's caution does not blur the comparison.
The third trains once on every arrival's label. The world answers for the annotators.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from scipy import stats
from traffic import NOW, serve_traffic

from flywheel.collect import collect
from flywheel.dataset import make_version
from flywheel.examples.arms import Exam, School
from flywheel.ledger.batches import add_batch
from flywheel.ledger.datasets import add_labels, read_manifest
from flywheel.ledger.samples import load_samples
from flywheel.ledger.windows import move_watermark, population, watermark
from flywheel.loop import Loop, open_loop
from flywheel.metrics.compiled import compile_formula
from flywheel.records import Array, Batch, Choice, Json, Label, Share, Split
from flywheel.select import select_batch
from flywheel.train import TrainingData, train

ROUTED, RANDOM, ALL = "routed", "random", "all labels at once"


@dataclass(frozen=True)
class Case:
    """What is compared; its functions are of a module's top level, for they travel."""

    settings: str
    """of the project, a file of flywheel"""
    world: Callable[[int], Any]
    """seed -> production"""
    answer: Callable[[Json, np.random.Generator], Json]
    """the truth -> what a person makes of it"""
    formulas: tuple[str, ...]
    """measured on the exam, the one that is reported with an interval first"""
    higher_is_better: tuple[bool, ...]
    num_nights: int
    num_labels: int
    """training labels a night"""
    exam_samples: int
    changes: tuple[tuple[str, str], ...] = ()
    """settings that differ from the file's: key and value"""


def run_arm(case: Case, seed: int, arm: str) -> list[list[float]]:
    """The formulas on the last night's truth set, before the first night and after each."""
    with tempfile.TemporaryDirectory() as folder:
        settings = (files("flywheel") / case.settings).read_text(encoding="utf-8")
        # All of the budget trains here: the test half of a batch is left out in every arm.
        changes = (
            ("samples_per_night", str(case.num_labels)),
            ("probability_share", "1e-9"),
            *case.changes,
        )
        for key, value in changes:
            settings, found = re.subn(rf"(?m)^{key} = \S+", f"{key} = {value}", settings)
            assert found == 1, f"{case.settings} has {found} lines that set {key}"
        Path(folder, "flywheel.toml").write_text(settings, encoding="utf-8")
        with open_loop(folder, lambda: NOW) as loop:
            return list(_turn(loop, case, seed, arm))


def _turn(loop: Loop, case: Case, seed: int, arm: str) -> Iterator[list[float]]:
    world = case.world(seed)
    exam = world.truth_set(case.num_nights - 1, case.exam_samples)
    exams = [
        Exam(
            task=loop.task,
            arrivals=exam,
            statistic=compile_formula(formula, loop.project.directory),
            device="cpu",
        )
        for formula in case.formulas
    ]
    if arm == ALL:
        weights = _all_at_once(loop, case, seed)
        yield [one.grade(weights).value for one in exams]
        return
    annotators, truth = np.random.default_rng([seed, 1]), dict[str, Json]()
    weights = _train(loop, None, seed)
    yield [one.grade(weights).value for one in exams]
    for night in range(case.num_nights):
        truth |= serve_traffic(loop, weights, world.traffic(night))
        collect(loop.ledger, loop.project.collect.low_confidence, night, NOW, agree=loop.task.agree)
        chosen = (_route if arm == ROUTED else _draw)(loop, seed, night)
        _label(loop, {name: case.answer(truth[name], annotators) for name in chosen})
        weights = _train(loop, weights, seed + night + 1)
        yield [one.grade(weights).value for one in exams]


def _all_at_once(loop: Loop, case: Case, seed: int) -> bytes:
    world = case.world(seed)
    school = School(
        task=loop.task,
        settings=loop.project.train,
        start=list(loop.task.start_data() if loop.task.start_data else ()),
        nights=[world.traffic(night) for night in range(case.num_nights)],
        seed=seed,
    )
    return school.everything()


def _route(loop: Loop, seed: int, night: int) -> list[str]:
    """What flywheel selects."""
    batch = select_batch(loop.ledger, loop.project.labeling, seed=seed, night=night, now=NOW)
    return [choice.sample_id for choice in batch.choices]


def _draw(loop: Loop, seed: int, night: int) -> list[str]:
    """As many at random from the same groups; stored as a batch like any other."""
    rng, size = np.random.default_rng([seed, night, 2]), loop.project.labeling.samples_per_night
    with loop.ledger.begin() as connection:
        upto = watermark(connection, "predictions collected")
        pool = population(connection, watermark(connection, "selected"), upto, Split.TRAIN)
        drawn = [pool[i] for i in rng.choice(len(pool), size, replace=False)]
        choices = tuple(
            Choice(
                sample_id=one.sample_id,
                prediction_id=one.prediction_id,
                share=Share.TARGETED,
                reason="random arm",
                priority=0.0,
                inclusion_probability=None,
            )
            for one in drawn
        )
        batch = Batch(
            id=f"{night:064d}", choices=choices, night=night, population=len(pool), created_at=NOW
        )
        add_batch(connection, batch)
        move_watermark(connection, "selected", upto)
    return [one.sample_id for one in drawn]


def _label(loop: Loop, answers: dict[str, Json]) -> None:
    labels = [
        Label(
            sample_id=sample_id,
            answer=answer,
            reliability=1.0,
            num_annotations=1,
            source="annotators",
        )
        for sample_id, answer in answers.items()
    ]
    with loop.ledger.begin() as connection:
        add_labels(connection, labels, NOW)


def _train(loop: Loop, champion: bytes | None, seed: int) -> bytes:
    made = make_version(loop.ledger, loop.blobs, loop.task, loop.project.dataset, now=NOW)
    rows = read_manifest(loop.blobs, made.version.id)
    rows = [row for row in rows if row.split is Split.TRAIN]
    with loop.ledger.read() as connection:
        samples = load_samples(connection, loop.blobs, [row.sample_id for row in rows])
    data = TrainingData(
        samples=samples,
        answers=[row.answer for row in rows],
        origins=[row.origin for row in rows],
        dataset_id=made.version.id,
        champion=champion,
    )
    settings = loop.project.train
    return train(loop.task, settings, data, seed=seed, now=NOW, progress=lambda *_: None).weights


def run_case(case: Case, seeds: int, *, all_at_once: bool) -> dict[str, Array]:
    """Arm -> (seeds, nights + 1, formulas); one night only for all labels at once."""
    arms = [ROUTED, RANDOM, *([ALL] if all_at_once else [])]
    jobs = [(seed, arm) for arm in arms for seed in range(seeds)]
    with ProcessPoolExecutor(
        # Networks this small gain little from a second thread, so every core gets an arm.
        mp_context=get_context("spawn"),
        initializer=torch.set_num_threads,
        initargs=(1,),
    ) as pool:
        running = [pool.submit(run_arm, case, seed, arm) for seed, arm in jobs]
        found = [one.result() for one in running]
    return {
        arm: np.array([curve for (_, name), curve in zip(jobs, found, strict=True) if name == arm])
        for arm in arms
    }


def curve_table(case: Case, curves: dict[str, Array], column: int) -> Table:
    """Mean over seeds, and the paired difference with Student's 95 % interval; positive is better."""
    routed, drawn = (curves[arm][:, :, column] for arm in (ROUTED, RANDOM))
    up = case.higher_is_better[column]
    title = f"{case.formulas[column]} on the last night's truth, {len(routed)} seeds"
    table = Table(title=f"{title}, {case.num_labels} labels a night")
    for heading in ("after night", ROUTED, RANDOM, "gain of routed [95 %]", "won by routed"):
        table.add_column(heading, justify="right")
    gain = (routed - drawn) * (1 if up else -1)
    half = stats.t.ppf(0.975, len(gain) - 1) * gain.std(axis=0, ddof=1) / np.sqrt(len(gain))
    for night, values in enumerate(gain.T):
        mean = float(values.mean())
        interval = f"{mean:+.3f} [{mean - half[night]:+.3f}, {mean + half[night]:+.3f}]"
        table.add_row(
            "start" if night == 0 else str(night),
            f"{routed[:, night].mean():.3f}",
            f"{drawn[:, night].mean():.3f}",
            "—" if night == 0 else interval,
            "—" if night == 0 else f"{int((values > 0).sum())} of {len(values)}",
        )
    if ALL in curves:
        table.add_row(ALL, f"{curves[ALL][:, 0, column].mean():.3f}", "", "", "")
    return table


def saved_labels(case: Case, curves: dict[str, Array], column: int) -> str:
    """How many nights of routing bring what all nights of random labels bring, in a sentence."""
    means: Sequence[Array] = [curves[arm][:, :, column].mean(axis=0) for arm in (ROUTED, RANDOM)]
    sign = 1 if case.higher_is_better[column] else -1
    reached = np.flatnonzero(sign * means[0] >= sign * means[1][-1])
    if not len(reached):
        return f"routed never reaches what {case.num_nights} nights of random labels bring"
    nights = int(reached[0])
    return (
        f"{nights} nights of routed labels ({nights * case.num_labels}) bring what "
        f"{case.num_nights} of random ones ({case.num_nights * case.num_labels}) do"
    )
