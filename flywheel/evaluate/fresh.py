"""Paired outcomes on labels that no decision has seen: what the anytime-valid test bets on.

Refuses to know the test. One gain a sample, in an order that nobody chose after seeing them.
"""

from __future__ import annotations

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
    its sensitivity curve (Tukey 1977), where base is the champion's n rows that earlier decisions
    have seen, else the start data's; both are fixed before the fresh labels are looked at.
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
    base = _base(book)
    return _moved(statistic, base, candidate) - _moved(statistic, base, champion)


def _base(book: Book) -> Part:
    """The champion's rows that a sample is added to."""
    test = book["test"]
    seen = test.where(~test.marks["fresh"])
    start = book.get("start")
    if len(seen.ids) < _FEWEST_BASE and start is not None and "champion" in start.scores:
        return start
    return seen if len(seen.ids) >= _FEWEST_BASE else test


def _moved(statistic: Statistic, base: Part, rows: ScoreTable) -> Array:
    """(m,) the statistic of the base with each of m rows added, times the rows there are then."""
    columns = sorted(statistic.columns) or sorted(rows)  # a function of the task's own reads any
    size = len(base.ids)
    number = len(rows[columns[0]])
    joined = {name: np.concatenate([base.scores["champion"][name], rows[name]]) for name in columns}
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
