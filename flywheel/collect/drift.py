"""Measures drift: how far confidence, answers and embeddings have moved since the model was new.

Drift may ask for labels; alone it never rolls anything back. The measure is a distance with a
lower bound, never a p-value: with enough rows every difference is significant, however small.
Cost is bounded: at most 5,000 predictions are read on each side.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mode
from typing import NamedTuple

import numpy as np
import scipy
from sqlalchemy import Connection

from flywheel.ledger import Ledger
from flywheel.ledger.windows import Pick, move_watermark, picked, watermark
from flywheel.records import Array, Json, Watch, canonical

LEAST_EFFECT = 0.1
"""smallest KS distance that can raise an alarm: a tenth of production has moved"""

_PRINCIPAL, _DIRECTIONS = 3, 32
"""principal components of the embeddings, and directions in all: a shift may lie along none of the first"""
_CLASSES = 100
"""different answers, at most, that are compared one by one"""
_MOST = 5_000
"""predictions read on each side"""
_FEWEST = 30
"""groups needed on each side"""
MOST_ASKED = 200
"""samples of a shift that are recorded in a night"""
_REFERENCE = 2_000
"""predictions that complete the reference of a model"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """Distance between the newest window of predictions and the first ones of the same model."""

    upto: int
    """position of the last prediction that was read; the next night starts after it"""
    model_digest: str | None = None
    """of the model that made most predictions in the window"""
    num_new: int = 0
    """groups of samples read in the window"""
    num_reference: int = 0
    """groups of samples read in the reference"""
    feature: str | None = None
    """with the highest lower bound: confidence, an answer, or a direction of the embeddings"""
    distance: float | None = None
    """Kolmogorov-Smirnov distance, 0..1; None: not enough data"""
    low: float | None = None
    """its lower bound, which holds for all features together but once in `[drift]
    nights_between_false_alarms`"""
    is_alarm: bool = False
    """whether that bound is above `LEAST_EFFECT`, or answers fail more often"""
    excess: float = 0.0
    """part of the predictions where the feature has moved to that are there because it moved, 0..1"""
    where: tuple[tuple[str, str], ...] = ()
    """samples of some of those predictions, and the predictions; only with an alarm"""
    feedback_upto: int | None = None
    """position of the last feedback that was read; None: none was"""
    served: str = ""
    """digest of the released model, whose answers are watched"""
    watches: tuple[Watch, ...] = ()
    """how often answers fail, in all of production and on each slice"""


class Features(NamedTuple):
    """N predictions of one model as numbers."""

    confidences: Array
    """(N,)"""
    embeddings: Array
    """(N, D)"""
    answers: tuple[Json, ...] = ()
    """N answers that are classes or numbers; (): they are not compared"""


class Moved(NamedTuple):
    """The feature with the highest lower bound of its distance."""

    feature: str
    distance: float
    low: float
    is_there: Array
    """(N,) of the new rows: whether they lie where there are more of them now"""

    @property
    def excess(self) -> float:
        """Part of those rows that are there because it moved, 0..1."""
        return min(self.distance / max(float(self.is_there.mean()), 1e-9), 1.0)


def measure_drift(
    ledger: Ledger, after: int | None, upto: int, *, seed: int, alpha: float
) -> Drift:
    """Compare the predictions in (after, upto] with the first ones of the model that gave them.

    The reference of a model is its first windows, 2,000 predictions or more. Their positions are
    stored, so a model that serves again keeps its old reference. `after` is None when the end of
    the last night is unknown; then nothing is compared.

    Groups of samples, not samples, are independent draws: only the first prediction of each
    group counts.
    """
    if after is None or after >= upto:
        return Drift(upto=upto)
    rng = np.random.default_rng([seed, upto])
    with ledger.begin() as connection:
        window = picked(connection, _places(after, upto, rng))
        if not window:
            return Drift(upto=upto)
        digest = Counter(pick.model_digest for pick in window).most_common(1)[0][0]
        start, stop = _reference(connection, digest, after)
        earlier = picked(connection, _places(start, stop, rng))
    mine = [pick for pick in (*window, *earlier) if pick.model_digest == digest]
    width = mode(pick.embedding.size for pick in mine)  # a network may answer others to odd inputs
    usable, before = _usable(window, digest, width), _usable(earlier, digest, width)
    new, reference = _features(usable), _features(before)
    found = Drift(
        upto=upto,
        model_digest=digest,
        num_new=len(new.confidences),
        num_reference=len(reference.confidences),
    )
    if min(found.num_new, found.num_reference) < _FEWEST:
        return found
    moved = compare(reference, new, alpha)
    found = dataclasses.replace(
        found, feature=moved.feature, distance=moved.distance, low=moved.low
    )
    if moved.low <= LEAST_EFFECT:
        return found
    there = rng.permutation(np.flatnonzero(moved.is_there))[:MOST_ASKED]
    return dataclasses.replace(
        found,
        is_alarm=True,
        excess=moved.excess,
        where=tuple((usable[row].sample_id, usable[row].prediction_id) for row in there),
    )


def compare(reference: Features, new: Features, alpha: float) -> Moved:
    """Return the feature whose distance has the highest lower bound.

    Formula: D = sup |F - G| of two empirical distributions of n and m rows, and the bound
    D - e(n) - e(m), e(n) = sqrt(log(4 K / alpha) / (2 n)), which holds for all K features together
    with probability 1 - alpha. The directions are the first principal components of every other
    row of the reference, and random ones among rows scaled to unit variance, so that a shift along
    a small component shows too. The rows in between are compared, since the rows that a direction
    was fitted to lie along it by construction. Of classes the share of each is a feature, of numbers
    their distribution.
    Source: Dvoretzky, Kiefer and Wolfowitz 1956 with Massart's constant 1990; Bonferroni.
    """
    features = list(_compared(reference, new))
    share = alpha / len(features)
    found = []
    for name, before, now in features:
        distance, edge = ks_distance(before, now)
        slack = _deviation(len(before), share) + _deviation(len(now), share)
        is_there = now > edge if (now > edge).mean() > (before > edge).mean() else now <= edge
        found.append(Moved(name, distance, max(distance - slack, 0.0), is_there))
    return max(found, key=lambda moved: (moved.low, moved.distance))


def ks_distance(one: Array, other: Array) -> tuple[float, float]:
    """Return sup |F - G| of two empirical distributions, and where it is; ties are handled."""
    points = np.concatenate([one, other])
    shares = [
        np.searchsorted(np.sort(values), points, side="right") / len(values)
        for values in (one, other)
    ]
    apart = np.abs(shares[0] - shares[1])
    place = int(apart.argmax())
    return float(apart[place]), float(points[place])


def _compared(reference: Features, new: Features) -> Iterator[tuple[str, Array, Array]]:
    yield "confidence", reference.confidences, new.confidences
    yield from _answers(reference.answers, new.answers)
    fitted, compared = reference.embeddings[::2], reference.embeddings[1::2]
    directions = _directions(fitted)
    for number in range(directions.shape[1]):
        along = directions[:, number]
        yield f"direction {number + 1} of the embeddings", compared @ along, new.embeddings @ along


def _answers(before: Sequence[Json], now: Sequence[Json]) -> Iterator[tuple[str, Array, Array]]:
    """Yield the distribution of numbers, or the share of each class; nothing where there are too many."""
    if not before or not now:
        return
    written = [np.array([canonical(one) for one in answers]) for answers in (before, now)]
    known = dict.fromkeys(np.concatenate(written).tolist())
    if len(known) <= _CLASSES:
        for name in known:
            first, second = (np.asarray(one == name, dtype=np.float64) for one in written)
            yield f"the share of answer {name[:40]}", first, second
    elif all(isinstance(one, int | float) for one in (*before, *now)):
        yield "answer", np.asarray(before, dtype=np.float64), np.asarray(now, dtype=np.float64)


def _directions(rows: Array) -> Array:
    """Return (D, K) directions: those in which rows (N, D) vary most, and random ones."""
    width = rows.shape[1]
    centred = rows - rows.mean(axis=0)
    variances, vectors = scipy.linalg.eigh(centred.T @ centred / len(rows))
    principal = vectors[:, ::-1][:, :_PRINCIPAL]
    number = min(_DIRECTIONS - _PRINCIPAL, width)  # as many as there are say everything
    scales = np.sqrt(np.maximum(variances, 1e-6 * max(float(variances[-1]), 1e-12)))
    drawn = np.random.default_rng(0).standard_normal((width, number))
    directions: Array = np.hstack([principal, (vectors / scales) @ drawn])
    return directions


def _deviation(num_rows: int, alpha: float) -> float:
    """Return how far an empirical distribution may lie from the true one, at alpha / 2."""
    return float(np.sqrt(np.log(4.0 / alpha) / (2 * num_rows)))


def _reference(connection: Connection, digest: str, after: int) -> tuple[int, int]:
    """Return the positions (after, upto] of a model's reference, which grows window by window."""
    begin, end = (f"drift {digest[:12]} {name}" for name in ("first", "last"))
    first = watermark(connection, begin)
    if not first:  # this is the first window of the model
        first = after + 1
        move_watermark(connection, begin, first)
    last = max(watermark(connection, end), first - 1)
    if last - first + 1 < _REFERENCE and after > last:
        last = after
        move_watermark(connection, end, last)
    return first - 1, last


