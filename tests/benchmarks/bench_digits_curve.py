"""The digits curve: the single metric over the nights, hard cases against random labels.

Run: python tests/benchmarks/bench_digits_curve.py [--nights 10] [--seeds 5] [--labels 30]

On 240 scans a night that may train, few enough labels that choosing them can matter; people are
wrong in 2 of 100 cases. See curve.py for what the arms share.
"""

from __future__ import annotations

import argparse

import numpy as np
from curve import Case, curve_table, run_case, saved_labels
from rich.console import Console

from flywheel.examples.digits.task import CLASSES
from flywheel.examples.digits.world import DriftingScans
from flywheel.records import Json

_ERROR_RATE = 0.02


def answer(truth: Json, annotators: np.random.Generator) -> Json:
    """What a person makes of a scan."""
    return str(annotators.choice(CLASSES)) if annotators.random() < _ERROR_RATE else truth


def world(seed: int) -> DriftingScans:
    """The production of a seed."""
    return DriftingScans(seed=seed)


def main() -> None:
    """Run both arms for every seed and print the curves and their paired difference."""
    parser = argparse.ArgumentParser(description="hard cases against random labels on digits")
    parser.add_argument("--nights", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--labels", type=int, default=30, help="training labels a night")
    arguments = parser.parse_args()
    case = Case(
        settings="examples/digits/flywheel.toml",
        world=world,
        answer=answer,
        formulas=("correct",),
        higher_is_better=(True,),
        num_nights=arguments.nights,
        num_labels=arguments.labels,
        exam_samples=2_000,
    )
    console = Console()
    with console.status(f"arms of {arguments.nights} nights …"):
        curves = run_case(case, arguments.seeds, all_at_once=True)
    console.print(curve_table(case, curves, 0))
    console.print(saved_labels(case, curves, 0))


if __name__ == "__main__":
    main()
