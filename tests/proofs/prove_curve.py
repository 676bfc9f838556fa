"""Proves the forecast of labels: how often its 80 % interval holds what a requirement really took.

Run: python tests/proofs/prove_curve.py [400]

Curves of four kinds, one of which the forecast knows exactly, are measured as nights do it: the share of
right answers to the labels of a rolling test window, which nights near each other have in common, with
Wilson's interval. Samples that are hard for one model are hard for the next. Some were drawn with a lower
probability than others and weigh more. The requirement is what the labels of all nights reach; it is
forecast after 30, 40 and 60 % of them.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import astuple

import numpy as np
import scipy

from flywheel.decide.curve import Measured, fit_curve
from flywheel.evaluate.intervals import wilson_bounds
from flywheel.records import Estimate

NIGHTS, LABELS = 14, 30
WINDOW = 7
_TEST, _FEWEST = 25, 30
_ALIKE = 0.8
"""correlation of what is hard for two models"""


def true_curve(rng: np.random.Generator) -> Callable[[float], float]:
    """Return a curve: labels -> share of wrong answers."""
    rest, falls = rng.choice([0, 0.005, 0.02, 0.05]), rng.uniform(0.05, 0.4)
    scale, exponent = rng.uniform(30, 700), rng.uniform(0.4, 1.3)
    part = rng.choice([0.15, 0.4, 1.0])
    shapes = (
        lambda n: (1 + n / scale) ** -exponent,
        lambda n: 1 / (1 + (n / scale) ** exponent),
        lambda n: np.exp(-((n / scale) ** 0.7)),
        lambda n: 1 - 2 / np.pi * np.arctan(n / scale),
    )
    shape = shapes[rng.integers(len(shapes))]
    return lambda n: float(part * (rest + falls * shape(n)))


def nights(
    curve: Callable[[float], float], skew: float, rng: np.random.Generator
) -> Iterator[Measured]:
    """Yield what each night's model is measured at, once there are enough test labels."""
    hard = rng.standard_normal(NIGHTS * _TEST)
    weights = np.exp(skew * rng.standard_normal(NIGHTS * _TEST))
    for night in range(1, NIGHTS + 1):
        tests = slice(max(night - WINDOW, 0) * _TEST, night * _TEST)
        own = rng.standard_normal(len(hard[tests]))
        felt = math.sqrt(_ALIKE) * hard[tests] + math.sqrt(1 - _ALIKE) * own
        right = felt > scipy.stats.norm.ppf(curve(night * LABELS))
        each = weights[tests]
        if len(each) < _FEWEST:
            continue
        value, size = float(right @ each / each.sum()), each.sum() ** 2 / (each @ each)
        low, high = wilson_bounds(value, size, 0.025)
        estimate = Estimate(value=value, low=low, high=high, num_samples=len(each))
        yield Measured(night * LABELS, estimate, night)


def lives(number: int, part: float, seed: int, skew: float) -> list[tuple[float, float, float]]:
    """Return (low, middle, high) labels to the requirement, of so many projects."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(number):
        curve = true_curve(rng)
        known = [one for one in nights(curve, skew, rng) if one.night <= max(part * NIGHTS, 4)]
        fitted = fit_curve(known, window=WINDOW, higher_is_better=True, optimum=1.0)
        assert fitted is not None
        found.append(astuple(fitted.labels_to(1 - curve(NIGHTS * LABELS))))
    return found


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    aim = NIGHTS * LABELS
    print(f"{number} projects; labels to a requirement that takes {aim}")  # noqa: T201
    for skew, part in ((0.0, 0.3), (0.0, 0.4), (0.0, 0.6), (1.0, 0.3), (1.0, 0.4), (1.0, 0.6)):
        found = np.array(lives(number, part, 0, skew))
        inside = (found[:, 0] <= aim) & (aim <= found[:, 2])
        wrong = np.abs(np.log(np.clip(found[:, 1], 1, 1e9) / aim))
        print(  # noqa: T201
            f"weights {'that differ' if skew else 'alike'}, after {part:.0%}: interval holds it in "
            f"{inside.mean():.0%}, too early in {(found[:, 2] < aim).mean():.0%}, too late in "
            f"{(found[:, 0] > aim).mean():.0%}; median error a factor of {np.exp(np.median(wrong)):.2f}"
        )


if __name__ == "__main__":
    main()
