"""The tree of a parsed formula: frozen, compared by value.

Different spellings of one formula give equal trees: correct and correct.mean, error_cm.p90 and
error_cm.quantile(0.9).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_SHARES = (
    "below",
    "above",
    "precision",
    "recall",
    "fbeta",
    "average_precision",
    "mean_average_precision",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Number:
    """A number that stands in a formula."""

    value: float
    """finite"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Aggregate:
    """One number of one score, over all samples."""

    score: str
    kind: str
    """mean, quantile, below, above, precision, recall, fbeta, average_precision or
    mean_average_precision"""
    columns: tuple[str, ...] = ()
    """the other scores that it needs: the truth, and then the confidence"""
    numbers: tuple[float, ...] = ()
    """the level of a quantile, the bound of a share, the beta of fbeta, and the positive class"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Function:
    """A task's own term."""

    path: str
    """module:function"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Combination:
    """Terms that are put together."""

    operator: str
    """+, -, *, / of two parts, or mean of at least one"""
    parts: tuple[Formula, ...]


Formula = Number | Aggregate | Function | Combination


def is_share(formula: Formula) -> bool:
    """Whether it lies in 0..1 whatever the scores are."""
    return isinstance(formula, Aggregate) and formula.kind in _SHARES


def leaves(formula: Formula) -> Iterator[Number | Aggregate | Function]:
    """The terms of a formula, from left to right."""
    if isinstance(formula, Combination):
        for part in formula.parts:
            yield from leaves(part)
    else:
        yield formula
