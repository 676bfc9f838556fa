"""Proves the forecast on whole projects: nights of the real loop, and the labels that a level took.

Run: python tests/proofs/prove_forecast.py [messages] [--seeds 2] [--nights 16] [--labels 60] [--cache FILE]

Each seed is a project. Its true curve is a monotone fit to the exams of all its nights, and the level is
what it reaches with four fifths of the labels of the last one. The forecast sees what the project's own
reports say of its first nights, and no more: some are too few for any. Where the curve is flat by then,
no number of labels is the right one: take fewer a night.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.isotonic import IsotonicRegression

from flywheel.decide.curve import FEWEST, Measured, fit_curve, standard_error
from flywheel.examples.demos import find_demo
from flywheel.examples.simulation import OURS, Job, metric_of, run_job
from flywheel.records import Estimate
from flywheel.settings.learning import Dataset

Nights = list[dict[str, Any]]
_REACHED = 0.8
_WINDOW = Dataset().window_nights


def nights_of(cache: Path | None, name: str, seeds: int, nights: int, labels: int) -> list[Nights]:
    """Return the nights of each seed; what the cache, a file for one number of labels, lacks is simulated."""
    known = json.loads(cache.read_text()) if cache and cache.exists() else {}
    for seed in range(seeds):
        if len(known.get(f"{name} {seed}", ())) >= nights:
            continue
        job = Job(demo=name, world="", num_nights=nights, num_labels=labels, seed=seed, arm=OURS)
        known[f"{name} {seed}"] = [asdict(one) for one in run_job(job, lambda _: None)]
        if cache:
            cache.write_text(json.dumps(known))
    return [known[f"{name} {seed}"][:nights] for seed in range(seeds)]


def level_of(run: Nights, *, up: bool) -> tuple[float, float]:
    """Return a level that a project reached, and the labels that it took."""
    labels = np.array([night["num_train"] for night in run], dtype=float)
    values = np.array([night["trained"] for night in run])
    fitted = IsotonicRegression(increasing=up).fit(labels, values).predict(labels)
    # Steps of the fit have no one place where they are reached: the middles of its levels do.
    levels = np.unique(fitted)
    middles = [labels[fitted == level].mean() for level in levels]
    order = np.argsort(middles)
    aim = labels[0] + _REACHED * (labels[-1] - labels[0])
    return float(np.interp(aim, np.array(middles)[order], levels[order])), float(aim)


def measured_of(run: Nights) -> list[Measured]:
    """Return what the reports said."""
    return [
        Measured(night["num_train"], Estimate(**night["measured"]), number)
        for number, night in enumerate(run, start=1)
        if night["measured"]
    ]


def forecasts(runs: list[Nights], name: str, part: float) -> list[tuple[float, ...]]:
    """Return (low, middle, high, truth, now) labels of each project that can say something."""
    metric, found = metric_of(find_demo(name)), []
    up = metric.higher_is_better
    best = 1.0 if up else 0.0
    for run in runs:
        level, aim = level_of(run, up=up)
        first = run[0]["num_train"]
        known = [one for one in measured_of(run) if one.labels <= first + part * (aim - first)]
        curve = fit_curve(known, window=_WINDOW, higher_is_better=up, optimum=best)
        if curve is not None:
            reached = curve.labels_to(level)
            found.append((reached.low, reached.middle, reached.high, aim, known[-1].labels))
    return found


def nights_ahead(runs: list[Nights], name: str) -> tuple[int, int]:
    """Return how many nights lay in the 80 % interval that was forecast the night before, of how many."""
    metric, held, checked = metric_of(find_demo(name)), 0, 0
    up = metric.higher_is_better
    for run in runs:
        known = measured_of(run)
        for place in range(FEWEST, len(known)):
            best = 1.0 if up else 0.0
            before = known[:place]
            curve = fit_curve(before, window=_WINDOW, higher_is_better=up, optimum=best)
            if curve is not None:
                labels, came, _ = known[place]
                outlook = curve.at(labels, standard_error(came))
                held += outlook.low <= came.value <= outlook.high
                checked += 1
    return held, checked


def main() -> None:
    """Simulate what the cache lacks and print the coverage."""
    parser = argparse.ArgumentParser(description="labels to a level that was really reached")
    parser.add_argument("name", nargs="?", default="messages", help="digits, messages or pose")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--nights", type=int, default=16)
    parser.add_argument("--labels", type=int, default=60, help="of a night")
    parser.add_argument("--cache", type=Path, help="nights that are known already, and are kept")
    arguments = parser.parse_args()
    runs = nights_of(
        arguments.cache, arguments.name, arguments.seeds, arguments.nights, arguments.labels
    )
    print(f"{arguments.name}: {len(runs)} projects of {arguments.nights} nights")  # noqa: T201
    for part in (0.2, 0.4, 0.6):
        found = np.array(forecasts(runs, arguments.name, part)).reshape(-1, 5)
        if not len(found):
            print(f"after {part:.0%} of the way: none has the nights that a forecast needs")  # noqa: T201
            continue
        low, middle, high, aim, _ = found.T
        inside = (low <= aim) & (aim <= high)
        wrong = np.abs(np.log(np.clip(middle, 1, 1e9) / aim))
        print(  # noqa: T201
            f"after {part:.0%} of the way: {len(found)} of {len(runs)} say something; the 80 % interval "
            f"holds the labels in {inside.sum()}, too early {(high < aim).sum()}, too late "
            f"{(low > aim).sum()}; median error a factor of {math.exp(np.median(wrong)):.2f}"
        )
    held, checked = nights_ahead(runs, arguments.name)
    print(f"{held} of {checked} nights lay in the 80 % interval of the night before")  # noqa: T201


if __name__ == "__main__":
    main()
