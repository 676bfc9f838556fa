"""A night over 1,000,000 new predictions: seconds and memory of each step.

Run: python tests/benchmarks/bench_million.py [--small]

The first night of digits, whose log holds so many predictions, a tenth of them unsure;
each step with its seconds and its peak of resident memory. Below them, what a user would do instead
of collecting and choosing: read the predictions into one pandas frame, filter, draw and sort there.
That one stores nothing, spreads nothing over the data and knows no inclusion probabilities.
Label Studio and the model server are down, which is a note in the night and not a fault. Payloads
count as moved to the blobs: that is one file each, and a matter of the disk.
--small: 20,000 predictions, a run of seconds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from sqlalchemy import delete, func, select
from traffic import logged

from flywheel.ledger.predictions import append_predictions
from flywheel.ledger.tables import batches, choices, failures, payloads
from flywheel.loop import Loop, begin_night, open_loop, steps
from flywheel.records import Answer, Sample

STEPS = (
    steps.DEPLOY, steps.COLLECT, steps.ROUTE, steps.INGEST,
    steps.RETRAIN, steps.EVALUATE, steps.DECIDE,
)  # fmt: skip
_PIECE = 20_000
_FRAME = "frame"


class Cost(NamedTuple):
    """What something took."""

    seconds: float
    peak_mb: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="a night over a million predictions")
    parser.add_argument("--small", action="store_true", help="20,000, for a look")
    parser.add_argument(f"--{_FRAME}", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.frame is not None:
        cost = _measured(lambda: _by_hand(arguments.frame))
        sys.stdout.write(f"{cost.seconds} {cost.peak_mb}")
        return
    number = 20_000 if arguments.small else 1_000_000
    console = Console()
    with tempfile.TemporaryDirectory() as name, console.status(f"a night over {number:,} …"):
        directory = Path(name)
        _configure(directory)
        writing = _measured(lambda: _write(directory, number))
        costs, counts = _night(directory)
        by_hand = _in_a_process(directory)
    console.print(_table(number, writing, costs, by_hand))
    console.print(counts)


def _configure(directory: Path) -> None:
    text = (files("flywheel") / "examples/digits/flywheel.toml").read_text(encoding="utf-8")
    text = text.replace("[labeling]", '[labeling]\nurl = "http://127.0.0.1:9"')
    (directory / "flywheel.toml").write_text(text + "\n[serve]\nport = 9\n", encoding="utf-8")


def _write(directory: Path, number: int) -> None:
    """The log as the model server leaves it, a tenth of it unsure."""
    with open_loop(directory) as loop:
        for start in range(0, number, _PIECE):
            rng = np.random.default_rng(start)
            rows = [_one(loop, rng) for _ in range(min(_PIECE, number - start))]
            with loop.ledger.begin() as connection:
                append_predictions(connection, rows)
                connection.execute(delete(payloads))


def _one(loop: Loop, rng: np.random.Generator) -> Any:
    sample = Sample.of(rng.bytes(16), "image/png", {})
    confidence = float(rng.uniform(0.1, 0.6) if rng.random() < 0.1 else rng.uniform(0.8, 1.0))
    embedding = rng.normal(size=64).astype(np.float32)
    answer = Answer(value=str(rng.integers(10)), confidence=confidence, embedding=embedding)
    return logged(loop, sample, answer, "0" * 64)


def _night(directory: Path) -> tuple[dict[str, Cost], str]:
    costs = {}
    with open_loop(directory) as loop:
        with begin_night(loop) as under_way:
            for step in STEPS:
                costs[step.name] = _measured(lambda step=step: under_way.do(step))  # type: ignore[misc]
        with loop.ledger.read() as connection:
            counts = [
                connection.execute(query).scalar_one()
                for query in (
                    select(func.count()).select_from(failures),
                    select(func.sum(batches.c.population)),
                    select(func.count()).select_from(choices),
                )
            ]
    return costs, "failures {:,}, population {:,}, chosen {:,}".format(*counts)


def _by_hand(directory: Path) -> None:
    """Collect and choose in one frame."""
    with open_loop(directory) as loop:
        url, settings = loop.project.ledger_url, loop.project.labeling
    query = (
        "select p.sample_id, p.confidence, p.embedding, p.answer, s.split from predictions p "
        "join samples s on s.id = p.sample_id"
    )
    frame = pd.read_sql(query, url)
    failing = frame[(frame.confidence < 0.7) & (frame.split == "train")]
    failing.sort_values("confidence").head(settings.samples_per_night)
    testing = frame[frame.split == "test"].drop_duplicates("sample_id")
    testing.sample(settings.samples_per_night, weights=1.001 - testing.confidence, random_state=0)


def _in_a_process(directory: Path) -> Cost:
    """By hand, in a process of its own: what this one holds already would count."""
    command = [sys.executable, __file__, f"--{_FRAME}", str(directory)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
    return Cost(*(float(word) for word in done.stdout.split()))


def _measured(work: Callable[[], object]) -> Cost:
    """Seconds, and the most memory meanwhile: Linux forgets the peak on request."""
    Path("/proc/self/clear_refs").write_text("5")
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    status = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return Cost(seconds, peak / 1024)


def _table(number: int, writing: Cost, costs: dict[str, Cost], by_hand: Cost) -> Table:
    table = Table(title=f"the first night over {number:,} predictions")
    for heading in ("step", "seconds", "peak MB"):
        table.add_column(heading, justify="right")
    choosing = [costs[steps.COLLECT.name], costs[steps.ROUTE.name]]
    together = Cost(sum(c.seconds for c in choosing), max(c.peak_mb for c in choosing))
    rows = {
        "(writing the log)": writing,
        **costs,
        "collect + route": together,
        "by hand in pandas": by_hand,
    }
    for name, cost in rows.items():
        table.add_row(name, f"{cost.seconds:.1f}", f"{cost.peak_mb:.0f}")
    ratio = Cost(together.seconds / by_hand.seconds, together.peak_mb / by_hand.peak_mb)
    table.add_row("ours / by hand", f"{ratio.seconds:.2f}", f"{ratio.peak_mb:.2f}")
    return table


if __name__ == "__main__":
    main()
