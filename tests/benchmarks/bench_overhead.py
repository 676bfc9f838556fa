"""What Prefect adds to a night: Prefect tasks, artifacts, calls of its API, seconds.

Run: python tests/benchmarks/bench_overhead.py [--rounds 3]

The digits project's second night, with a day of traffic and its labels behind it: once by the real
flow on a real Prefect server that flywheel starts, once by the loop alone with the same pages
written; rounds alternate. Calls are counted in the client, those of its threads included; events
go over one websocket and are not calls. Label Studio is down, which is a note and not a fault.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bench_night
import torch
from prefect.client import base
from prefect.client.orchestration import get_client
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits


class Calls:
    """Counts what Prefect's clients of this process send."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, request: Any) -> None:
        """Count one call by the first part of its path."""
        part = request.url.path.removeprefix("/api/").split("/")[0]
        with self._lock:
            self.counts[f"{request.method} {part}"] += 1


@contextmanager
def _counted() -> Iterator[Calls]:
    calls, plain, other = (
        Calls(),
        base.PrefectHttpxSyncClient.send,
        base.PrefectHttpxAsyncClient.send,
    )

    def send(self: Any, request: Any, *args: Any, **more: Any) -> Any:
        calls.add(request)
        return plain(self, request, *args, **more)

    async def send_async(self: Any, request: Any, *args: Any, **more: Any) -> Any:
        calls.add(request)
        return await other(self, request, *args, **more)

    base.PrefectHttpxSyncClient.send = send  # type: ignore[method-assign]
    base.PrefectHttpxAsyncClient.send = send_async  # type: ignore[method-assign]
    try:
        yield calls
    finally:
        base.PrefectHttpxSyncClient.send = plain  # type: ignore[method-assign]
        base.PrefectHttpxAsyncClient.send = other  # type: ignore[method-assign]


def main() -> None:
    """Measure and print both tables."""
    parser = argparse.ArgumentParser(description="what Prefect adds to a night")
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    ways = {"the loop": bench_night._with_report, "Prefect": bench_night._by_prefect}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with threadpool_limits(1), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with bench_night._prefect(folder / "prefect"):
            labeled = bench_night._copied(
                bench_night._first_night(folder / "first"), folder / "labeled"
            )
            bench_night._label(labeled)
            for number in range(rounds):
                for way, run in ways.items():
                    directory = bench_night._copied(labeled, folder / f"{way} {number}")
                    with bench_night._served(directory), _counted() as calls:
                        start = time.perf_counter()
                        run(directory)
                        seconds[way].append(time.perf_counter() - start)
            made = _made()
    console = Console()
    console.print(_seconds_table(seconds))
    console.print(_calls_table(calls, made, rounds))


def _made() -> dict[str, int]:
    """What the server holds of all rounds."""
    with get_client(sync_client=True) as client:
        return {
            "Prefect tasks": client.request("POST", "/task_runs/count", json={}).json(),
            "artifacts": client.request("POST", "/artifacts/count", json={}).json(),
        }


def _seconds_table(seconds: dict[str, list[float]]) -> Table:
    table = Table(title=f"seconds of a night, {len(seconds['Prefect'])} rounds")
    for heading in ("run by", "median", "least", "most"):
        table.add_column(heading, justify="right")
    for way, found in seconds.items():
        shown = (statistics.median(found), min(found), max(found))
        table.add_row(way, *(f"{value:.2f}" for value in shown))
    pairs = zip(seconds["Prefect"], seconds["the loop"], strict=True)
    more = statistics.median(one - other for one, other in pairs)
    table.add_row("Prefect adds", f"{more:.2f}", "", "")
    return table


def _calls_table(calls: Calls, made: dict[str, int], rounds: int) -> Table:
    table = Table(title="of one night in Prefect")
    table.add_column("what")
    table.add_column("number", justify="right")
    for name, number in made.items():
        table.add_row(name, f"{number / rounds:g}")
    table.add_row("calls of its API", f"{calls.counts.total()}")
    for name, number in calls.counts.most_common():
        table.add_row(f"  {name}", f"{number}")
    return table


if __name__ == "__main__":
    main()
