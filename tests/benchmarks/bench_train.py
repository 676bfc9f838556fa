"""Training from stored pictures against a bare loop over a DataLoader: pictures a second and memory.

Run: python tests/benchmarks/bench_train.py [--pictures 768] [--rounds 3] [--threads 1] [--python] [--quick]

Same PNG files, network, batch size, optimizer, schedule and number of threads of torch. "resident"
decodes each picture once; "streaming" may hold a tenth of the decoded pictures and decodes each once
an epoch, by threads or by two workers, as the bare loops do: a Dataset that opens the file and decodes it,
in this process or in two workers. They check no hash and ask no ledger, nor do ours with workers. With
--python the decoder is one that holds Python's lock, so that threads take turns. Each loop has a process of its own, and they take
turns; a row has the medians of the rounds, a ratio is to the better bare loop of its round. Memory is
the most that a process held in a round, with its workers and what came before training.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.data import DataLoader, Dataset

from flywheel.blobs import Blobs
from flywheel.ledger.engine import Ledger
from flywheel.ledger.samples import Placed, StoredSamples, add_samples
from flywheel.model import cpu_threads, seed_torch
from flywheel.records import Sample, Split
from flywheel.settings.learning import Train
from flywheel.task import Task
from flywheel.testing import toy_task
from flywheel.train import TrainingData, rows, train
from flywheel.train.data import FiledSamples
from flywheel.train.fit import fit
from flywheel.train.rows import Team

_SIDE, _CLASSES, _BATCH_SIZE, _LEARNING_RATE, _EPOCHS = 96, 10, 64, 1e-3, 10
_LOOK_SECONDS = 0.02
_IN_PYTHON = "BENCH_TRAIN_IN_PYTHON"
_GAMMA = [round(255 * (value / 255) ** 0.9) for value in range(256)]


def _network() -> nn.Module:
    layers = list[nn.Module]()
    for before, after in ((3, 8), (8, 16), (16, 32)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, _CLASSES))


def _decode(payload: bytes) -> torch.Tensor:
    picture = Image.open(io.BytesIO(payload))
    if os.environ.get(_IN_PYTHON):
        raw = bytes(_GAMMA[value] for value in picture.tobytes())
        picture = Image.frombytes(picture.mode, picture.size, raw)
    pixels = np.asarray(picture, dtype=np.float32)
    return torch.from_numpy(pixels).permute(2, 0, 1) / 255


def _inputs(samples: Sequence[Sample]) -> torch.Tensor:
    return torch.stack([_decode(sample.payload) for sample in samples])


def _task() -> Task:
    loss = nn.CrossEntropyLoss(reduction="none")
    return replace(toy_task(), model=_network, inputs=_inputs, targets=torch.tensor, loss=loss)


def _write(folder: Path, number: int) -> None:
    """Store pictures, each of a size that a photograph of this side has."""
    rng = np.random.default_rng(0)
    samples = []
    for _ in range(number):
        coarse = rng.integers(0, 256, (_SIDE // 4, _SIDE // 4, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(coarse).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC).save(buffer, "png")
        samples.append(Sample.of(buffer.getvalue(), "image/png"))
    blobs, ledger = Blobs.open(str(folder / "blobs")), _ledger(folder)
    blobs.put_all(sample.payload for sample in samples)
    with ledger.begin() as connection:
        placed = [Placed(sample, sample.id, Split.TRAIN) for sample in samples]
        add_samples(connection, placed, datetime.now(UTC))
    (folder / "ids.json").write_text(json.dumps([sample.id for sample in samples]))


def _ledger(folder: Path) -> Ledger:
    return Ledger.open(f"sqlite:///{folder / 'ledger.db'}")


def _resident(folder: Path, ids: list[str]) -> float:
    data = TrainingData(
        samples=StoredSamples(_ledger(folder), Blobs.open(str(folder / "blobs")), ids),
        answers=_answers(ids),
        origins=["start"] * len(ids),
        dataset_id="benchmark",
    )
    settings = Train(steps=1, batch_size=_BATCH_SIZE, learning_rate=_LEARNING_RATE, device="cpu")
    task, now = _task(), datetime.now(UTC)
    begun = time.perf_counter()
    train(task, settings, data, seed=0, now=now, progress=lambda *_: None)
    return time.perf_counter() - begun


def _streaming(folder: Path, ids: list[str]) -> float:
    tenth = len(ids) * 3 * _SIDE * _SIDE * 4 / 10
    rows._free = lambda device: tenth  # what the machine would say
    return _resident(folder, ids)


def _workers(folder: Path, ids: list[str]) -> float:
    tenth = len(ids) * 3 * _SIDE * _SIDE * 4 / 10
    rows._free = lambda device: tenth
    samples = [
        Sample.of((folder / "blobs" / one[:2] / one).read_bytes(), "image/png") for one in ids
    ]
    begun = time.perf_counter()
    data = TrainingData(
        samples=FiledSamples.write(folder / "filed", samples),
        answers=_answers(ids),
        origins=["start"] * len(ids),
        dataset_id="benchmark",
    )
    settings = Train(steps=1, batch_size=_BATCH_SIZE, learning_rate=_LEARNING_RATE, device="cpu")
    team = Team(num_workers=2)
    fit(_task(), settings, data, seed=0, progress=lambda *_: None, team=team)
    return time.perf_counter() - begun


class _Files(Dataset[tuple[torch.Tensor, int]]):
    def __init__(self, paths: list[Path], targets: list[int]) -> None:
        self.paths, self.targets = paths, targets

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        return _decode(self.paths[place].read_bytes()), self.targets[place]


def _bare(folder: Path, ids: list[str], workers: int) -> float:
    paths = [folder / "blobs" / name[:2] / name for name in ids]
    begun = time.perf_counter()
    seed_torch(0)
    network, loss_of = _network(), nn.CrossEntropyLoss()
    loader = DataLoader(
        _Files(paths, _answers(ids)),
        batch_size=_BATCH_SIZE,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _EPOCHS * len(loader))
    for _ in range(_EPOCHS):
        for inputs, targets in loader:
            loss = loss_of(network(inputs), targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    return time.perf_counter() - begun


def _answers(ids: list[str]) -> list[int]:
    return [int(name[:4], 16) % _CLASSES for name in ids]


_LOOPS: dict[str, Callable[[Path, list[str]], float]] = {
    "bare, no worker": lambda folder, ids: _bare(folder, ids, 0),
    "bare, 2 workers": lambda folder, ids: _bare(folder, ids, 2),
    "flywheel, resident": _resident,
    "flywheel, streaming": _streaming,
    "flywheel, 2 workers": _workers,
}
_BARE = ("bare, no worker", "bare, 2 workers")


class _Run(NamedTuple):
    seconds: float
    cpu_seconds: float
    """of the process and its workers, which a busy machine does not stretch as much"""
    peak_mb: float


def _peak_mb(process: psutil.Process) -> Callable[[], float]:
    """Watch the memory of a process and its children from now on; what returns the most in MB.

    Pages that a worker shares with the process that forked it count once.
    """
    most, is_over = 0.0, threading.Event()

    def look() -> None:
        nonlocal most
        while not is_over.wait(_LOOK_SECONDS):
            total = process.memory_info().rss
            for child in process.children():
                try:
                    total += child.memory_full_info().uss
                except psutil.Error:  # it has just ended
                    continue
            most = max(most, total / 1e6)

    watch = threading.Thread(target=look, daemon=True)
    watch.start()

    def stop() -> float:
        is_over.set()
        watch.join()
        return most

    return stop


def _turns(name: str, folder: Path, threads: int) -> None:
    """Train in this process, once for each line that comes in, and print what it took."""
    ids = json.loads((folder / "ids.json").read_text())
    with cpu_threads(threads):
        _LOOPS[name](folder, ids[:_BATCH_SIZE])  # what is imported and prepared once
        for _ in sys.stdin:
            stop, before = _peak_mb(psutil.Process()), sum(os.times()[:4])
            seconds = _LOOPS[name](folder, ids)
            cpu_seconds = sum(os.times()[:4]) - before
            sys.stdout.write(json.dumps([seconds, cpu_seconds, stop()]) + "\n")
            sys.stdout.flush()


def _turn(process: subprocess.Popen[str]) -> _Run:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("once\n")
    process.stdin.flush()
    return _Run(*json.loads(process.stdout.readline()))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="training against a bare DataLoader loop")
    parser.add_argument("--pictures", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--python", action="store_true", help="a decoder that holds Python's lock")
    parser.add_argument("--quick", action="store_true", help="few pictures once, for a look")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        _turns(arguments.one[0], Path(arguments.one[1]), arguments.threads)
        return
    if arguments.python:
        os.environ[_IN_PYTHON] = "1"
    number, rounds = (256, 1) if arguments.quick else (arguments.pictures, arguments.rounds)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as closing:
        _write(Path(folder), number)
        command = [sys.executable, __file__, "--threads", str(arguments.threads), "--one"]
        processes = {
            name: closing.enter_context(
                subprocess.Popen(
                    [*command, name, folder],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for name in _LOOPS
        }
        found = [{name: _turn(one) for name, one in processes.items()} for _ in range(rounds)]
        for one in processes.values():
            one.communicate()
    Console(width=100).print(_table(found, number, arguments.threads))


def _table(found: list[dict[str, _Run]], number: int, threads: int) -> Table:
    decoded = number * 3 * _SIDE * _SIDE * 4 / 1e6
    title = f"{number:,} pictures, {decoded:.0f} MB decoded, {_EPOCHS} epochs, {threads} threads"
    table = Table(title=title)
    for heading in ("loop", "pictures / s", "of bare", "/ CPU s", "of bare", "peak MB"):
        table.add_column(heading, justify="right")
    for name in _LOOPS:
        row = [name]
        for kind in ("seconds", "cpu_seconds"):
            # Each round is compared within itself, so that what slows the machine slows both.
            ratio = statistics.median(
                min(getattr(turn[other], kind) for other in _BARE) / getattr(turn[name], kind)
                for turn in found
            )
            took = statistics.median(getattr(turn[name], kind) for turn in found)
            row += [f"{_EPOCHS * number / took:,.0f}", f"{ratio:.2f}"]
        peak = statistics.median(turn[name].peak_mb for turn in found)
        table.add_row(*row, f"{peak:,.0f}")
    return table


if __name__ == "__main__":
    main()
