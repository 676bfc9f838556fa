"""Scoring a large test set in the run itself, and spread over processes of a local Dask cluster.

Run: python tests/benchmarks/bench_spread.py [--rows 50000] [--deep] [--quick]

Two models with weights of their own answer digits scans whose payloads are in the ledger, in pieces
of 2,048; a Prefect server of this machine keeps the runs. The first spread starts the processes and
opens the project in each, the second finds them open. Last: whether all numbers are the same to the
last bit. With as many processes as processors there is nothing left for the run and the server.

The task's own network is so small that reading a sample costs as much as answering it: its rows
gain nothing from processes. With --deep, networks of some 5 ms a row answer instead; 4,096 rows of
them take minutes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import bench_night
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from traffic import logged

from flows.helpers.spread import spreading
from flywheel.evaluate import Rows
from flywheel.evaluate.scoring import score_entrants
from flywheel.examples.digits.world import DriftingScans
from flywheel.ledger.predictions import append_predictions
from flywheel.loop import Loop, NightRun, open_loop
from flywheel.metrics.scores import ScoreTable
from flywheel.model import Model, cpu_threads, weights_of
from flywheel.records import Answer

_SETTINGS = """
[project]
name = "digits"
task = "{task}"
[workers]
processes = {processes}
"""
_SMALL = "flywheel.examples.digits.task:task"
_DEEP = """
from dataclasses import replace
import torch
from torch import nn
from flywheel.examples.digits.task import task as digits

class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        wide = [layer for _ in range(6) for layer in (nn.Conv2d(128, 128, 3, padding=1), nn.ReLU())]
        self.features = nn.Sequential(nn.Conv2d(1, 128, 3, stride=2, padding=1), *wide, nn.AvgPool2d(4))
        self.embed = nn.Linear(128 * 16, 64)
        self.classify = nn.Linear(64, 10)

    def forward(self, inputs):
        embedding = self.embed(self.features(inputs).flatten(1))
        return {"logits": self.classify(embedding), "embedding": embedding}

def task():
    return replace(digits(), model=Deep)
"""
_NONE = np.zeros(64, dtype=np.float32)
Tables = Mapping[str, ScoreTable]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="scoring in one process and in several")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--deep", action="store_true", help="a network that has work to do")
    parser.add_argument("--quick", action="store_true", help="5,000 rows, for a look")
    arguments = parser.parse_args()
    number = 5_000 if arguments.quick else arguments.rows
    used = "deep:task" if arguments.deep else _SMALL
    table = Table(title=f"two models on {number:,} rows")
    for heading in ("processes", "first seconds", "second seconds", "rows/s", "same numbers"):
        table.add_column(heading, justify="right")
    with tempfile.TemporaryDirectory() as name, ExitStack() as closing:
        closing.enter_context(cpu_threads(1))
        closing.enter_context(bench_night._prefect(Path(name) / "prefect"))
        (Path(name) / "deep.py").write_text(_DEEP, encoding="utf-8")
        _configure(Path(name), used, 1)
        rows, models = _prepare(Path(name), number)
        alone: Tables = {}
        for processes in (1, 2):
            _configure(Path(name), used, processes)
            seconds, found = _score(Path(name), rows, models)
            alone = alone or found
            speed = f"{number / seconds[1]:,.0f}"
            table.add_row(
                str(processes), *(f"{one:.1f}" for one in seconds), speed, str(_same(alone, found))
            )
    Console().print(table)


def _configure(directory: Path, task: str, processes: int) -> None:
    text = _SETTINGS.format(task=task, processes=processes)
    (directory / "flywheel.toml").write_text(text, encoding="utf-8")


def _prepare(directory: Path, number: int) -> tuple[Rows, dict[str, Model]]:
    """The rows in the ledger, and two models in the blobs."""
    with open_loop(directory) as loop:
        scans = DriftingScans(seed=0).truth_set(1, number)
        # The same scan with the same drift twice is one sample.
        found = {one.sample.id: one for one in scans}
        samples = [one.sample for one in found.values()]
        answer = Answer(value="0", confidence=0.5, embedding=_NONE)
        for start in range(0, len(samples), 5_000):
            entries = [
                logged(loop, one, answer, "0" * 64) for one in samples[start : start + 5_000]
            ]
            with loop.ledger.begin() as connection:
                append_predictions(connection, entries)
        models = {name: _model(loop, seed) for seed, name in enumerate(("candidate", "champion"))}
    return Rows(samples=samples, answers=[one.truth for one in found.values()]), models


def _model(loop: Loop, seed: int) -> Model:
    torch.manual_seed(seed)
    weights = weights_of(loop.task.model())
    loop.blobs.put(weights)
    return Model(loop.task, weights, torch.device("cpu"))


def _score(directory: Path, rows: Rows, models: Mapping[str, Model]) -> tuple[list[float], Tables]:
    """Seconds of the first and of the second time."""
    seconds = []
    with ExitStack() as closing:
        loop = closing.enter_context(open_loop(directory))
        run = NightRun(loop=loop, number=1, started_at=loop.now())
        wide = closing.enter_context(spreading(run))
        for _ in range(2):
            begun = time.perf_counter()
            tables = score_entrants(loop.task, rows, models, {}, wide.loop.spread)
            seconds.append(time.perf_counter() - begun)
    return seconds, tables


def _same(one: Tables, other: Tables) -> bool:
    return all(
        np.array_equal(values, other[entrant][name])
        for entrant, table in one.items()
        for name, values in table.items()
    )


if __name__ == "__main__":
    main()
