"""When to defer: the risk-coverage curve, and a threshold that guarantees a failure rate.

A product may need less accuracy if it may answer "I do not know" to some requests; this measures
how many. What the fallback is and what it costs is up to the product.
"""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Callable

import numpy as np
import scipy

from flywheel.errors import SettingsError
from flywheel.evaluate.intervals import kish_size
from flywheel.metrics.compiled import Statistic
from flywheel.metrics.names import has_unit
from flywheel.metrics.scores import ScoreTable
from flywheel.records import Abstention, Array, RiskPoint
from flywheel.settings.judging import Abstain

_SIGNS: dict[str, Callable[[Array, float], Array]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
# Fixed before any label is seen: even steps below 0.9, then finer towards 1, where models crowd.
_GRID = np.sort(np.concatenate([np.arange(23) * 0.04, 1 - 10 ** -(1 + np.arange(27) / 6)]))[::-1]


def failed(
    table: ScoreTable, settings: Abstain, metric: Statistic, *, higher_is_better: bool = True
) -> Array | None:
    """(N,) booleans, whether each sample is a failure: by abstain.failure, else by the metric.

    By default a sample fails when the score that the metric averages is below 1 (above 0 when lower
    is better), for scores in 0..1 without a unit. None when nothing defines a failure and no
    failure rate is required.

    Raises:
        SettingsError: abstain.failure names no score of the task, or max_failure_rate is set and
            nothing defines a failure.
    """
    if settings.failure is not None:
        name, sign, bound = settings.failure.split()
        return _SIGNS[sign](_score(table, name, settings.failure), float(bound))
    if metric.mean_of is not None and metric.mean_of in table:
        scores = table[metric.mean_of]
        if not has_unit(metric.mean_of) and bool(((scores >= 0) & (scores <= 1)).all()):
            return scores < 1 if higher_is_better else scores > 0
    if settings.max_failure_rate is None:
        return None
    raise SettingsError(
        f"abstain.max_failure_rate = {settings.max_failure_rate:g}, but the metric {metric.text!r} "
        "is not the mean of a score in 0..1 and so defines no failure. Write abstain.failure = "
        f'"SCORE > NUMBER" with one of the scores {", ".join(sorted(table))}'
    )


def abstention(
    confidences: Array, failures: Array, weights: Array, clusters: Array, settings: Abstain
) -> Abstention:
    """The risk-coverage curve, and the lowest threshold that keeps the failure rate with confidence.

    Formula: fixed-sequence testing. 50 thresholds, fixed in advance, are tested from the highest
    down, each at level 1 - confidence, until one fails; the last that passed is chosen. A
    threshold passes when the upper bound of the failure rate among the answered samples (see
    `_bound`) is at most max_failure_rate. The probability that production fails more often above
    the chosen threshold is then at most 1 - confidence. Quantiles of the labeled confidences would
    not do as thresholds, since they depend on the sample that is tested.
    The sequence starts at the first threshold with enough answers (see `_start_size`), which
    depends on the number of answers but not on their failures.
    Source: Angelopoulos, Bates, Candes, Jordan and Lei, Learn then Test (2021), section on
    fixed-sequence testing.
    Departure: the late start is exact only if more confident answers fail no more often.

    Args:
        confidences: (N,) in 0..1.
        failures: (N,) boolean.
        weights: (N,) 1 / inclusion probability.
        clusters: (N,) int64; rows of one group share a number.
        settings: the [abstain] section.
    """
    points, sizes = list[RiskPoint](), list[float]()
    groups = np.unique(clusters, return_inverse=True)[1]
    for threshold in _GRID:
        answered = confidences >= threshold
        if not answered.any():
            continue
        kept, wrong, inside = weights[answered], failures[answered], groups[answered]
        point = RiskPoint(
            threshold=float(threshold),
            coverage=float(kept.sum() / weights.sum()),
            failure_rate=float(np.average(wrong, weights=kept)),
            failure_bound=_bound(wrong, kept, inside, 1 - settings.confidence),
        )
        if (
            points and point.coverage == points[-1].coverage
        ):  # keep the lowest of thresholds with equal coverage
            del points[-1], sizes[-1]
        points.append(point)
        sizes.append(kish_size(np.bincount(inside, weights=kept)))
    return Abstention(
        curve=tuple(points),
        max_failure_rate=settings.max_failure_rate,
        confidence=settings.confidence,
        threshold=_threshold(points, sizes, settings),
    )


def _threshold(points: list[RiskPoint], sizes: list[float], settings: Abstain) -> float | None:
    allowed, chosen = settings.max_failure_rate, None
    if allowed is None or not points:
        return None
    enough = _start_size(allowed, 1 - settings.confidence, sizes[-1])
    start = next((index for index, size in enumerate(sizes) if size >= enough), len(points) - 1)
    for point in points[start:]:
        # Stop at the first failure: only then no correction for 50 tests is needed.
        if point.failure_bound > allowed:
            break
        chosen = point.threshold
    return chosen


def _start_size(allowed: float, tail: float, total: float) -> float:
    """Effective number of answers at which the sequence of tests starts.

    Enough that a quarter of the allowed failure rate would pass, but at most half of all samples,
    and never so few that even zero failures would not pass. Starting with fewer often ends the
    sequence at the first chance failure: with 1,000 labels, this start found a threshold in 90 % of
    simulated projects, against 66 % without it.
    """
    fewest = math.log(tail) / math.log1p(-allowed)
    sizes = fewest * np.geomspace(1, 50, 500)
    bounds = scipy.special.betainccinv(sizes * allowed / 4 + 1, sizes * (1 - allowed / 4), tail)
    return max(fewest, min(float(sizes[np.argmax(bounds <= allowed)]), total / 2))


def _bound(failures: Array, weights: Array, clusters: Array, tail: float) -> float:
    """Upper bound of the failure rate, exceeded by the true rate with probability `tail` at most.

    Formula: Clopper and Pearson's, Beta^-1(1 - tail; x + 1, n - x), with n the effective size
    min(p (1 - p) / V, Kish's) and x = n p, where p is the weighted failure rate and
    V = sum over clusters of (sum of w (y - p))^2 / (sum w)^2. With equal weights and one sample a
    cluster, n and x are the counts and the bound is exact. It is never below the bound of as many
    clusters without any failure, since few scenes are little evidence however many samples they have.
    Source: Clopper and Pearson 1934; effective size as in Korn and Graubard 1998, who find the
    bound conservative for most designs.
    Departure: the floor from clusters. With uneven weights the bound is not a theorem.
    """
    rate = float(np.average(failures, weights=weights))
    floor = float(1 - tail ** (1 / kish_size(np.bincount(clusters, weights=weights))))
    # V is 0 here, so only the number of clusters says how far the true rate may be.
    if rate in (0.0, 1.0):
        return floor if rate == 0 else 1.0
    errors = np.bincount(clusters, weights=weights * (failures - rate))
    variance = float((errors**2).sum()) / float(weights.sum()) ** 2
    size = (
        min(rate * (1 - rate) / variance, kish_size(weights))
        if variance > 0
        else kish_size(weights)
    )
    bound = float(scipy.special.betainccinv(rate * size + 1, size * (1 - rate), tail))
    return max(bound, floor)


def _score(table: ScoreTable, name: str, condition: str) -> Array:
    if name in table:
        return table[name]
    nearest = difflib.get_close_matches(name, table, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(sorted(table))}"
    raise SettingsError(f"abstain.failure = {condition!r} names no score of the task; {hint}")
