"""The learning curve of a project: how its metric depends on labels, and how many a requirement takes.

The curve is never known, only narrowed down: thousands of curves that the nights so far allow are
drawn, each weighted by how well it fits, so that every number comes with its interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy

from flywheel.records import Array, Estimate

FEWEST = 3
"""measurements with different numbers of labels that a curve needs"""

_DRAWS, _ROUNDS, _KEPT = 4_000, 4, 2_000
_FREEDOM = 5
"""of Student's t, from which curves are proposed: its tails are wider than those of what is looked for"""
_LEAST_WEIGHT = 100
"""draws that must share the weight before the next round may rely on them"""
_WIDER = 1.2
_BIGGEST = 40
"""measurements that are read at most, evenly thinned out"""
_NORMAL = 1.959964
"""half the width of a 95 % interval, in standard deviations"""

# What is drawn, and what is known of it before any night: the logarithm of the loss at the first
# measurement over the measured one, the logit of the share of it that no label removes, logarithms of
# the exponent, of the scale over the first number of labels, and of the scatter between nights over the
# typical error of a measurement.
_MEAN = np.array([0.0, -3.0, 0.3, 0.0, math.log(0.5)])
_DEVIATION = np.array([0.5, 3.0, 0.8, 1.5, 1.0])
_LEAST, _MOST = np.array([-3, -8, -3, -6, -4.0]), np.array([3, 8, 2.0, 8, 3.0])
_SHARED = 0.8
"""part of the variance of a measurement that is the test set's own, which nights near each other share"""
_NEVER_ZERO = 1e-6


class Measured(NamedTuple):
    """What a model was measured at."""

    labels: int
    """that it was trained on"""
    value: Estimate
    night: int = 0
    """whose test set it was; nights near each other have most of it in common"""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is expected, with 10 and 90 %: a metric, or labels, of which infinity means never."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LearningCurve:
    """C curves that the measurements allow, all equally likely."""

    family: Array
    """(C,) number of its family in `_FAMILIES`"""
    parameters: Array
    """(C, 5), see the comment in this module"""
    first: float
    """labels of the first measurement"""
    scale: float
    """loss at the first measurement"""
    optimum: float
    sign: float
    """1 where a lower metric is better, else -1"""
    typical: float
    """standard error of a measurement"""

    def at(self, labels: float, error: float = 0.0) -> Outlook:
        """Return the metric of a model trained on so many labels.

        With a standard error it is what a night would measure; it holds the scatter between nights too.
        """
        scatter = self.typical * np.exp(self.parameters[:, 4]) if error else 0.0
        noise = np.random.default_rng(0).standard_normal(len(self.parameters))
        return _outlook(self._values(labels) + np.hypot(error, scatter) * noise)

    def gain(self, labels: float, more: float) -> Outlook:
        """Return by how much the metric improves with more labels; positive is better."""
        return _outlook(-self.sign * (self._values(labels + more) - self._values(labels)))

    def labels_to(self, value: float, error: float = 0.0) -> Outlook:
        """Return the labels with which the metric reaches a value, known with a standard error."""
        noise = error * np.random.default_rng(0).standard_normal(len(self.parameters))
        return _outlook(self._labels(value + noise))

    def at_loss(self, value: float, share: float) -> float:
        """Return the value whose distance from the optimum is a share of another value's."""
        return self.optimum + share * (value - self.optimum)

    def chance(self, value: float, labels: float) -> float:
        """Return the probability, 0..1, that the metric reaches a value with so many labels."""
        return float((self._labels(value) <= labels).mean())

    def _values(self, labels: float) -> Array:
        """Return (C,) values of the metric."""
        rows = self.parameters
        more = max(labels - self.first, 0.0) / (self.first * np.exp(rows[:, 3]))
        shapes = np.stack([shape.of(more, np.exp(rows[:, 2])) for shape in _FAMILIES])
        stays = scipy.special.expit(rows[:, 1])
        shape = stays + (1 - stays) * shapes[self.family, np.arange(len(rows))]
        values: Array = self.optimum + self.sign * self.scale * np.exp(rows[:, 0]) * shape
        return values

    def _labels(self, value: float | Array) -> Array:
        """Return (C,) labels at which each curve reaches a value, or its own; infinity: at none."""
        rows = self.parameters
        stays = scipy.special.expit(rows[:, 1])
        loss = (value - self.optimum) * self.sign / (self.scale * np.exp(rows[:, 0]))
        share = np.minimum(
            (loss - stays) / (1 - stays), 1.0
        )  # more loss than at first: it is reached
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            found = np.stack([one.when(share, np.exp(rows[:, 2])) for one in _FAMILIES])
            more = found[self.family, np.arange(len(rows))] * self.first * np.exp(rows[:, 3])
        return np.where(share > 0, self.first + more, np.inf)


def standard_error(estimate: Estimate) -> float:
    """Return the standard error that a 95 % interval stands for."""
    return (estimate.high - estimate.low) / (2 * _NORMAL)


