"""Estimates with intervals for any statistic of scores, and for differences paired by sample.

A sample weighs 1 / inclusion probability, so that numbers describe production and not the
labeled samples. Samples that share a scene, a session or an annotator are one cluster. Too little
data gives None, never a zero.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import scipy

from flywheel.evaluate.bootstrap import Contrast, bootstrap, bootstrap_mean, make_pool
from flywheel.evaluate.intervals import by_cluster, kish_size, student, tango, wilson
from flywheel.metrics.compiled import Statistic
from flywheel.metrics.names import has_unit
from flywheel.metrics.scores import ScoreTable
from flywheel.records import Array, Estimate

FEWEST_SAMPLES = 5
"""fewest samples, and fewest clusters, for an estimate"""
_TAIL = 0.025
_ROUNDING = 1e-12
_MOST_CORNERS = 4_096
_MOST_KINDS = 256


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Measured:
    """All scores of one model on N samples.

    Raises:
        ValueError: unequal lengths, a duplicate id, a score that is not a finite number, or a weight
            that is not positive; the message names the sample.
    """

    ids: tuple[str, ...]
    scores: ScoreTable
    weights: Array
    """(N,), 1 / inclusion probability"""
    clusters: Array
    """(N,) int64; samples of one group share a number"""
    peers: tuple[ScoreTable, ...] = ()
    """scores of others on the same samples: rows that an answer can have"""

    def __post_init__(self) -> None:
        for name, values in {
            **{f"scores {name}": column for name, column in self.scores.items()},
            "weights": self.weights,
            "clusters": self.clusters,
        }.items():
            if len(values) != len(self.ids):
                raise ValueError(
                    f"{len(self.ids)} ids and {len(values)} {name}; "
                    "pass one of each for every sample"
                )
        if len(set(self.ids)) != len(self.ids):
            twice = Counter(self.ids).most_common(1)[0][0]
            raise ValueError(f"sample {twice} is there twice. Pass every sample once")
        for name, values in self.scores.items():
            if values.dtype == object:
                continue  # a whole answer
            for index in np.flatnonzero(~np.isfinite(values)):
                raise ValueError(
                    f"the score {name} of sample {self.ids[index]} is {values[index]}, which "
                    "is not a finite number. Fix the task's scores function"
                )
        for index in np.flatnonzero(~(np.isfinite(self.weights) & (self.weights > 0))):
            raise ValueError(
                f"the weight of sample {self.ids[index]} is {self.weights[index]}; it must be "
                "above 0. Give 1 / inclusion probability"
            )

    def where(self, chosen: Array) -> Measured:
        """The samples at which a boolean array (N,) is true."""
        return Measured(
            ids=tuple(name for name, keep in zip(self.ids, chosen, strict=True) if keep),
            scores={name: values[chosen] for name, values in self.scores.items()},
            weights=self.weights[chosen],
            clusters=self.clusters[chosen],
            peers=tuple(
                {name: values[chosen] for name, values in table.items()} for table in self.peers
            ),
        )


def estimate(
    statistic: Statistic, measured: Measured, rng: np.random.Generator, *, tail: float = _TAIL
) -> Estimate | None:
    """The statistic with its interval.

    Formula: a rate (a mean of scores that are all 0 or 1) gets `intervals.wilson`; any other mean
    the hull of Student's interval and `bootstrap_mean`; any other statistic the hull of BCa and
    value +- t * bootstrap standard error, with Kish's number of clusters - 1 degrees of freedom. A
    statistic with a range is clipped to it, as a share is to 0..1; a mean or quantile of a score that
    is never negative is clipped at 0, and at 1 if the score has no unit and is never above. When all resamples are equal, the rule of three gives the
    bounds, see `_unseen`, `_unseen_by` and `_unseen_rows`.
    Source: see `intervals` and `bootstrap`.
    Departure: the hulls. BCa alone undercovers skewed scores below 100 samples, and at small tails no
    number of resamples can see beyond the largest score drawn.

    Returns:
        None below 5 samples or clusters, where the statistic is not finite, or where nothing says
        what it would be on other rows than those seen, which are all alike.

    Raises:
        ValueError: the statistic needs a score that was not measured.
    """
    return _estimate(_contrast(statistic, measured), tail, rng)


def paired_difference(
    statistic: Statistic,
    candidate: Measured,
    champion: Measured,
    rng: np.random.Generator,
    *,
    tail: float = _TAIL,
) -> Estimate | None:
    """The statistic of the candidate minus the champion's, paired on the same samples.

    Each bound alone fails with a nominal probability of `tail`. Differences of rates get
    `intervals.tango`; all others get the intervals of `estimate`, resampled together.

    Returns:
        None as for `estimate`.

    Raises:
        ValueError: the two are not about the same samples in the same order with equal weights, or
            the statistic needs a score that was not measured.
    """
    _check_pairs(candidate, champion)
    return _estimate(_contrast(statistic, candidate, champion), tail, rng)


def _contrast(statistic: Statistic, *models: Measured) -> Contrast:
    tables = tuple(model.scores for model in models)
    known = set.intersection(*(set(table) for table in tables))
    for name in sorted(statistic.columns - known):
        raise ValueError(
            f"{statistic.text} needs the score {name}; measured are: {', '.join(sorted(known))}. "
            "Name one of these, or return it from the task's scores function"
        )
    return Contrast(
        statistic=statistic,
        tables=tables,
        weights=models[0].weights,
        clusters=models[0].clusters,
        peers=models[0].peers or models[-1].peers,
    )


def _estimate(contrast: Contrast, tail: float, rng: np.random.Generator) -> Estimate | None:
    if len(np.unique(contrast.clusters)) < FEWEST_SAMPLES or not np.isfinite(contrast.value):
        return None
    bounds = _mean_bounds if contrast.statistic.mean_of else _other_bounds
    found = bounds(contrast, tail, rng)
    if found is None:
        return None
    # BCa and smoothed bounds may miss the value itself.
    low, high = min(found[0], contrast.value), max(found[1], contrast.value)
    if contrast.statistic.range is not None:
        least, most = _range(contrast)
        low, high = max(low, least), min(high, most)
    elif _is_never_negative(contrast):
        low = max(low, 0.0)
        if _is_share(contrast):
            high = min(high, 1.0)
    size = len(contrast.weights)
    return Estimate(value=contrast.value, low=low, high=high, num_samples=size)


def _range(contrast: Contrast) -> tuple[float, float]:
    """The ends of what the contrast may be; infinite where its statistic has none."""
    low, high = contrast.statistic.range or (-math.inf, math.inf)
    return (low, high) if len(contrast.tables) == 1 else (low - high, high - low)


def _is_never_negative(contrast: Contrast) -> bool:
    """Whether it is one model's mean or quantile of a score that is never negative."""
    name = contrast.statistic.level_of
    return name is not None and len(contrast.tables) == 1 and contrast.tables[0][name].min() >= 0


