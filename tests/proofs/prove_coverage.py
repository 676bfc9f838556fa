"""Coverage of every interval that is printed, against its nominal level, by simulation.

Run: python tests/proofs/prove_coverage.py [--lives 400] [--seed 0] [--quick]

A life draws one test set from a production whose truth is known, makes the interval with the
product's own functions and looks whether the truth lies inside. Uneven weights are inclusion
probabilities between 1 and 0.1 that fall with the score, drawn as production draws them, so
that unweighted numbers would be wrong. Clusters share an effect. The nominal 0.998 has a tail
of 0.001 on each side, as late candidates are judged with.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from flywheel.evaluate.stats import Measured, estimate, paired_difference
from flywheel.metrics.compiled import compile_formula
from flywheel.metrics.scores import ScoreTable
from flywheel.records import Array

_TRUTH_ROWS = 400_000
_SMALL_TAIL = 0.001

Draw = Callable[[np.random.Generator, int], tuple[ScoreTable, Array, Array]]
"""(rng, n) -> about n rows: scores, weights and clusters; a champion's scores begin with "old_" """


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is measured on which production."""

    name: str
    formula: str
    draw: Draw
    truth: float | None = None
    """None: measured on 400,000 rows"""
    sizes: tuple[int, ...] = (10, 30, 100)


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How often the truth lay inside."""

    num_lives: int
    """in which an interval could be made"""
    num_covered: int
    mean_width: float

    @property
    def interval(self) -> tuple[float, float]:
        """Of the coverage, from the number of lives (Wilson, 95 %)."""
        found = stats.binomtest(self.num_covered, max(self.num_lives, 1))
        bounds = found.proportion_ci(method="wilson")
        return float(bounds.low), float(bounds.high)


def coverage(case: Case, size: int, tail: float, lives: int, seed: int) -> Coverage:
    """Simulate a case; lives without an interval (too little data) are not counted."""
    rng, widths, covered = np.random.default_rng(seed), [], 0
    statistic, truth = compile_formula(case.formula, None), _truth(case)
    for _ in range(lives):
        candidate, champion = _measured(*case.draw(rng, size))
        if champion is None:
            found = estimate(statistic, candidate, rng, tail=tail)
        else:
            found = paired_difference(statistic, candidate, champion, rng, tail=tail)
        if found is not None:
            covered += found.low <= truth <= found.high
            widths.append(found.high - found.low)
    return Coverage(
        num_lives=len(widths),
        num_covered=covered,
        mean_width=float(np.mean(widths)) if widths else float("nan"),
    )


def cases() -> Iterator[Case]:
    """Every kind of interval, small samples and skewed scores among them."""
    for rate in (0.5, 0.9, 0.99):
        yield Case(name=f"rate {rate}", formula="correct", draw=_rate(rate), truth=rate)
    uneven = _uneven(_rate(0.9), "correct")
    yield Case(name="rate 0.9, uneven", formula="correct", draw=uneven, truth=0.9)
    yield Case(
        name="rate 0.8, clusters",
        formula="correct",
        draw=_rate_by_scene,
        truth=0.8,
        sizes=(60, 200),
    )
    for rate, both in ((0.9, 0.9), (0.7, 0.8)):
        name = f"rate {rate} against {both}, paired"
        draw, truth = _rates(rate, both), rate - both
        yield Case(name=name, formula="correct", draw=draw, truth=truth)
        uneven = _uneven(draw, "correct")
        yield Case(name=f"{name}, uneven", formula="correct", draw=uneven, truth=truth)
    yield Case(
        name="rates paired, clusters",
        formula="correct",
        draw=_rates_by_scene,
        truth=0.0,
        sizes=(60, 200),
    )
    exponential, lognormal = _errors(np.random.Generator.standard_exponential), _errors(_lognormal)
    yield Case(name="mean, exponential", formula="error.mean", draw=exponential, truth=1.0)
    yield Case(name="mean, log-normal", formula="error.mean", draw=lognormal, truth=np.exp(0.5))
    uneven = _uneven(exponential, "error")
    yield Case(name="mean, exponential, uneven", formula="error.mean", draw=uneven, truth=1.0)
    truth = float(np.exp(0.36))
    yield Case(
        name="mean, clusters", formula="error.mean", draw=_by_scene, truth=truth, sizes=(60, 200)
    )
    yield Case(name="mean, paired", formula="error.mean", draw=_pairs, truth=0.0)
    yield Case(name="median, log-normal", formula="error.median", draw=lognormal, truth=1.0)
    yield Case(
        name="median, clusters", formula="error.median", draw=_by_scene, truth=1.0, sizes=(60, 200)
    )
    yield Case(name="median, paired", formula="error.median", draw=_pairs, truth=0.0)
    top = float(np.exp(stats.norm.ppf(0.9)))
    yield Case(
        name="p90, log-normal", formula="error.p90", draw=lognormal, truth=top, sizes=(30, 100)
    )
    yield Case(name="F1", formula="predicted.f1(actual)", draw=_classes, sizes=(30, 100))
    yield Case(
        name="F1, paired", formula="predicted.f1(actual)", draw=_two_classes, sizes=(30, 100)
    )
    yield Case(name="recall", formula="predicted.recall(actual)", draw=_classes, sizes=(30, 100))


def _truth(case: Case) -> float:
    if case.truth is not None:
        return case.truth
    statistic = compile_formula(case.formula, None)
    drawn = _measured(*case.draw(np.random.default_rng(99), _TRUTH_ROWS))
    both = [float(statistic(one.scores, one.weights[None])[0]) for one in drawn if one]
    return both[0] - (both[1] if len(both) == 2 else 0.0)


