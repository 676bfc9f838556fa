"""flywheel's training loop against a bare PyTorch loop, on the pose task: pictures per second.

Run: python tests/benchmarks/bench_pose_train.py [--pictures 1500] [--rounds 3] [--threads 2]

Same network, pictures, batch size, optimizer, schedule and augmentation; the bare loop has neither
row weights nor a record of losses, and takes the rows as tensors that lie on the device. Both are
timed with decoding and without the start of the device, in turns, and the best round of each counts.
On a GPU too, when there is one. Losses are printed so that no variant wins by training less.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from flywheel.examples.pose import pose_task
from flywheel.examples.pose.part import EXAMPLE_PART
from flywheel.model import cpu_threads
from flywheel.records import Split
from flywheel.settings.learning import Train
from flywheel.task import Task
from flywheel.train import TrainingData, train

_BATCH_SIZE, _LEARNING_RATE = 32, 4e-3
_EPOCHS = 10


class _Run(NamedTuple):
    pictures_per_second: float
    loss: float
    """mean of the last epoch"""


def _ours(task: Task, data: TrainingData, epochs: int, device: str) -> _Run:
    settings = Train(
        steps=1,  # so that the floor counts, ten epochs
        batch_size=_BATCH_SIZE,
        learning_rate=_LEARNING_RATE,
        device=device,
    )
    started = time.perf_counter()
    found = train(task, settings, data, seed=0, now=datetime.now(UTC), progress=lambda *_: None)
    seconds = time.perf_counter() - started
    return _Run(epochs * len(data.samples) / seconds, found.checkpoint.losses[-1])


def _bare(task: Task, data: TrainingData, epochs: int, device: str) -> _Run:
    started = time.perf_counter()
    torch.manual_seed(0)
    network = task.model().to(device).train()
    inputs, targets = task.inputs(data.samples).to(device), task.targets(data.answers).to(device)
    assert task.augment is not None
    generator = torch.Generator(device=device).manual_seed(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, fused=device == "cuda")
    steps = math.ceil(len(inputs) / _BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
    total = torch.zeros((), device=device)
    for _ in range(epochs):
        total.zero_()
        for rows in torch.randperm(len(inputs)).to(device).tensor_split(steps):
            loss = task.loss(network(task.augment(inputs[rows], generator)), targets[rows]).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach() * len(rows)
    loss_value = total.item() / len(inputs)  # waits for the device
    return _Run(epochs * len(inputs) / (time.perf_counter() - started), loss_value)


_LOOPS: dict[str, Callable[[Task, TrainingData, int, str], _Run]] = {
    "bare PyTorch": _bare,
    "flywheel": _ours,
}


def _data(task: Task) -> TrainingData:
    assert task.start_data is not None
    examples = [e for e in task.start_data() if e.split is Split.TRAIN]
    return TrainingData(
        samples=[e.sample for e in examples],
        answers=[e.answer for e in examples],
        origins=["start"] * len(examples),
        dataset_id="benchmark",
    )


def main() -> None:
    """Measure all and print the table."""
    parser = argparse.ArgumentParser(description="the training loop against a bare PyTorch loop")
    parser.add_argument("--pictures", type=int, default=1_500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    task = pose_task(EXAMPLE_PART, arguments.pictures, 1)
    data = _data(task)
    title = f"{arguments.pictures:,} pictures of 64 x 64, {_EPOCHS} epochs, batch {_BATCH_SIZE}"
    table = Table(title=f"{title}, {arguments.threads} CPU threads, best of {arguments.rounds}")
    for heading in ("device", "loop", "pictures / s", "last loss", "of bare"):
        table.add_column(heading, justify="right")
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    with cpu_threads(arguments.threads):
        for device in devices:
            _bare(task, data, 1, device)  # kernels are chosen, memory is taken
            runs = [
                {name: loop(task, data, _EPOCHS, device) for name, loop in _LOOPS.items()}
                for _ in range(arguments.rounds)
            ]
            best = {name: max(run[name] for run in runs) for name in _LOOPS}
            for name, run in best.items():
                ratio = run.pictures_per_second / best["bare PyTorch"].pictures_per_second
                speed = f"{run.pictures_per_second:,.0f}"
                table.add_row(device, name, speed, f"{run.loss:.2f}", f"{ratio:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
