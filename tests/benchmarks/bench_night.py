"""What a night costs beyond its work: Prefect's share, and the length of the log.

Run: python tests/benchmarks/bench_night.py [--rounds 3]

The digits project with the settings that it is shipped with. First table: the same night run
by the real flow on a real Prefect server, and by the loop alone, each with its report; rounds
alternate.
Second table: a night with 400 new predictions when the log holds 1,000, 10,000 and 100,000
old ones that earlier nights have collected and selected from. The same number of old failures
waits in each: selecting reads those, up to 2,000. Datasets grow with labels, of which there are
no more here. Label Studio is down, which is a note in the night and not a fault.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from prefect.events.worker import EventsWorker
from prefect.logging.configuration import setup_logging
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from rich.console import Console
from rich.table import Table
from sqlalchemy import delete
from threadpoolctl import threadpool_limits
from traffic import NOW, logged, serve_traffic

from flows.nightly import nightly
from flywheel import stack
from flywheel.collect import collect
from flywheel.examples.digits.world import DriftingScans
from flywheel.ledger.datasets import add_labels
from flywheel.ledger.nights import finished_steps
from flywheel.ledger.predictions import append_predictions
from flywheel.ledger.releases import current_release
from flywheel.ledger.tables import payloads
from flywheel.loop import Loop, begin_night, open_loop, steps
from flywheel.project import load_project
from flywheel.records import Answer, Label, Sample
from flywheel.report import night_page, write_report
from flywheel.select import select_batch

STEPS = (
    steps.DEPLOY, steps.COLLECT, steps.ROUTE, steps.INGEST,
    steps.RETRAIN, steps.EVALUATE, steps.DECIDE, steps.RELEASE,
)  # fmt: skip
OLD = (1_000, 10_000, 100_000)
_WAITING = 500
_WORLD = DriftingScans(seed=0)


def main() -> None:
    """Measure and print both tables."""
    parser = argparse.ArgumentParser(description="what a night costs beyond its work")
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    console = Console()
    with (
        threadpool_limits(1),  # cores that others use make a night wait for its own threads
        tempfile.TemporaryDirectory() as name,
        console.status(f"1 + {rounds} x {len(OLD) + 2} nights …"),
    ):
        folder = Path(name)
        with _prefect(folder / "prefect"):
            first = _first_night(folder / "first")
            labeled = _copied(first, folder / "labeled")
            _label(labeled)
            orchestration = _orchestration(labeled, folder, rounds)
        growth = {old: _growth(first, folder / str(old), old, rounds) for old in OLD}
    console.print(_orchestration_table(orchestration))
    console.print(_growth_table(growth))


def _first_night(directory: Path) -> Path:
    """A project that has released its first model."""
    _configure(directory)
    with _served(directory):
        _bare(directory)
    return directory


def _label(directory: Path) -> None:
    """Log a day of traffic, select from it, label the selection; log the next day."""
    with open_loop(directory) as loop:
        truth = serve_traffic(loop, _weights(loop), _WORLD.traffic(0))
        chosen = _select(loop)
        labels = [
            Label(
                sample_id=sample_id,
                answer=truth[sample_id],
                reliability=1.0,
                num_annotations=1,
                source="annotators",
            )
            for sample_id in chosen
        ]
        with loop.ledger.begin() as connection:
            add_labels(connection, labels, NOW)
        serve_traffic(loop, _weights(loop), _WORLD.traffic(1))


def _select(loop: Loop) -> list[str]:
    collect(loop.ledger, loop.project.collect.low_confidence, 0, NOW)
    batch = select_batch(loop.ledger, loop.project.labeling, seed=0, night=0, now=NOW)
    return [choice.sample_id for choice in batch.choices]


def _orchestration(past: Path, folder: Path, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds of the whole night and of its steps together, of each round."""
    ways = {"the loop": _with_report, "Prefect": _by_prefect}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, run in ways.items():
            directory = _copied(past, folder / f"{name} {number}")
            with _served(directory):
                start = time.perf_counter()
                run(directory)
                wall = time.perf_counter() - start
            found[name].append((wall, sum(_step_seconds(directory, 1).values())))
    return found


def _growth(past: Path, folder: Path, old: int, rounds: int) -> dict[str, float]:
    """Median seconds of each step of a night on a log with so many old predictions."""
    grown = _copied(past, folder / "past")
    with open_loop(grown) as loop:
        _add_old(loop, old)
        serve_traffic(loop, _weights(loop), _WORLD.traffic(1))
    found = []
    for number in range(rounds):
        directory = _copied(grown, folder / str(number))
        _bare(directory)
        found.append(_step_seconds(directory, 1))
    return {step.name: statistics.median(one[step.name] for one in found) for step in STEPS}