def _measured(
    scores: ScoreTable, weights: Array, clusters: Array
) -> tuple[Measured, Measured | None]:
    ids = tuple(map(str, range(len(weights))))
    new = {name: values for name, values in scores.items() if not name.startswith("old_")}
    old = {name: scores.get(f"old_{name}", values) for name, values in new.items()}
    pair = [
        Measured(ids=ids, scores=table, weights=weights, clusters=clusters) for table in (new, old)
    ]
    return pair[0], pair[1] if len(new) < len(scores) else None


def _alone(scores: ScoreTable) -> tuple[ScoreTable, Array, Array]:
    size = len(next(iter(scores.values())))
    return scores, np.ones(size), np.arange(size)


def _rate(rate: float) -> Draw:
    return lambda rng, size: _alone({"correct": (rng.random(size) < rate).astype(float)})


def _rates(rate: float, other: float) -> Draw:
    """Both models look at the same thing for four samples of five."""

    def draw(rng: np.random.Generator, size: int) -> tuple[ScoreTable, Array, Array]:
        luck = rng.random(size)
        second = np.where(rng.random(size) < 0.8, luck, rng.random(size))
        right = {
            "correct": (luck < rate).astype(float),
            "old_correct": (second < other).astype(float),
        }
        return _alone(right)

    return draw


def _uneven(draw: Draw, name: str) -> Draw:
    """Poisson sampling: high scores are drawn less often, each with a known probability."""

    def poisson(rng: np.random.Generator, size: int) -> tuple[ScoreTable, Array, Array]:
        scores, _, _ = draw(rng, 3 * size)
        chances = np.clip((0.2 + 0.8 * rng.random(3 * size)) / (1 + scores[name]), 0.1, 1.0)
        drawn = rng.random(3 * size) < chances
        kept = {key: values[drawn] for key, values in scores.items()}
        return kept, 1 / chances[drawn], np.arange(drawn.sum())

    return poisson


def _errors(law: Callable[[np.random.Generator, int], Array]) -> Draw:
    return lambda rng, size: _alone({"error": law(rng, size)})


def _lognormal(rng: np.random.Generator, size: int) -> Array:
    return rng.lognormal(size=size)


def _pairs(rng: np.random.Generator, size: int) -> tuple[ScoreTable, Array, Array]:
    """Two models with skewed errors that are alike and equally large."""
    shared = rng.exponential(size=size)
    return _alone({f"{one}error": shared + rng.exponential(0.5, size) for one in ("", "old_")})


def _scenes(rng: np.random.Generator, size: int) -> Array:
    """Scenes of five samples on average, the largest of nine."""
    return np.repeat(np.arange(size), rng.integers(1, 10, size))[:size]


def _by_scene(rng: np.random.Generator, size: int) -> tuple[ScoreTable, Array, Array]:
    scenes = _scenes(rng, size)
    error = np.exp(0.6 * rng.normal(size=size)[scenes] + 0.6 * rng.normal(size=size))
    return {"error": error}, np.ones(size), scenes


def _rate_by_scene(rng: np.random.Generator, size: int) -> tuple[ScoreTable, Array, Array]:
    scenes = _scenes(rng, size)
    right = rng.random(size) < rng.beta(3.2, 0.8, size)[scenes]
    return {"correct": right.astype(float)}, np.ones(size), scenes


def _rates_by_scene(rng: np.random.Generator, size: int) -> tuple[ScoreTable, Array, Array]:
    scenes, chances = _scenes(rng, size), rng.beta(3.2, 0.8, (2, size))
    right = [(rng.random(size) < row[scenes]).astype(float) for row in chances]
    return {"correct": right[0], "old_correct": right[1]}, np.ones(size), scenes


def _classes(rng: np.random.Generator, size: int) -> tuple[ScoreTable, Array, Array]:
    actual = rng.random(size) < 0.4
    predicted = actual ^ (rng.random(size) < 0.15)
    return _alone({"predicted": predicted.astype(float), "actual": actual.astype(float)})


def _two_classes(rng: np.random.Generator, size: int) -> tuple[ScoreTable, Array, Array]:
    scores, weights, clusters = _classes(rng, size)
    changed = rng.random(size) < 0.1
    old = np.abs(scores["predicted"] - changed)
    return {**scores, "old_predicted": old, "old_actual": scores["actual"]}, weights, clusters


def main() -> None:
    """Simulate all cases at both tails and print the table."""
    parser = argparse.ArgumentParser(description="coverage of the intervals by simulation")
    parser.add_argument("--lives", type=int, default=400, help="simulated test sets of each row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="40 lives, the smallest size only")
    arguments = parser.parse_args()
    table = Table(title="coverage of the printed intervals")
    headings = ("case", "n", "nominal", "coverage [95 %]", "mean width", "none")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "case" else "right")
    started, lives = time.perf_counter(), 40 if arguments.quick else arguments.lives
    for case in cases():
        plan = [(size, 0.025) for size in case.sizes] + [(case.sizes[-1], _SMALL_TAIL)]
        for size, tail in plan[:1] if arguments.quick else plan:
            found = coverage(case, size, tail, lives, arguments.seed)
            low, high = found.interval
            share = found.num_covered / max(found.num_lives, 1)
            text = f"{share:.3f} [{low:.3f}, {high:.3f}]"
            width, none = f"{found.mean_width:.3f}", str(lives - found.num_lives)
            table.add_row(case.name, str(size), f"{1 - 2 * tail:.3f}", text, width, none)
    Console(width=110).print(table)
    print(f"{lives} lives a row, {time.perf_counter() - started:.0f} s")  # noqa: T201


if __name__ == "__main__":
    main()
