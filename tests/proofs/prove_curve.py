"""Proves the forecast of labels: how often its 80 % interval holds what a requirement really took.

Curves of four kinds, one of which the forecast knows exactly, are measured with error over ten nights of
60 labels; the requirement is what 600 labels reach. It is forecast after 30, 40 and 60 % of the way.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import astuple

import numpy as np

from flywheel.decide.curve import fit_curve
from flywheel.records import Estimate

NIGHTS, LABELS = 10, 60


def true_curve(rng: np.random.Generator) -> Callable[[float], float]:
    """Return a curve: labels -> share of wrong answers."""
    rest, falls = rng.choice([0, 0.005, 0.02, 0.05]), rng.uniform(0.05, 0.4)
    scale, exponent = rng.uniform(30, 700), rng.uniform(0.4, 1.3)
    shapes = (
        lambda n: (1 + n / scale) ** -exponent,
        lambda n: 1 / (1 + (n / scale) ** exponent),
        lambda n: np.exp(-((n / scale) ** 0.7)),
        lambda n: 1 - 2 / np.pi * np.arctan(n / scale),
    )
    shape = shapes[rng.integers(len(shapes))]
    return lambda n: float(rest + falls * shape(n))


def lives(number: int, part: float, seed: int) -> list[tuple[float, float, float]]:
    """Return (low, middle, high) labels to the requirement, of so many projects."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(number):
        curve = true_curve(rng)
        measured = []
        for night in range(1, max(round(part * NIGHTS), 3) + 1):
            error = 0.01 + 0.02 / np.sqrt(night)
            value = 1 - curve(night * LABELS) + error * rng.standard_normal()
            half = 1.96 * error
            estimate = Estimate(value=value, low=value - half, high=value + half, num_samples=0)
            measured.append((night * LABELS, estimate))
        fitted = fit_curve(measured, higher_is_better=True, optimum=1.0)
        assert fitted is not None
        found.append(astuple(fitted.labels_to(1 - curve(NIGHTS * LABELS))))
    return found


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    aim = NIGHTS * LABELS
    print(f"{number} projects; labels to a requirement that takes {aim}")  # noqa: T201
    for part in (0.3, 0.4, 0.6):
        found = np.array(lives(number, part, 0))
        inside = (found[:, 0] <= aim) & (aim <= found[:, 2])
        wrong = np.abs(np.log(np.clip(found[:, 1], 1, 1e9) / aim))
        print(  # noqa: T201
            f"after {part:.0%}: interval holds it in {inside.mean():.0%}, too early in "
            f"{(found[:, 2] < aim).mean():.0%}, too late in {(found[:, 0] > aim).mean():.0%}; "
            f"median error a factor of {np.exp(np.median(wrong)):.2f}"
        )


if __name__ == "__main__":
    main()