def _add_old(loop: Loop, count: int) -> None:
    """Log predictions that no later night reads, and do with them what a night does."""
    rng = np.random.default_rng(count)
    entries = []
    for number in range(count):
        confidence = 0.3 if number < _WAITING else 0.95
        embedding = rng.normal(size=64).astype(np.float32)
        sample = Sample.of(rng.bytes(16), "image/png", {})
        answer = Answer(value="3", confidence=confidence, embedding=embedding)
        entries.append(logged(loop, sample, answer, "0" * 64))
    with loop.ledger.begin() as connection:
        append_predictions(connection, entries)
        connection.execute(delete(payloads))  # moved long ago, and never read again
    _select(loop)


def _bare(directory: Path) -> None:
    with open_loop(directory) as loop, begin_night(loop) as under_way:
        for step in STEPS:
            under_way.do(step)
        under_way.finish()


def _with_report(directory: Path) -> None:
    """All that the flow does, without Prefect."""
    _bare(directory)
    with open_loop(directory) as loop:
        write_report(loop, 2)
        night_page(loop, 2)


def _by_prefect(directory: Path) -> None:
    nightly(directory)


def _step_seconds(directory: Path, number: int) -> dict[str, float]:
    with open_loop(directory) as loop, loop.ledger.read() as connection:
        return {one.name: one.seconds for one in finished_steps(connection, number).values()}


def _weights(loop: Loop) -> bytes:
    with loop.ledger.read() as connection:
        release = current_release(connection)
    if release is None:
        raise SystemExit("night 1 released nothing; see why with flywheel night on digits.toml")
    return loop.blobs.get(release.checkpoint_digest)


def _copied(past: Path, directory: Path) -> Path:
    """A project with the same past, and a port of its own."""
    shutil.copytree(past, directory)
    _configure(directory)
    return directory


def _configure(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    text = (files("flywheel") / "examples/digits/flywheel.toml").read_text(encoding="utf-8")
    text = text.replace("[labeling]", f'[labeling]\nurl = "http://127.0.0.1:{_free_port()}"')
    text += f"\n[serve]\nport = {_free_port()}\n"
    (directory / "flywheel.toml").write_text(text, encoding="utf-8")


@contextmanager
def _served(directory: Path) -> Iterator[None]:
    project = load_project(directory)
    try:
        stack.up(project, ["model-server"], progress=lambda _: None)
        yield
    finally:
        stack.down(project, progress=lambda _: None)


@contextmanager
def _prefect(directory: Path) -> Iterator[None]:
    """A Prefect server of its own, and this process as its client."""
    _configure(directory)
    with (directory / "flywheel.toml").open("a") as settings:
        settings.write(f'[prefect]\nurl = "http://127.0.0.1:{_free_port()}"\n')
    project = load_project(directory)
    try:
        stack.up(project, ["prefect"], progress=lambda _: None)
        # Who runs this came for the tables; Prefect's lines go to its server as on any night.
        os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"
        setup_logging()
        password = stack.environment(project)["PREFECT_API_AUTH_STRING"]
        known = {PREFECT_API_URL: f"{project.prefect.url}/api", PREFECT_API_AUTH_STRING: password}
        with temporary_settings(known):
            yield
            # Else Prefect's threads go on trying to reach the server that has ended by then.
            APILogWorker.drain_all()
            EventsWorker.drain_all()
    finally:
        stack.down(project, progress=lambda _: None)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _orchestration_table(found: dict[str, list[tuple[float, float]]]) -> Table:
    table = Table(title=f"a night of digits, medians of {len(found['Prefect'])} rounds")
    for heading in ("run by", "night s", "its steps s", "night / steps", "beyond the steps s"):
        table.add_column(heading, justify="right")
    for name, nights in found.items():
        wall, steps = (statistics.median(column) for column in zip(*nights, strict=True))
        ratio = statistics.median(whole / work for whole, work in nights)
        beyond = statistics.median(whole - work for whole, work in nights)
        table.add_row(name, f"{wall:.2f}", f"{steps:.2f}", f"{ratio:.2f}", f"{beyond:.2f}")
    return table


def _growth_table(growth: dict[int, dict[str, float]]) -> Table:
    table = Table(title="seconds of a night with 400 new predictions, by old ones in the log")
    for heading in ("step", *(f"{old:,}" for old in OLD), f"{OLD[-1]:,} / {OLD[0]:,}"):
        table.add_column(heading, justify="right")
    rows = {step.name: [growth[old][step.name] for old in OLD] for step in STEPS}
    rows["all"] = [sum(growth[old].values()) for old in OLD]
    for name, seconds in rows.items():
        ratio = f"{seconds[-1] / seconds[0]:.2f}"
        table.add_row(name, *(f"{one:.3f}" for one in seconds), ratio)
    return table


if __name__ == "__main__":
    main()