def fit_curve(
    measured: Sequence[Measured],
    *,
    window: float,
    higher_is_better: bool,
    optimum: float | None,
) -> LearningCurve | None:
    """Narrow the learning curve down to what the measurements allow.

    Formula: loss(n) = L (s + (1 - s) g((n - n_1) / k)) with g(x) = (1 + x)^-b, a power law with an
    offset, 1 / (1 + x^2b), Morgan, Mercer and Flodin's, or exp(-x^b), which ends where all kinds are
    known; all are drawn, weighted by their evidence. Labels count from the first measurement, since what
    was there before, start data above all, may be worth more or less. A measurement is normal around the
    curve, with the variance of a measurement and a scatter between nights that is estimated too. Of a share
    the variance is that which Wilson's interval would have at the curve, d l (1 - l) / m of m samples, where
    d is what the measured interval is wider than that, at least the nights' median: a lucky test set has a
    narrow interval. Four fifths of it nights share, as far as they share their test set: it is that of the
    windows around a night, which it is between. Drawn by population Monte Carlo: importance sampling whose
    proposal follows the weights of the round before.
    Source: Mahmood et al., How much more data do I need? (2022) for the families; Cappe et al.,
    Population Monte Carlo (2004).
    Departure: a prior over the parameters, so that three nights already give an interval, a wide one.

    Args:
        measured: of models trained on different numbers of labels.
        window: nights for which a label tests.
        higher_is_better: of the metric.
        optimum: the best value that the metric can have. None: it is 0 for what is never negative and
            better when lower, 1 for what lies in 0..1 and is better when higher; else it is assumed to
            lie three times as far beyond the best measured value as the measured ones lie apart.

    Returns:
        None with fewer than three different numbers of labels.
    """
    known = sorted(measured, key=lambda one: one.labels)
    known = known[:: math.ceil(len(known) / _BIGGEST)] if known else []
    if len({one.labels for one in known}) < FEWEST:
        return None
    case, optimum, sign = _case(known, window, optimum, higher_is_better=higher_is_better)
    rng = np.random.default_rng(0)  # the same nights always have the same forecast
    drawn = [case.draw(family.of, rng) for family in _FAMILIES]
    evidence = scipy.special.softmax([one.evidence for one in drawn])
    family = rng.choice(len(drawn), _KEPT, p=evidence)
    parameters = np.empty((_KEPT, len(_MEAN)))
    for number, one in enumerate(drawn):
        mine = family == number
        parameters[mine] = one.rows[rng.choice(len(one.rows), int(mine.sum()), p=one.weights)]
    return LearningCurve(
        family=family,
        parameters=parameters,
        first=float(case.labels[0]),
        scale=case.scale,
        optimum=optimum,
        sign=sign,
        typical=case.typical,
    )


def _case(
    known: Sequence[Measured], window: float, optimum: float | None, *, higher_is_better: bool
) -> tuple[_Case, float, float]:
    """Return measurements as losses, the best value, and the sign of a loss in the metric."""
    values = np.array([one.value.value for one in known])
    errors = np.array([standard_error(one.value) for one in known])
    typical = max(float(np.median(errors)), 1e-9 * float(np.abs(values).max()), 1e-12)
    sign = -1.0 if higher_is_better else 1.0
    if optimum is None:
        optimum = _usual_optimum(values, sign, typical)
    is_share = optimum in (0.0, 1.0) and values.min() >= 0 and values.max() <= 1
    losses = sign * (values - optimum)
    case = _Case(
        labels=np.maximum([float(one.labels) for one in known], 1.0),
        losses=losses,
        spreads=_spreads([one.value for one in known], errors, is_share=is_share),
        is_share=is_share,
        windows=_windows(np.array([one.night for one in known]) / window),
        typical=typical,
        scale=max(float(losses[0]), typical),
    )
    return case, optimum, sign


def _spreads(values: Sequence[Estimate], errors: Array, *, is_share: bool) -> Array:
    """Return (M,) variances of measurements, of shares over l (1 - l) with l the centre of their interval."""
    numbers = np.maximum([float(one.num_samples) for one in values], 1.0)
    centres = np.array([(one.low + one.high) / 2 for one in values])
    levels = np.maximum(centres * (1 - centres), _NEVER_ZERO) if is_share else 1.0
    effects = errors**2 * numbers / levels
    spreads: Array = np.maximum(effects, np.median(effects)) / numbers
    return spreads


def _windows(places: Array) -> Array:
    """Return (M, K) how much of each of K test windows is in each measurement's, squares adding up to 1."""
    places = places - places.min()
    number = math.floor(places.max()) + 2 if places.max() > 0 else 1
    parts = np.maximum(1 - np.abs(places[:, None] - np.arange(number)), 0.0)
    windows: Array = parts / np.sqrt((parts**2).sum(axis=1, keepdims=True))
    return windows


def _usual_optimum(values: Array, sign: float, typical: float) -> float:
    if values.min() >= 0 and (sign > 0 or values.max() <= 1):
        return 0.0 if sign > 0 else 1.0
    apart = max(float(np.ptp(values)), typical)
    return float((sign * values).min() - 3 * apart) * sign


