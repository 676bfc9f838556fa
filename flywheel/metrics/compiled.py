"""A formula's tree -> a function that computes it on weighted scores."""

from __future__ import annotations

import functools
import inspect
import itertools
import json
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flywheel.calls import guard
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
    shown_as,
)
from flywheel.metrics.scores import (
    ANSWER,
    LABEL,
    ScoreTable,
    average_precision,
    f_beta,
    macro_f_beta,
    mean_average_precision,
    micro_f_beta,
    weighted_mean,
    weighted_quantile,
)
from flywheel.records import Array, content_id
from flywheel.task import load_function

_BETAS = {"precision": 0.0, "recall": math.inf, "f1": 1.0}
_WHOLE = ("answers", "labels", "weights")
_Weigh = Callable[[Array], Array]
"""weights (B, N) -> (B,)"""
_OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Own:
    """A task's own function, as a term of a formula."""

    path: str
    call: Callable[..., Any]
    is_whole: bool
    """whether it is given whole answers and labels; else the scores"""
    prepare: Callable[..., _Weigh] | None
    """answers, labels -> what depends on the weights alone"""
    range: tuple[float, float] | None
    ready: dict[tuple[int, int], tuple[Array, Array, _Weigh]] = field(default_factory=dict)
    """for the tables of a contrast that is resampled: its columns, which keep their ids, and what
    weighs them"""

    def __call__(self, scores: ScoreTable, weights: Array) -> Array:
        """Scores (N,) each and weights (B, N) -> (B,)."""
        if self.is_whole:
            values = self._weigh(scores[ANSWER], scores[LABEL])(weights)
        else:
            known = {name: scores[name] for name in scores if name not in (ANSWER, LABEL)}
            values = self._each(known, weights=weights)
        return self._checked(values)

    def _weigh(self, answers: Array, labels: Array) -> _Weigh:
        key = (id(answers), id(labels))
        if key not in self.ready:
            while len(self.ready) >= _MOST_READY:
                del self.ready[next(iter(self.ready))]
            self.ready[key] = (answers, labels, self._prepared(answers, labels))
        return self.ready[key][2]

    def _prepared(self, answers: Array, labels: Array) -> _Weigh:
        # Ties between samples count in their order, which must not depend on how rows were merged.
        keys = [content_id(f"{a}\n{b}".encode()) for a, b in zip(answers, labels, strict=True)]
        order = np.argsort(np.array(keys, dtype=np.str_), kind="stable")
        given = [[json.loads(text) for text in column[order]] for column in (answers, labels)]
        if self.prepare is not None:
            weigh = self.prepare(*given)
            return lambda weights: weigh(weights[:, order])
        return lambda weights: self._each(*given, weights=weights[:, order])

    def _each(self, *given: Any, weights: Array) -> Array:
        rows = [_own_value(self.path, self.call(*given, row)) for row in weights]
        return np.array(rows, dtype=np.float64)

    def _checked(self, values: Array) -> Array:
        low, high = self.range or (-math.inf, math.inf)
        whole = values.clip(low, high)
        close = np.isclose(values, whole, rtol=_ROUNDING, atol=_ROUNDING, equal_nan=True)
        outside = values[~close]
        if outside.size:
            raise TaskError(
                f"{self.path} returned {outside[0]:g}, outside of its range {low:g} to {high:g}; fix "
                "the function, or what its attribute range says"
            )
        return whole


_ROUNDING = 1e-9
"""a weighted mean of 600 s may be 600.0000000000001"""
_MOST_READY = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistic:
    """An aggregate of per-sample scores, or a formula over several, that can be computed."""

    text: str
    """the name that a person gave it, else the formula as it was written"""
    tree: Formula
    functions: Mapping[str, _Own] = field(repr=False)
    """path -> the task's own function"""

    @property
    def columns(self) -> frozenset[str]:
        """The scores that it needs; empty when a function of the task may look at any."""
        if not all(function.is_whole for function in self.functions.values()):
            return frozenset()
        return self._named | ({ANSWER, LABEL} if self.functions else set())

    @property
    def needs_answers(self) -> bool:
        """Whether it is about whole answers and labels: the columns ANSWER and LABEL."""
        return any(function.is_whole for function in self.functions.values())

    @property
    def has_functions(self) -> bool:
        """Whether a function of the task is in it, of which nothing is known."""
        return bool(self.functions)

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
    def range(self) -> tuple[float, float] | None:
        """What it lies in whatever the scores are, such as 0 and 1; None when nothing is known."""
        return self._range(self.tree)

    def _range(self, tree: Formula) -> tuple[float, float] | None:
        match tree:
            case Number(value=value):
                return value, value
            case Function(path=path):
                return self.functions[path].range
            case Aggregate(kind="rms"):
                return 0.0, math.inf
            case Aggregate():
                return (0.0, 1.0) if is_share(tree) else None
        ranges = [self._range(part) for part in tree.parts]
        known = [ends for ends in ranges if ends is not None and all(map(math.isfinite, ends))]
        if len(known) < len(ranges) or tree.operator == "/":
            return None
        if tree.operator == "mean":
            low, high = np.mean(known, axis=0)
        else:  # + - and * have their extremes where both parts have theirs
            values = _combined(tree.operator, list(np.array(list(itertools.product(*known))).T))
            low, high = values.min(), values.max()
        return float(low), float(high)

    def __call__(self, scores: ScoreTable, weights: Array) -> Array:
        """Scores (N,) each and weights (B, N), 0 allowed -> (B,); NaN where it is not defined."""
        if not self._named <= scores.keys() or (self.needs_answers and ANSWER not in scores):
            check_scores(self, sorted(scores))
        return self._value(self.tree, scores, weights)

    def _value(self, tree: Formula, scores: ScoreTable, weights: Array) -> Array:
        match tree:
            case Number(value=value):
                return np.full(len(weights), value)
            case Aggregate():
                return _aggregate(tree, scores, weights)
            case Function(path=path):
                return self.functions[path](scores, weights)
        parts = [self._value(part, scores, weights) for part in tree.parts]
        return _combined(tree.operator, parts)