def _places(after: int, upto: int, rng: np.random.Generator) -> list[int]:
    """Return all positions in (after, upto], or 5,000 of them drawn at random."""
    span = upto - after
    if span <= _MOST:
        return list(range(after + 1, upto + 1))
    drawn = rng.choice(span, _MOST, replace=False)
    return [int(place) for place in np.sort(drawn) + after + 1]


def _usable(picks: Sequence[Pick], digest: str, width: int) -> list[Pick]:
    """Return the model's first prediction of each group, if finite and of this width."""
    first: dict[str, Pick] = {}
    for pick in picks:
        if pick.model_digest == digest and pick.embedding.size == width:
            first.setdefault(pick.group, pick)
    return [
        pick
        for pick in first.values()
        if np.isfinite(pick.confidence) and np.isfinite(pick.embedding).all()
    ]


def _features(picks: Sequence[Pick]) -> Features:
    if not picks:
        return Features(np.zeros(0), np.zeros((0, 0)))
    answers = [pick.answer for pick in picks]
    is_plain = all(isinstance(one, str | int | float) for one in answers)
    return Features(
        np.array([pick.confidence for pick in picks], dtype=np.float64),
        np.array([pick.embedding for pick in picks], dtype=np.float64),
        tuple(answers) if is_plain else (),
    )