def _is_share(contrast: Contrast) -> bool:
    """Whether it is one model's mean or quantile of a score without a unit, at most 1 everywhere."""
    name = str(contrast.statistic.level_of)
    return not has_unit(name) and bool(contrast.tables[0][name].max() <= 1)


def _mean_bounds(contrast: Contrast, tail: float, rng: np.random.Generator) -> tuple[float, float]:
    weights, clusters = contrast.weights, contrast.clusters
    columns = [table[str(contrast.statistic.mean_of)] for table in contrast.tables]
    values, both = columns[0] if len(columns) == 1 else columns[0] - columns[1], np.array(columns)
    if np.isin(both, (0.0, 1.0)).all():
        return (wilson if len(columns) == 1 else tango)(values, weights, tail, clusters)
    means, totals = by_cluster(values, weights, clusters)
    # Differences this small are rounding, not variance.
    if np.ptp(means) <= _ROUNDING * np.abs(means).max():
        largest = max(float(np.ptp(both)) * (len(columns) - 1), float(np.abs(both).max()))
        return _unseen(contrast.value, totals, largest, tail)
    normal, resampled = student(means, totals, tail), bootstrap_mean(means, totals, tail, rng)
    return min(normal[0], resampled[0]), max(normal[1], resampled[1])


def _other_bounds(
    contrast: Contrast, tail: float, rng: np.random.Generator
) -> tuple[float, float] | None:
    resampled = bootstrap(contrast, tail, rng)
    if resampled is None:
        return None
    value, totals = (
        contrast.value,
        by_cluster(contrast.weights, contrast.weights, contrast.clusters)[1],
    )
    if resampled.error <= _ROUNDING * abs(value):
        unseen = _unseen_rows if contrast.statistic.has_functions else _unseen_by
        return unseen(contrast, _share(totals, tail))
    half = float(scipy.stats.t.isf(tail, max(kish_size(totals) - 1, 1.0))) * resampled.error
    # fmin and fmax skip BCa bounds that are undefined (NaN).
    return float(np.fmin(resampled.low, value - half)), float(np.fmax(resampled.high, value + half))


def _share(weights: Array, tail: float) -> float:
    """The share of production, about -ln(tail) / n_eff, that the sample may have missed entirely."""
    return float(1 - tail ** (1 / kish_size(weights)))


def _unseen(value: float, weights: Array, largest: float, tail: float) -> tuple[float, float]:
    """Bounds for a mean of values that are all equal, from what the sample may have missed.

    Formula: a share u of production may differ unseen, each sample by at most `largest`:
    (1 - u) value +- u largest.
    Source: the rule of three (Hanley and Lippman-Hand 1983).
    Departure: for any bounded score, not only for rates of 0, and with weights.
    """
    share = _share(weights, tail)
    return (1 - share) * value - share * largest, (1 - share) * value + share * largest


