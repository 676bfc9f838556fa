"""The digits curve: the single metric over the nights, hard cases against random labels.

Run: python tests/benchmarks/bench_digits_curve.py [--nights 10] [--seeds 5] [--labels 30]

Both arms turn the product's own loop (log, collect, select, dataset, train) on the same
traffic (240 scans a night that may train), train with the same settings and get the same number
of training labels a night, few enough that choosing them can matter. They
differ in one thing: the labels are those that flywheel selects, or a random draw from the same
groups. The world answers for the annotators, wrong in 2 of 100 cases. Every candidate serves
the next night in both arms, so that the gate's caution does not blur the comparison. The metric
is measured by the world on scans that the product never sees, drifted as on the last night.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.resources import files
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy import stats
from traffic import NOW, serve_traffic

from flywheel.collect import collect
from flywheel.dataset import make_version
from flywheel.ledger.batches import add_batch
from flywheel.ledger.datasets import add_labels, read_manifest
from flywheel.ledger.samples import load_samples
from flywheel.ledger.windows import move_watermark, population, watermark
from flywheel.loop import Loop, open_loop
from flywheel.model import Model, pick_device
from flywheel.records import (
    Array,
    Batch,
    Choice,
    Json,
    Label,
    Sample,
    Share,
    Split,
)
from flywheel.select import select_batch
from flywheel.tasks.digits import CLASSES
from flywheel.train import TrainingData, train
from flywheel.world import Arrival, DriftingScans

_ERROR_RATE = 0.02
_TRUTH_SAMPLES = 2_000


def run_arm(seed: int, num_nights: int, num_labels: int, *, routed: bool) -> list[float]:
    """Accuracy on the last night's truth set before the first night and after each; one seed."""
    with tempfile.TemporaryDirectory() as folder:
        settings = (files("flywheel") / "tasks/digits.toml").read_text(encoding="utf-8")
        # All of the budget trains here: the test half of a batch is left out in both arms.
        settings = re.sub(r"samples_per_night = \d+", f"samples_per_night = {num_labels}", settings)
        settings = re.sub(r"probability_share = \S+", "probability_share = 1e-9", settings)
        Path(folder, "flywheel.toml").write_text(settings, encoding="utf-8")
        with open_loop(folder, lambda: NOW) as loop:
            return list(_turn(loop, seed, num_nights, routed=routed))


def _turn(loop: Loop, seed: int, num_nights: int, *, routed: bool) -> Iterator[float]:
    world, people = DriftingScans(seed=seed), np.random.default_rng([seed, 1])
    truth: dict[str, Json] = {}
    exam = world.truth_set(num_nights - 1, _TRUTH_SAMPLES)
    weights = _train(loop, None, seed)
    yield _accuracy(loop, weights, exam)
    for night in range(num_nights):
        truth |= serve_traffic(loop, weights, world.traffic(night))
        collect(loop.ledger, loop.project.collect.low_confidence, night, NOW)
        chosen = (_route if routed else _draw)(loop, seed, night)
        _label(loop, chosen, truth, people)
        weights = _train(loop, weights, seed + night + 1)
        yield _accuracy(loop, weights, exam)


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


def _label(
    loop: Loop, sample_ids: list[str], truth: dict[str, Json], people: np.random.Generator
) -> None:
    wrong = people.random(len(sample_ids)) < _ERROR_RATE
    labels = [
        Label(
            sample_id=sample_id,
            answer=str(people.choice(CLASSES)) if is_wrong else truth[sample_id],
            reliability=1.0,
            num_annotations=1,
            source="annotators",
        )
        for sample_id, is_wrong in zip(sample_ids, wrong, strict=True)
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


def _accuracy(loop: Loop, weights: bytes, arrivals: Sequence[Arrival]) -> float:
    model = Model(loop.task, weights, pick_device("cpu"))
    samples = [Sample.of(one.payload, one.media_type, one.metadata) for one in arrivals]
    pairs = zip(model.answer_samples(samples), arrivals, strict=True)
    return float(np.mean([answer.value == one.truth for answer, one in pairs]))


def main() -> None:
    """Run both arms for every seed and print the curves and their paired difference."""
    parser = argparse.ArgumentParser(description="hard cases against random labels on digits")
    parser.add_argument("--nights", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--labels", type=int, default=30, help="training labels a night")
    arguments = parser.parse_args()
    console = Console()
    jobs = [(seed, routed) for routed in (True, False) for seed in range(arguments.seeds)]
    with (
        console.status(f"{len(jobs)} arms of {arguments.nights} nights …"),
        # A net this small gains nothing from a second thread, so every core gets an arm.
        ProcessPoolExecutor(
            mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
        ) as pool,
    ):
        running = [
            pool.submit(run_arm, seed, arguments.nights, arguments.labels, routed=arm)
            for seed, arm in jobs
        ]
        curves = np.array([arm.result() for arm in running])
    console.print(f"{arguments.labels} labels a night")
    console.print(_table(curves[: arguments.seeds], curves[arguments.seeds :]))


def _table(routed: Array, drawn: Array) -> Table:
    """Mean over seeds, and the paired difference with Student's 95 % interval."""
    table = Table(title=f"digits, accuracy on the last night's truth, {len(routed)} seeds")
    for heading in ("after night", "routed", "random", "difference [95 %]", "won by routed"):
        table.add_column(heading, justify="right")
    gain = routed - drawn
    half = stats.t.ppf(0.975, len(gain) - 1) * gain.std(axis=0, ddof=1) / np.sqrt(len(gain))
    for night, column in enumerate(gain.T):
        mean = float(column.mean())
        interval = f"{mean:+.3f} [{mean - half[night]:+.3f}, {mean + half[night]:+.3f}]"
        table.add_row(
            "start" if night == 0 else str(night),
            f"{routed[:, night].mean():.3f}",
            f"{drawn[:, night].mean():.3f}",
            "—" if night == 0 else interval,
            "—" if night == 0 else f"{int((column > 0).sum())} of {len(column)}",
        )
    return table


if __name__ == "__main__":
    main()
