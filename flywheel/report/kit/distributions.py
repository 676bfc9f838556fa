"""How far answers are off, for each quantity with a unit in the metric: a mean hides a few that are far off.

A table of bars as HTML, for the archived page of a night and for the site, where each bar of a model leads to
its samples. Nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from flywheel.evaluate import Part
from flywheel.loop import Loop
from flywheel.metrics.compiled import compile_condition, compile_formula
from flywheel.metrics.names import has_unit
from flywheel.records import Array, Report
from flywheel.report.kit.classes import MODELS, Link, stored_part
from flywheel.report.kit.pages import render

_BARS = 10
_SHOWN = 0.95
"""quantile of the models' values at which the last bar begins; outliers would squeeze the rest"""


class Bar(NamedTuple):
    """Values in a range, of everyone."""

    low: float
    high: float
    numbers: Mapping[str, int]
    """of samples, by model or baseline"""


def draw_distributions(loop: Loop, report: Report, link: Link | None = None) -> dict[str, str]:
    """Return HTML of each quantity with a unit in the metric's formulas, by its name.

    Latency is left out, since it has samples of its own. Empty if the report's scores are missing
    or were changed: replaying its decision reports that; a page is written without.
    """
    part = stored_part(loop, report, "test")
    if part is None:
        return {}
    return {
        name: render(
            "bars.html",
            name=name,
            bars=list(_bars(part, name)),
            everyone=[who for who, table in part.scores.items() if name in table],
            models=MODELS,
            required=", ".join(conditions),
            link=link,
        )
        for name, conditions in _quantities(loop, report).items()
        if any(name in part.scores.get(model, {}) for model in MODELS)
    }


def _quantities(loop: Loop, report: Report) -> dict[str, list[str]]:
    """Map each score with a unit in the metric's formulas to the requirements on it."""
    settings, directory = report.metric_settings, loop.project.directory
    found: dict[str, list[str]] = {}
    for formula in (settings["optimize"], *settings["ignore"]):
        for name in sorted(compile_formula(formula, directory).columns):
            found.setdefault(name, [])
    for required in settings["require"]:
        for name in sorted(compile_condition(required, directory).statistic.columns):
            found.setdefault(name, []).append(required)
    return {name: required for name, required in found.items() if has_unit(name)}


def _bars(part: Part, name: str) -> Iterator[Bar]:
    """Yield one bar for each value where they are few, as of counts, else ten; the last has the tail."""
    known = {who: table[name] for who, table in part.scores.items() if name in table}
    judged = np.concatenate([values for who, values in known.items() if who in MODELS])
    judged = judged[np.isfinite(judged)]
    different = np.unique(judged)
    if len(different) <= _BARS:
        for value in different.tolist():
            yield Bar(value, value, _counted(known, value, value))
        return
    everyone = np.unique(np.concatenate(list(known.values())))
    everyone = everyone[np.isfinite(everyone)]
    nominal = np.linspace(judged.min(), np.quantile(judged, _SHOWN), _BARS)[1:]
    # An end lies between two values, so that no sample is in two bars.
    places = np.unique(np.searchsorted(everyone, nominal).clip(1, len(everyone) - 1))
    inner = (everyone[places - 1] + everyone[places]) / 2
    edges = [float(everyone[0]), *inner.tolist(), float(everyone[-1])]
    for first, last in pairwise(edges):
        yield Bar(first, last, _counted(known, first, last))


def _counted(known: Mapping[str, Array], low: float, high: float) -> dict[str, int]:
    return {who: int(((values >= low) & (values <= high)).sum()) for who, values in known.items()}