def _unseen_rows(contrast: Contrast, share: float) -> tuple[float, float] | None:
    """Bounds for a function of the task whose resamples are all equal, by the rule of three.

    Formula: (1 - u) value + u end, with the ends of the function's range where it says them; else
    the least or the largest value when a share u of production is of one further kind of row, out
    of 256 that answers of any entrant have on these samples. Scores at the ends of what each may be,
    as in `_unseen_by`, would not do: a hit without a prediction is a row that no answer can have.

    Returns:
        None when there is no range, and no row changes the value.
    """
    value, ends = contrast.value, _range(contrast)
    if all(math.isinf(end) for end in ends):
        found = _on_further_rows(contrast, share)
        return (min(found), max(found)) if min(found) < max(found) else None
    found = _on_further_rows(contrast, share) if any(math.isinf(end) for end in ends) else [value]
    low, high = (value if math.isinf(end) else (1 - share) * value + share * end for end in ends)
    return min(low, *found), max(high, *found)


def _on_further_rows(contrast: Contrast, share: float) -> list[float]:
    """The contrast itself, and with a share of production of each further kind of row."""
    own = contrast.needed()
    names = sorted(set.intersection(*(set(table) for table in own)))
    peers = [table for table in contrast.peers if set(names) <= table.keys()]
    known = [{name: table[name] for name in names} for table in (*own, *peers)]
    kinds: list[list[ScoreTable]] = [[] for _ in own]
    for rows in itertools.product(known, repeat=len(own)):
        pool = make_pool(rows, contrast.weights, contrast.clusters)
        for place, table in enumerate(pool.tables):
            kinds[place].append(table)
    pool = make_pool(known[: len(own)], contrast.weights, contrast.clusters)
    number = sum(len(table[names[0]]) for table in kinds[0])
    chosen = np.unique(np.linspace(0, number - 1, _MOST_KINDS).astype(np.int64))
    tables = [
        {
            name: np.append(table[name], np.concatenate([one[name] for one in kind])[chosen])
            for name in names
        }
        for table, kind in zip(pool.tables, kinds, strict=True)
    ]
    further = share / (1 - share) * pool.weights.sum() * np.eye(len(chosen))
    weights = np.concatenate([np.repeat(pool.weights, len(chosen), axis=0), further], axis=1)
    found = contrast.measure(tables, weights)
    return [contrast.value, *found[np.isfinite(found)].tolist()]


def _unseen_by(contrast: Contrast, share: float) -> tuple[float, float]:
    """Bounds for any formula whose resamples are all equal: the rule of three, by its definition.

    Formula: the least and the largest value when a share u of production is of one further kind,
    with each score at either end of what it may be: 0 and 1 where all lie between, else 0 (or the
    least seen, when below) and the largest seen. A recall of n faultless positives
    gets about n / (n - ln(tail)) for its lower bound. A median that u cannot move keeps a width of 0.
    """
    pool = make_pool(contrast.needed(), contrast.weights, contrast.clusters)
    columns = sorted(set.intersection(*(set(table) for table in pool.tables)))
    total = pool.weights.sum()
    weights = np.append(pool.weights, [[share / (1 - share) * total]], axis=1)
    ends = [_ends([table[name] for table in pool.tables]) for name in columns]
    found = [contrast.value]
    # Each score at either end: 2^12 corners at most, which is 12 columns over all models.
    corners = itertools.product(*ends * len(pool.tables))
    for corner in itertools.islice(corners, _MOST_CORNERS):
        given = iter(corner)
        tables = [
            {name: np.append(table[name], next(given)) for name in columns} for table in pool.tables
        ]
        found.append(float(contrast.measure(tables, weights)[0]))
    return float(np.nanmin(found)), float(np.nanmax(found))


def _ends(columns: list[Array]) -> tuple[float, float]:
    low = min(0.0, *(float(values.min()) for values in columns))
    high = max(float(values.max()) for values in columns)
    return low, 1.0 if low == 0 and high <= 1 else high


def _check_pairs(candidate: Measured, champion: Measured) -> None:
    for index, (left, right) in enumerate(zip(candidate.ids, champion.ids, strict=False)):
        if left != right:
            raise ValueError(
                f"row {index} is sample {left} for the candidate and {right} for the champion; "
                "score both on the same samples in the same order"
            )
    if len(candidate.ids) != len(champion.ids):
        raise ValueError(
            f"{len(candidate.ids)} scores of the candidate and {len(champion.ids)} of the champion; "
            "score both on the same samples"
        )
    if not np.array_equal(candidate.weights, champion.weights):
        raise ValueError(
            "the candidate's weights are not the champion's; weigh both as the test set says"
        )
