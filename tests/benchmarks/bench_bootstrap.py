"""The bootstrap against SciPy's: paired BCa resamples of a median and of F1, time and memory.

Run: python tests/benchmarks/bench_bootstrap.py [--rows 100000] [--resamples 10000] [--quick]

Both make the 95 % BCa interval of candidate minus champion from the same scores in one run, each
in a process of its own, on one thread. Peak memory is what the process grew by, from after
the imports and the scores to the end. SciPy works in batches of 1,000,000 scores and its statistic
is vectorised. Its jackknife computes N statistics of N - 1 rows, so full size takes it long;
`--ours` leaves it out, `--quick` makes all smaller.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from flywheel.evaluate import bootstrap
from flywheel.metrics.compiled import compile_formula
from flywheel.metrics.scores import ScoreTable
from flywheel.records import Array

_BATCH_ELEMENTS = 1_000_000
_FORMULAS = {"median": "error.median", "F1": "predicted.f1(actual)"}


def _scores(num_rows: int) -> tuple[ScoreTable, ScoreTable]:
    rng = np.random.default_rng(0)
    actual, error = rng.random(num_rows) < 0.4, rng.exponential(size=num_rows)
    tables = [
        {
            "error": error + rng.exponential(scale, num_rows),
            "predicted": (actual ^ (rng.random(num_rows) < wrong)).astype(float),
            "actual": actual.astype(float),
        }
        for scale, wrong in ((0.48, 0.10), (0.5, 0.11))
    ]
    return tables[0], tables[1]


def _ours(formula: str, num_rows: int, num_resamples: int) -> tuple[float, float]:
    contrast = bootstrap.Contrast(
        statistic=compile_formula(_FORMULAS[formula], None),
        tables=_scores(num_rows),
        weights=np.ones(num_rows),
        clusters=np.arange(num_rows),
    )
    bootstrap._num_resamples = lambda _: num_resamples  # as many as the peer draws
    found = bootstrap.bootstrap(contrast, 0.025, np.random.default_rng(1))
    if found is None:
        raise ValueError(f"{formula} is not defined on {num_rows} rows; take more")
    return found.low, found.high


def _median_difference(first: Array, second: Array, axis: int = -1) -> Array:
    return np.median(first, axis=axis) - np.median(second, axis=axis)


def _f1(predicted: Array, actual: Array, axis: int) -> Array:
    hits = np.count_nonzero(predicted & actual, axis=axis)
    marked = np.count_nonzero(predicted, axis=axis) + np.count_nonzero(actual, axis=axis)
    return 2 * hits / marked


def _f1_difference(first: Array, second: Array, actual: Array, axis: int = -1) -> Array:
    return _f1(first, actual, axis) - _f1(second, actual, axis)


def _scipys(formula: str, num_rows: int, num_resamples: int) -> tuple[float, float]:
    first, second = _scores(num_rows)
    if formula == "median":
        columns, statistic = (first["error"], second["error"]), _median_difference
    else:
        tables = (first["predicted"], second["predicted"], first["actual"])
        columns, statistic = tuple(one.astype(bool) for one in tables), _f1_difference
    found = stats.bootstrap(
        columns,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=num_resamples,
        batch=max(1, _BATCH_ELEMENTS // num_rows),
        method="BCa",
        rng=np.random.default_rng(1),
    ).confidence_interval
    return float(found.low), float(found.high)


def _peak() -> float:
    """Highest resident memory so far, in MiB; ru_maxrss counts KiB on Linux, bytes on macOS."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _child(who: str, formula: str, num_rows: int, num_resamples: int) -> None:
    """Run one and print seconds, MiB and bounds as JSON."""
    _scores(num_rows)
    before, started = _peak(), time.perf_counter()
    bounds = (_ours if who == "ours" else _scipys)(formula, num_rows, num_resamples)
    seconds = time.perf_counter() - started
    print(json.dumps([seconds, _peak() - before, *bounds]))  # noqa: T201


def _measure(who: str, formula: str, num_rows: int, num_resamples: int) -> list[float]:
    done = subprocess.run(
        [sys.executable, __file__, "--child", who, formula, str(num_rows), str(num_resamples)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    return [float(value) for value in json.loads(done.stdout)]


def main() -> None:
    """Measure all and print the table."""
    parser = argparse.ArgumentParser(description="bootstrap of a median and of F1 against SciPy's")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--quick", action="store_true", help="3,000 rows, 2,000 resamples")
    parser.add_argument("--ours", action="store_true", help="leave SciPy out")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        who, formula, *sizes = arguments.child
        return _child(who, formula, *map(int, sizes))
    sizes = (3_000, 2_000) if arguments.quick else (arguments.rows, arguments.resamples)
    table = Table(title=f"{sizes[1]:,} paired BCa resamples of {sizes[0]:,} scores, one thread")
    for heading in ("statistic", "by", "seconds", "peak MiB", "95 % interval", "times faster"):
        table.add_column(heading, justify="right")
    for formula in _FORMULAS:
        first = 0.0
        for who in ("ours",) if arguments.ours else ("ours", "SciPy"):
            seconds, memory, low, high = _measure(who, formula, *sizes)
            ratio = f"{seconds / first:,.0f}" if first else ""
            bounds = f"[{low:+.5f}, {high:+.5f}]"
            table.add_row(formula, who, f"{seconds:.2f}", f"{memory:.0f}", bounds, ratio)
            first = seconds
    Console(width=100).print(table)
    return None


if __name__ == "__main__":
    main()