def needed(statistic: Statistic, table: ScoreTable) -> ScoreTable:
    """The columns of a table that a statistic depends on: those that it names, else every score."""
    names = set(statistic.columns or table)
    if not statistic.needs_answers:
        names -= {ANSWER, LABEL}
    return {name: table[name] for name in sorted(names)}


def compile_formula(text: str, directory: Path | None) -> Statistic:
    """The statistic that a formula describes.

    Args:
        text: the grammar is that of `flywheel.metrics.parse.parse_formula`.
        directory: the project's, where its own functions are looked up; None: it has none.

    A term module:function is called with the scores, name -> (N,), and one row of weights (N,),
    and returns a number; NaN says that it is not defined. One with the parameters (answers, labels,
    weights) is called with N whole answers and labels in place of the scores. Its attributes may say
    more: `range = (LOW, HIGH)` is what it lies in, None for no end; `prepare(answers, labels)`
    returns a function of weights (B, N) -> (B,), which is called in its place and saves the time of
    doing again for each resample what does not depend on the weights.

    Raises:
        SettingsError: the text is no formula, or names a function that is not there or has other
            parameters.
    """
    tree = parse_formula(text)
    paths = dict.fromkeys(leaf.path for leaf in leaves(tree) if isinstance(leaf, Function))
    if paths and directory is None:
        raise SettingsError(
            f"{text!r}: {next(iter(paths))} belongs to a project, and none is given; "
            "run it in the project's directory"
        )
    functions = {path: _own(path, load_function(path, directory or Path())) for path in paths}
    return Statistic(text=shown_as(text), tree=tree, functions=functions)


def _own(path: str, function: Callable[..., Any]) -> _Own:
    low, high = _range(path, getattr(function, "range", None)) or (None, None)
    return _Own(
        path=path,
        call=guard(path, function, lambda *_: ""),
        is_whole=_is_whole(path, function),
        prepare=getattr(function, "prepare", None),
        range=None if low is None or high is None else (low, high),
    )


def _is_whole(path: str, function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return False  # of C code, which does not say
    either = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    placed = [one for one in parameters if one.kind in either]
    number = len([one for one in placed if one.default is inspect.Parameter.empty])
    is_star = any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in parameters)
    if tuple(one.name for one in placed[:3]) == _WHOLE or number == len(_WHOLE):
        return True
    if number > len(_WHOLE) or (len(placed) < len(_WHOLE) - 1 and not is_star):
        raise SettingsError(
            f"{path} has the parameters ({', '.join(one.name for one in placed)}); a metric is a "
            "function of (scores, weights), or of (answers, labels, weights)"
        )
    return False


def _range(path: str, stated: object) -> tuple[float, float] | None:
    """The ends of a range, an open one at infinity; None when there is none."""
    if stated is None:
        return None
    ends = list(stated) if isinstance(stated, (tuple, list)) else []
    if len(ends) == 2 and all(one is None or isinstance(one, (int, float)) for one in ends):
        low, high = (math.inf if one is None else float(one) for one in ends)
        low = -low if ends[0] is None else low
        if low < high:
            return low, high
    raise SettingsError(
        f"{path}.range is {stated!r:.60}; write two numbers in order, such as (0, 1), or None for an "
        "end that is open"
    )


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
        case "rms":
            root: Array = np.sqrt(weighted_mean(values**2, weights))
            return root
        case "quantile":
            return weighted_quantile(values, term.numbers[0], weights)
        case "average_precision":
            return average_precision(values, columns[0] == term.numbers[0], weights)
        case "mean_average_precision":
            return mean_average_precision(values, columns[0], columns[1], weights)
    return _f_beta(term, values, columns, weights)


def _f_beta(term: Aggregate, values: Array, columns: list[Array], weights: Array) -> Array:
    average, _, name = term.kind.partition("_")
    if average == "macro":
        return macro_f_beta(values, columns[0], weights, _BETAS[name])
    if average == "micro":  # precision and recall read one column, and the other not at all
        return micro_f_beta(values, columns[0], columns[-1], weights, _BETAS[name])
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
