"""A formula's tree -> a function that computes it on weighted scores."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flywheel.errors import SettingsError, TaskError
from flywheel.metrics.conditions import parse_condition
from flywheel.metrics.names import Condition, check_scores
from flywheel.metrics.parse import (
    Aggregate,
    Formula,
    Function,
    Number,
    is_share,
    leaves,
    parse_formula,
)
from flywheel.metrics.scores import (
    ScoreTable,
    Statistic,
    average_precision,
    f_beta,
    mean_average_precision,
    weighted_mean,
    weighted_quantile,
)
from flywheel.records import Array
from flywheel.task import load_function

_BETAS = {"precision": 0.0, "recall": math.inf}
_OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Compiled:
    """A formula that can be computed."""

    text: str
    tree: Formula
    functions: Mapping[str, Callable[..., Any]] = field(repr=False)
    """path -> the task's own function"""

    @property
    def columns(self) -> frozenset[str]:
        """The scores that it needs; empty when a function of the task may look at any."""
        return frozenset() if self.functions else self._named

    @property
    def _named(self) -> frozenset[str]:
        terms = [leaf for leaf in leaves(self.tree) if isinstance(leaf, Aggregate)]
        return frozenset(name for term in terms for name in (term.score, *term.columns))

    @property
    def mean_of(self) -> str | None:
        """The score whose weighted mean it is; None when it is anything else."""
        match self.tree:
            case Aggregate(kind="mean", score=score):
                return score
        return None

    @property
    def quantiles(self) -> tuple[tuple[str, float], ...] | None:
        """(score, level) pairs when it depends on the rows through these quantiles only."""
        found: dict[tuple[str, float], None] = {}
        for leaf in leaves(self.tree):
            if isinstance(leaf, Number):
                continue
            if not isinstance(leaf, Aggregate) or leaf.kind != "quantile":
                return None
            found[leaf.score, leaf.numbers[0]] = None
        return tuple(found)

    @property
    def level_of(self) -> str | None:
        """The score whose mean or quantile it is, within whose range it lies; None otherwise."""
        match self.tree:
            case Aggregate(kind="mean" | "quantile", score=score):
                return score
        return None

    @property
    def is_share(self) -> bool:
        """Whether it lies in 0..1 whatever the scores are."""
        return is_share(self.tree)

    def __call__(self, scores: ScoreTable, weights: Array) -> Array:
        """Scores (N,) each and weights (B, N), 0 allowed -> (B,); NaN where it is not defined."""
        if not self._named <= scores.keys():
            check_scores(self, sorted(scores))
        return self._value(self.tree, scores, weights)

    def _value(self, tree: Formula, scores: ScoreTable, weights: Array) -> Array:
        match tree:
            case Number(value=value):
                return np.full(len(weights), value)
            case Aggregate():
                return _aggregate(tree, scores, weights)
            case Function(path=path):
                rows = [_own_value(path, self.functions[path](scores, row)) for row in weights]
                return np.array(rows, dtype=np.float64)
        parts = [self._value(part, scores, weights) for part in tree.parts]
        return _combined(tree.operator, parts)


def compile_formula(text: str, directory: Path | None) -> Statistic:
    """The statistic that a formula describes.

    Args:
        text: the grammar is that of `flywheel.metrics.parse.parse_formula`.
        directory: the project's, where its own functions are looked up; None: it has none.

    A term module:function is called with the scores, name -> (N,), and one row of weights (N,),
    and returns a number; NaN says that it is not defined.

    Raises:
        SettingsError: the text is no formula, or names a function that is not there.
    """
    tree = parse_formula(text)
    paths = dict.fromkeys(leaf.path for leaf in leaves(tree) if isinstance(leaf, Function))
    if paths and directory is None:
        raise SettingsError(
            f"{text!r}: {next(iter(paths))} belongs to a project, and none is given; "
            "run it in the project's directory"
        )
    functions = {path: load_function(path, directory or Path()) for path in paths}
    return _Compiled(text=text.strip(), tree=tree, functions=functions)


def compile_condition(text: str, directory: Path | None) -> Condition:
    """The condition that a line of metric.require describes, FORMULA < NUMBER.

    Raises:
        SettingsError: the text is no condition, or names a function that is not there.
    """
    limit = parse_condition(text)
    return Condition(
        statistic=compile_formula(limit.formula_text, directory),
        text=limit.text,
        bound=limit.bound,
        is_upper=limit.is_upper,
        is_strict=limit.is_strict,
    )


def _aggregate(term: Aggregate, scores: ScoreTable, weights: Array) -> Array:
    values = scores[term.score]
    columns = [scores[name] for name in term.columns]
    match term.kind:
        case "mean" | "below" | "above":
            return weighted_mean(_by_row(term, values), weights)
        case "quantile":
            return weighted_quantile(values, term.numbers[0], weights)
        case "average_precision":
            return average_precision(values, columns[0] == term.numbers[0], weights)
        case "mean_average_precision":
            return mean_average_precision(values, columns[0], columns[1], weights)
    beta = _BETAS.get(term.kind, term.numbers[0])
    positive = term.numbers[-1]
    return f_beta(values == positive, columns[0] == positive, weights, beta)


def _by_row(term: Aggregate, values: Array) -> Array:
    """What an aggregate is the mean of."""
    if term.kind == "mean":
        return values
    beyond = values < term.numbers[0] if term.kind == "below" else values > term.numbers[0]
    return beyond.astype(np.float64)


def _combined(name: str, parts: list[Array]) -> Array:
    if name == "mean":
        total: Array = np.sum(parts, axis=0)
        return total / len(parts)
    if name == "/":
        above, below = parts
        missing = np.full(len(below), np.nan)
        quotient: Array = np.divide(above, below, out=missing, where=below != 0)
        return quotient
    return functools.reduce(_OPERATIONS[name], parts)


def _own_value(path: str, value: object) -> float:
    if isinstance(value, (int, float, np.integer, np.floating)):
        return float(value)
    raise TaskError(
        f"{path} returned {type(value).__name__} {value!r:.60}; a term of a formula is one number: "
        "return a float"
    )