class _Drawn(NamedTuple):
    rows: Array
    """(N, 5)"""
    weights: Array
    """(N,), which add up to 1"""
    evidence: float
    """logarithm, up to a constant that all families share"""


class _Case(NamedTuple):
    """M measurements."""

    labels: Array
    losses: Array
    spreads: Array
    """(M,) see `_spreads`"""
    is_share: bool
    windows: Array
    """(M, K) see `_windows`"""
    typical: float
    scale: float

    def draw(self, family: Callable[..., Array], rng: np.random.Generator) -> _Drawn:
        """Draw curves of one family, with their weights."""
        mean, covariance = _MEAN, np.diag(_DEVIATION**2)
        size = len(mean)
        for _ in range(_ROUNDS):
            root = np.linalg.cholesky(covariance + 1e-9 * np.eye(size))
            tails = np.sqrt(rng.chisquare(_FREEDOM, (_DRAWS, 1)) / _FREEDOM)
            steps = rng.standard_normal((_DRAWS, size)) / tails
            rows = mean + steps @ root.T
            proposed = -(_FREEDOM + size) / 2 * np.log1p((steps**2).sum(axis=1) / _FREEDOM)
            logs = self._posterior(rows, family) - proposed + np.log(np.diag(root)).sum()
            heat, weights = 1.0, scipy.special.softmax(logs)
            while 1 / (weights**2).sum() < _LEAST_WEIGHT:  # few draws fit: first come nearer
                heat *= 0.7
                weights = scipy.special.softmax(heat * logs)
            mean = weights @ rows
            covariance = _WIDER * ((rows - mean).T @ ((rows - mean) * weights[:, None]))
        evidence = float(scipy.special.logsumexp(logs) - math.log(_DRAWS))
        return _Drawn(np.clip(rows, _LEAST, _MOST), scipy.special.softmax(logs), evidence)

    def _posterior(self, rows: Array, family: Callable[..., Array]) -> Array:
        """Return (N,) logarithms, up to a constant."""
        prior = -0.5 * (((rows - _MEAN) / _DEVIATION) ** 2).sum(axis=1)
        ratio, stays, exponent, scale, scatter = np.clip(rows, _LEAST, _MOST).T[..., None]
        more = (self.labels - self.labels[0]) / (self.labels[0] * np.exp(scale))
        share = scipy.special.expit(stays)
        curves = self.scale * np.exp(ratio) * (share + (1 - share) * family(more, np.exp(exponent)))
        spread = self._variances(curves)
        alone = (1 - _SHARED) * spread + (self.typical * np.exp(scatter)) ** 2
        apart = self.losses - curves
        # What the nights of a window share is integrated out, by Woodbury's identity.
        common = np.sqrt(_SHARED * spread)
        inner = np.einsum("nm,mk,ml->nkl", common**2 / alone, self.windows, self.windows)
        root = np.linalg.cholesky(inner + np.eye(self.windows.shape[1]))
        shared = ((apart * common / alone) @ self.windows)[..., None]
        fits = (apart**2 / alone + np.log(alone)).sum(axis=1)
        fits -= (np.linalg.solve(root, shared) ** 2).sum(axis=(1, 2))
        fits += 2 * np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
        posterior: Array = prior - 0.5 * fits
        return posterior

    def _variances(self, curves: Array) -> Array:
        """Return (N, M) variances of measurements if the curves (N, M) are true."""
        if not self.is_share:
            return np.broadcast_to(self.spreads, curves.shape)
        pull = _NORMAL**2 * self.spreads
        centre = (np.clip(curves, 0.0, 1.0) + pull / 2) / (1 + pull)
        variances: Array = self.spreads * centre * (1 - centre)
        return variances


class _Family(NamedTuple):
    """A shape, which is 1 at the first measurement and falls to 0."""

    of: Callable[[Array, Array], Array]
    """labels over the scale, exponents -> shape"""
    when: Callable[[Array, Array], Array]
    """shape, exponents -> labels over the scale"""


_FAMILIES = (
    _Family(lambda x, b: (1 + x) ** -b, lambda y, b: y ** (-1 / b) - 1),
    _Family(lambda x, b: 1 / (1 + x ** (2 * b)), lambda y, b: (1 / y - 1) ** (1 / (2 * b))),
    _Family(lambda x, b: np.exp(-(x**b)), lambda y, b: (-np.log(y)) ** (1 / b)),
)


def _outlook(values: Array) -> Outlook:
    found = np.quantile(values, [0.1, 0.5, 0.9], method="inverted_cdf")
    return Outlook(*(float(one) for one in found))


def too_few(labels: Iterable[int]) -> str:
    """Return why nothing can be forecast from so many labels each, and what to do."""
    have = len(set(labels))
    return (
        f"not enough nights yet: {have} numbers of labels were measured, {FEWEST} are needed. "
        "flywheel assess --train measures three more at once"
    )
