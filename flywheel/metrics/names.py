"""The metric's identity and short names, and its checks against real scores: names, bounds with a unit.

The id changes when anything that defines the number changes. Requirements are statistics here, a
value without an interval; the caller adds intervals. Short names, such as f1, are formulas that
ready-made scores bring; they are written out when a project is opened, so that a stored report says
what was measured.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from flywheel.calls import unguarded
from flywheel.errors import SettingsError
from flywheel.metrics.conditions import parse_condition, with_names
from flywheel.metrics.parse import LATENCY, Aggregate, Function, leaves, parse_formula, write_out
from flywheel.metrics.scores import ANSWER, LABEL, ScoreTable
from flywheel.records import canonical, content_id
from flywheel.settings.judging import Metric
from flywheel.task import load_function

if TYPE_CHECKING:
    from flywheel.metrics.compiled import Statistic

_KITS = ("accuracy", "f1", "precision", "recall", "map", "rmse", "mae", "ndcg", "mrr")
"""short names that some ready-made scores have"""


def short_names(scores: object) -> Mapping[str, str]:
    """Name -> formula, of a task's scores; none of scores that were not ready-made."""
    return getattr(unguarded(scores), "metrics", {})


def name_metric(metric: Metric, scores: object) -> Metric:
    """The metric with the short names of the task's scores written out.

    Raises:
        SettingsError: written out, its parts contradict each other.
    """
    names = short_names(scores)
    written = {
        "optimize": write_out(metric.optimize, names),
        "require": tuple(with_names(text, names) for text in metric.require),
        "ignore": tuple(write_out(text, names) for text in metric.ignore),
    }
    if all(getattr(metric, key) == value for key, value in written.items()):
        return metric
    try:
        return Metric.model_validate({**metric.model_dump(), **written})
    except ValidationError as error:
        faults = "; ".join(detail["msg"] for detail in error.errors())
        raise SettingsError(f"[metric], with its short names written out: {faults}") from error


def metric_id(metric: Metric, directory: Path | None) -> str:
    """The hash of the [metric] section and of the source of every module:function in it.

    Settings alone would keep the id when a task's own function is edited. What such a function
    calls in turn is not seen.

    Raises:
        SettingsError: a function is not there, or has no source that could be versioned.
    """
    formulas = [
        *(parse_formula(text) for text in (metric.optimize, *metric.ignore)),
        *(parse_condition(text).formula for text in metric.require),
    ]
    found = {
        leaf.path for formula in formulas for leaf in leaves(formula) if isinstance(leaf, Function)
    }
    sources = {path: _source(path, directory) for path in sorted(found)}
    content = {"settings": metric.model_dump(mode="json"), "functions": sources}
    return content_id(canonical(content).encode())


def _source(path: str, directory: Path | None) -> str:
    if directory is None:
        raise SettingsError(
            f"{path} belongs to a project, and none is given; run it in the project's directory"
        )
    try:
        return inspect.getsource(load_function(path, directory))
    except (OSError, TypeError) as error:
        raise SettingsError(
            f"{path} has no Python source, so a change of it would not be seen; "
            "wrap it into a function of your task"
        ) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """A statistic and the side of a bound on which it must stay."""

    statistic: Statistic
    text: str
    """as a person wrote it"""
    bound: float
    is_upper: bool
    """True: the value must lie below the bound"""
    is_strict: bool
    """True: the bound itself is not allowed"""

    def met(self, value: float) -> bool:
        """Whether a value keeps the bound; NaN never does."""
        if self.is_upper:
            return value < self.bound or (value == self.bound and not self.is_strict)
        return value > self.bound or (value == self.bound and not self.is_strict)


_UNIT = re.compile(
    "nm|um|mm|cm|dm|m|km|inch|ft|deg|rad|mrad|px|pixels|hz|khz|fps|mps|kmh|"
    "ns|us|ms|s|sec|seconds|min|minutes|h|hours|days|nights|"
    "mg|g|kg|newton|pa|kpa|bar|kj|kw|mv|ma|ml|"
    "percent|pct|points|ppm|db|eur|usd|gbp|cents|bytes|kb|mb|gb|"
    "n|count|counts|times|tokens|words|characters|samples|pieces"
)
_WITH_UNIT = {"mean", "rms", "quantile"}


def has_unit(name: str) -> bool:
    """Whether the name of a score ends in its unit, as error_cm does, or counts, as num_hits."""
    head, _, last = name.lower().rpartition("_")
    return (bool(head) and _UNIT.fullmatch(last) is not None) or head.split("_")[0] == "num"


def check_scores(statistic: Statistic, names: Sequence[str]) -> None:
    """That every score of a formula is among those that are there.

    Raises:
        SettingsError: one is not; the nearest is suggested.
    """
    for term in _terms(statistic):
        for name in (term.score, *term.columns):
            if name not in names:
                raise SettingsError(f"{statistic.text!r}: {_missing(name, names)}")
    if statistic.needs_answers and ANSWER not in names:
        raise SettingsError(
            f"{statistic.text!r} is about whole answers, and only single scores are stored here; it "
            "can be measured from the next night on"
        )


def check_units(condition: Condition, scores: ScoreTable) -> None:
    """That the bound of a mean or a quantile says what it is measured in.

    A score that stays in 0..1 is a share and needs no unit, nor does a share of samples: below,
    above, precision, recall, F-beta and average precision.

    Raises:
        SettingsError: a score leaves 0..1 and has no unit in its name, or is not there.
    """
    check_scores(condition.statistic, sorted(scores))
    for term in _terms(condition.statistic):
        if term.kind not in _WITH_UNIT or has_unit(term.score):
            continue
        values = scores[term.score]
        outside = values[(values < 0) | (values > 1)]
        if outside.size:
            raise SettingsError(
                f"{condition.text!r}: the number {condition.bound:g} has no unit: the score "
                f"{term.score!r} is {outside[0]:g} for one sample, so it is no share of 0..1; name "
                f"the score with its unit, such as {term.score}_cm, in the task and in [metric]"
            )


def _terms(statistic: Statistic) -> list[Aggregate]:
    """The columns of a statistic do not say what is done with them."""
    return [leaf for leaf in leaves(statistic.tree) if isinstance(leaf, Aggregate)]


def _missing(name: str, names: Sequence[str]) -> str:
    if name == LATENCY:
        return (
            f"{LATENCY} is measured on samples of its own and for the two models only; put it into "
            f'require = ["{LATENCY}.p95 < 50"] or ignore'
        )
    known = [one for one in names if one not in (ANSWER, LABEL)]
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    if name in _KITS:
        hint = f"the scores of flywheel.scoring bring {name}, where it can be measured; "
    return (
        f"no score is called {name!r}; {hint}known: {', '.join(known) or 'none'}; "
        "fix [metric] in flywheel.toml or the task's scores function"
    )
