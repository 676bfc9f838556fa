"""Training digits in one process and in two that work together: seconds, losses, weights.

Run: python tests/benchmarks/bench_ddp.py [--steps 600] [--quick]

On this machine's CPU, one thread a trainer, with gloo: the arithmetic of several GPUs, not their
speed. Each row trains in processes of its own kind: "in the run" is what [train] processes = 1
does; one trainer started as two are shows what starting costs. The start data of digits, many
times over. Digits without dropout: a network
that draws by itself is trained alike and not the same.
"""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path

import safetensors.torch
import torch
from rich.console import Console
from rich.table import Table

from flywheel.records import Split
from flywheel.settings.learning import Train
from flywheel.task import load_task
from flywheel.train import Trained, Trainers, TrainingData, train, train_distributed

_TOYS = Path(__file__).parents[1] / "toys"
_TIMES = 40
_TASK = "team_task:task"
_NOW = datetime(2030, 1, 1, tzinfo=UTC)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="one trainer against two")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--quick", action="store_true", help="ten epochs, for a look")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = Train(
        steps=1 if arguments.quick else arguments.steps,
        device="cpu",
        cpu_threads=1,
    )
    data = _data()
    steps = settings.steps_for(len(data.samples))
    num_rows = steps * settings.batch_size
    table = Table(title=f"{len(data.samples):,} digits, {steps} steps")
    for heading in ("trainers", "seconds", "rows/s", "last loss", "furthest weight"):
        table.add_column(heading, justify="right")
    alone, seconds = _alone(settings, data)
    _add(table, "in the run", (alone, seconds), alone, num_rows)
    for number in (1, 2):
        found = _together(number, settings, data)
        _add(table, f"{number} started", found, alone, num_rows)
    Console().print(table)


def _data() -> TrainingData:
    task = load_task(_TASK, _TOYS)
    examples = [one for one in (task.start_data or list)() if one.split is Split.TRAIN]
    examples *= _TIMES
    return TrainingData(
        samples=[one.sample for one in examples],
        answers=[one.answer for one in examples],
        origins=["start"] * len(examples),
        dataset_id="d",
    )


def _alone(settings: Train, data: TrainingData) -> tuple[Trained, float]:
    begun = time.perf_counter()
    task = load_task(_TASK, _TOYS)
    found = train(task, settings, data, seed=3, now=_NOW, progress=lambda *_: None)
    return found, time.perf_counter() - begun


def _together(number: int, settings: Train, data: TrainingData) -> tuple[Trained, float]:
    begun = time.perf_counter()
    trainers = Trainers(task=_TASK, directory=_TOYS, devices=("cpu",) * number)
    found = train_distributed(trainers, settings, data, seed=3, now=_NOW, progress=lambda *_: None)
    return found, time.perf_counter() - begun


def _add(
    table: Table, name: str, found: tuple[Trained, float], alone: Trained, num_rows: int
) -> None:
    trained, seconds = found
    mine, theirs = map(safetensors.torch.load, (trained.weights, alone.weights))
    furthest = max(float((mine[key] - theirs[key]).abs().max()) for key in mine)
    loss = trained.checkpoint.losses[-1]
    row = (f"{seconds:.1f}", f"{num_rows / seconds:,.0f}", f"{loss:.6f}", f"{furthest:.1e}")
    table.add_row(name, *row)


if __name__ == "__main__":
    main()
