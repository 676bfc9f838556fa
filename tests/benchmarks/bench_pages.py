"""What the pages cost after 400 nights: to write, to keep, to load.

Run: PYTHONPATH=tests python tests/benchmarks/bench_pages.py [--nights 400] [--rounds 5]

A made-up year is written (tests/worlds/years.py). Then the page of all nights, the page of labeling
and the page of the last night are written and loaded in Chromium from the disk, where there is a
Chromium. Medians of the rounds; loaded is the load event.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.table import Table
from worlds.years import open_year

from flywheel.loop import Loop
from flywheel.report import write_labeling, write_overview, write_report

_TIMES = "(() => { const t = performance.getEntriesByType('navigation')[0]; return [t.domContentLoadedEventEnd, t.loadEventEnd]; })()"
_FLAGS = ["--no-sandbox"]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="what the pages cost after many nights")
    parser.add_argument("--nights", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as name,
        open_year(Path(name), asked.nights) as loop,
    ):
        written = _write(loop, asked.nights, asked.rounds)
        loaded = _load([path for path, _ in written.values()], asked.rounds)
        Console().print(_table(asked.nights, written, loaded))


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


def _load(paths: list[Path], rounds: int) -> dict[Path, tuple[float, float]]:
    """Page -> median milliseconds to its content and to its load event; {} without a Chromium."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        return {}
    found = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        for path in paths:
            times = []
            for _ in range(rounds):
                page = browser.new_page(viewport={"width": 1000, "height": 900})
                page.goto(path.as_uri())
                times.append(page.evaluate(_TIMES))
                page.close()
            content, load = (statistics.median(column) for column in zip(*times, strict=True))
            found[path] = (content, load)
        browser.close()
    return found


def _table(
    nights: int,
    written: dict[str, tuple[Path, float]],
    loaded: dict[Path, tuple[float, float]],
) -> Table:
    table = Table(title=f"pages after {nights} nights")
    for heading in ("page", "file", "written s", "size kB", "content ms", "loaded ms"):
        table.add_column(heading, justify="right")
    for name, (path, seconds) in written.items():
        times = [f"{value:.0f}" for value in loaded[path]] if path in loaded else ["-", "-"]
        size = f"{path.stat().st_size / 1000:.0f}"
        table.add_row(name, path.name, f"{seconds:.2f}", size, *times)
    return table


if __name__ == "__main__":
    main()
