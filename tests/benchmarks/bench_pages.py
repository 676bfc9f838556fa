"""What the pages cost: those of the site at many predictions and nights, and the archived ones of a night.

Run: PYTHONPATH=tests python tests/benchmarks/bench_pages.py [--nights 400] [--predictions 1000000] [--rounds 5]

A made-up year is written (tests/worlds/years.py), and predictions are added to it. Every page of the site is
asked for over HTTP from a server of its own process, which by then has read what it keeps; first is the first time,
next the median of the rounds after it. Then the archived pages are written, and all are loaded in Chromium, where there is one.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.table import Table
from sqlalchemy import insert, select
from worlds.years import open_year

from flywheel.ledger.tables import annotations, predictions, samples
from flywheel.ledger.windows import latest, move_watermark
from flywheel.loop import Loop
from flywheel.report import write_labeling, write_overview, write_report
from flywheel.report.site import site

_TIMES = "(() => { const t = performance.getEntriesByType('navigation')[0]; return [t.domContentLoadedEventEnd, t.loadEventEnd]; })()"
_FLAGS = ["--no-sandbox"]
_BLOCK = 20_000
_SETTLED_SECONDS = 15.0
"""in which the server reads in the background what its pages show"""
_FILTERS = (
    "",
    "state=seen",
    "state=any&night=300",
    "signal=low_confidence",
    "answer=green&high=0.7",
    "answer=never",
    "low=0.55&high=0.56",
    "night=200",
    "label=red",
    "annotator=ada",
    "slice=rain",
)


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description="what the pages cost after many nights")
    parser.add_argument("--nights", type=int, default=400)
    parser.add_argument("--predictions", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as name,
        open_year(Path(name), asked.nights) as loop,
    ):
        _add(loop, asked.predictions)
        console = Console()
        with _serving(loop) as url:
            paths = _paths(loop, asked.nights)
            console.print(_asked(url, paths, asked.rounds, asked))
            loaded = _load([f"{url}{path}" for path in paths], asked.rounds)
            console.print(_seen(loaded))
        written = _write(loop, asked.nights, asked.rounds)
        loaded = _load([path.as_uri() for path, _ in written.values()], asked.rounds)
        console.print(_table(asked.nights, written, loaded))


def _add(loop: Loop, number: int) -> None:
    """Add predictions of new samples to the log, newer than all that is there."""
    rng = np.random.default_rng(1)
    now = loop.now()
    for start in range(0, number, _BLOCK):
        ids = [f"{start + place:064x}" for place in range(min(_BLOCK, number - start))]
        sure = rng.uniform(0.3, 1.0, len(ids))
        places = rng.normal(size=(len(ids), 64)).astype("<f4")
        with loop.ledger.begin() as connection:
            connection.execute(
                insert(samples),
                [
                    {"id": key, "media_type": "image/png", "metadata": {}, "group": key}
                    | {"split": "train", "created_at": now}
                    for key in ids
                ],
            )
            connection.execute(
                insert(predictions),
                [
                    {"id": key[-32:], "sample_id": key, "answer": ("red", "green")[place % 2]}
                    | {"confidence": float(sure[place]), "embedding": places[place].tobytes()}
                    | {"latency_ms": 1.0, "model_digest": "d" * 64, "created_at": now}
                    for place, key in enumerate(ids)
                ],
            )

    with loop.ledger.begin() as connection:  # the nights have collected all but the last day's
        seen = latest(connection, "predictions") - number // 400
        move_watermark(connection, "predictions collected", seen)


def _paths(loop: Loop, nights: int) -> list[str]:
    with loop.ledger.read() as connection:
        query = select(annotations.c.sample_id).order_by(annotations.c.updated_at).limit(1)
        sample = connection.execute(query).scalar_one()
    galleries = [f"/pages/samples{'?' if one else ''}{one}" for one in _FILTERS]
    pages = ("", f"nights/{nights}", f"samples/{sample}", "map", "annotators", "releases", "assess")
    return [*(f"/pages/{one}" for one in pages), *galleries]


@contextmanager
def _serving(loop: Loop) -> Iterator[str]:
    app = FastAPI()
    app.include_router(site(loop.project, loop.task, loop.ledger, loop.blobs))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        time.sleep(_SETTLED_SECONDS)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def _asked(url: str, paths: list[str], rounds: int, asked: argparse.Namespace) -> Table:
    title = f"the site at {asked.predictions:,} predictions and {asked.nights} nights"
    table = Table(title=title)
    for heading in ("page", "first ms", "next ms", "kB"):
        table.add_column(heading, justify="right")
    with httpx.Client(base_url=url, timeout=60) as client:
        client.get("/pages/site.css")
        for path in paths:
            times = []
            for _ in range(rounds + 1):
                start = time.perf_counter()
                answer = client.get(path)
                times.append(1e3 * (time.perf_counter() - start))
            answer.raise_for_status()
            size = f"{len(answer.content) / 1000:.0f}"
            table.add_row(path, f"{times[0]:.0f}", f"{statistics.median(times[1:]):.0f}", size)
    return table


def _write(loop: Loop, nights: int, rounds: int) -> dict[str, tuple[Path, float]]:
    """Page -> its path and the median seconds of writing it; the last one writes all three."""
    writers: dict[str, Callable[[], Path]] = {
        "all nights": lambda: write_overview(loop),
        "labeling": lambda: write_labeling(loop),
        "all three, as a night does": lambda: write_report(loop, nights),
    }
    found = {}
    for name, write in writers.items():
        seconds = []
        for _ in range(rounds):
            start = time.perf_counter()
            path = write()
            seconds.append(time.perf_counter() - start)
        found[name] = (path, statistics.median(seconds))
    return found


def _load(addresses: list[str], rounds: int) -> dict[str, tuple[float, float]]:
    """Page -> median milliseconds to its content and to its load event; {} without a Chromium."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        return {}
    found = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        for address in addresses:
            times = []
            for _ in range(rounds):
                page = browser.new_page(viewport={"width": 1000, "height": 900})
                page.goto(address)
                times.append(page.evaluate(_TIMES))
                page.close()
            content, load = (statistics.median(column) for column in zip(*times, strict=True))
            found[address] = (content, load)
        browser.close()
    return found


def _seen(loaded: dict[str, tuple[float, float]]) -> Table:
    table = Table(title="the site in Chromium")
    for heading in ("page", "content ms", "loaded ms"):
        table.add_column(heading, justify="right")
    for address, (content, load) in loaded.items():
        table.add_row(address.partition("/pages")[2], f"{content:.0f}", f"{load:.0f}")
    return table


def _table(
    nights: int,
    written: dict[str, tuple[Path, float]],
    loaded: dict[str, tuple[float, float]],
) -> Table:
    table = Table(title=f"archived pages after {nights} nights")
    for heading in ("page", "file", "written s", "size kB", "content ms", "loaded ms"):
        table.add_column(heading, justify="right")
    for name, (path, seconds) in written.items():
        known = loaded.get(path.as_uri())
        times = [f"{value:.0f}" for value in known] if known else ["-", "-"]
        size = f"{path.stat().st_size / 1000:.0f}"
        table.add_row(name, path.name, f"{seconds:.2f}", size, *times)
    return table


if __name__ == "__main__":
    main()
