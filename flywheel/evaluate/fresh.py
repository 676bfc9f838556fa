"""Paired outcomes on labels that no decision has seen: what the anytime-valid test bets on.

Refuses to know the test. One gain a sample, in an order that nobody chose after seeing them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flywheel.evaluate.book import Book, Part
from flywheel.evaluate.metric import has_unit
from flywheel.evaluate.statistic import ScoreTable, Statistic
from flywheel.records import Array, FreshOutcomes

_FEWEST_BASE = 30
_CHUNK_ELEMENTS = 4_000_000
_DIGITS = 10


def fresh_outcomes(book: Book, statistic: Statistic, *, higher_is_better: bool) -> FreshOutcomes:
    """The gains of candidate over champion on the fresh labels of the test set.

    Formula: for the mean of a score, the difference of the two scores. For any other statistic M,
    (n + 1) (M(base + candidate's row) - M(base + champion's row)): what one more sample moves it,
    its sensitivity curve (Tukey 1977). Base are the champion's n rows that earlier decisions have
    seen; below 30 of them, the rows of both models that the challenge opened in its first night.
    These do not know which model gave which row: for two models of which neither is better every
    sign stays a fair coin, given the base. Start data would not do: where production is harder,
    all its rows lie on one side of a quantile, and nothing moves it.
    """
    test = book["test"]
    fresh = test.where(test.marks["fresh"])
    order = np.lexsort((np.array(fresh.ids, dtype=np.str_), fresh.marks["order"]))
    sign = 1.0 if higher_is_better else -1.0
    gains = sign * _gains(book, fresh, statistic)[order]
    nights = fresh.marks["order"][order]
    return FreshOutcomes(
        gains=tuple(float(f"{gain:.{_DIGITS}g}") for gain in gains),
        scales=tuple(float(scale) for scale in fresh.marks["scale"][order]),
        is_bounded=_is_bounded(book, statistic),
        num_new=int((nights == nights.max()).sum()) if len(nights) else 0,
    )


def _gains(book: Book, fresh: Part, statistic: Statistic) -> Array:
    candidate, champion = fresh.scores["candidate"], fresh.scores["champion"]
    if statistic.mean_of is not None:
        return candidate[statistic.mean_of] - champion[statistic.mean_of]
    base = _base(book["test"])
    return _moved(statistic, base, candidate) - _moved(statistic, base, champion)


class _Base(NamedTuple):
    """The n rows that a sample is added to."""

    scores: ScoreTable
    weights: Array
    """(n,)"""


def _base(test: Part) -> _Base:
    fresh = test.marks["fresh"]
    seen = test.where(~fresh)
    if len(seen.ids) >= _FEWEST_BASE:
        return _Base(seen.scores["champion"], seen.weights)
    order = test.marks["order"]
    opened = test.where(fresh & (order == order[fresh].min())) if fresh.any() else seen
    champion, candidate = (opened.scores[name] for name in ("champion", "candidate"))
    both = {name: np.concatenate([champion[name], candidate[name]]) for name in champion}
    return _Base(both, np.tile(opened.weights, 2))


def _moved(statistic: Statistic, base: _Base, rows: ScoreTable) -> Array:
    """(m,) the statistic of the base with each of m rows added, times the rows there are then."""
    columns = sorted(statistic.columns) or sorted(rows)  # a function of the task's own reads any
    size = len(base.weights)
    number = len(rows[columns[0]])
    joined = {name: np.concatenate([base.scores[name], rows[name]]) for name in columns}
    chunk = max(1, _CHUNK_ELEMENTS // (size + number))
    values = []
    for start in range(0, number, chunk):
        added = np.arange(start, min(start + chunk, number))
        weights = np.zeros((len(added), size + number))
        weights[:, :size] = base.weights / base.weights.mean()
        weights[np.arange(len(added)), size + added] = 1.0
        values.append(statistic(joined, weights))
    return np.concatenate(values) * (size + 1) if values else np.zeros(0)


def _is_bounded(book: Book, statistic: Statistic) -> bool:
    """Whether a score is a share by its nature: no unit in its name, and never beyond 0..1."""
    name = statistic.mean_of
    if name is None or has_unit(name):
        return False
    seen = [
        table[name] for part in book.values() for table in part.scores.values() if name in table
    ]
    return all(bool(((values >= 0) & (values <= 1)).all()) for values in seen)
