"""How errors are distributed: for each measured quantity of the metric, who stays below how much.

A single number hides whether a few answers are far off or all are a little. Drawn from the stored
scores of a report; nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from flywheel.errors import FlywheelError
from flywheel.evaluate import Part, unpack_book
from flywheel.loop import Loop
from flywheel.metrics.compiled import compile_condition, compile_formula
from flywheel.metrics.names import has_unit
from flywheel.records import Array, Report
from flywheel.report.canvas import Ink, canvas, short_name, to_svg

_COLORS = {"candidate": Ink.CANDIDATE, "champion": Ink.CHAMPION}
_DASHES = ("-.", ":", "--")
_SHOWN = 0.95
"""share of the models' answers that the axis has room for; the rest would squeeze it"""
_FEWEST = 5


def draw_distributions(loop: Loop, report: Report) -> dict[str, str]:
    """Inline SVG for each quantity with a unit that a formula of the metric names, by its name.

    Latency has samples of its own and is not among them. Nothing where a report's scores are gone
    or were changed: replaying its decision says so, a page does without.
    """
    try:
        book, written = unpack_book(loop.blobs.get(report.scores_digest), report.scores_digest)
    except FlywheelError:
        return {}
    part = book.get("test") if written is not None else None
    if part is None or len(part.ids) < _FEWEST:
        return {}
    return {
        name: _draw(part, name, bounds)
        for name, bounds in _quantities(loop, report).items()
        if any(name in part.scores.get(model, {}) for model in _COLORS)
    }


def _quantities(loop: Loop, report: Report) -> dict[str, list[float]]:
    """The scores with a unit in the formulas of the metric, and the bounds set on them."""
    settings, directory = report.metric_settings, loop.project.directory
    found: dict[str, list[float]] = {}
    for text in (settings["optimize"], *settings["ignore"]):
        for name in sorted(compile_formula(text, directory).columns):
            found.setdefault(name, [])
    for text in settings["require"]:
        condition = compile_condition(text, directory)
        for name in sorted(condition.statistic.columns):
            found.setdefault(name, []).append(condition.bound)
    return {name: bounds for name, bounds in found.items() if has_unit(name)}


def _draw(part: Part, name: str, bounds: list[float]) -> str:
    """Share of production (y) whose score is at most x, one line for everyone who was measured."""
    figure, axes = canvas(2.8)
    known = {who: table[name] for who, table in part.scores.items() if name in table}
    others = [who for who in known if who not in _COLORS]
    for who, (values, shares) in _curves(known, part.weights):
        is_model = who in _COLORS
        style = "-" if is_model else _DASHES[others.index(who) % len(_DASHES)]
        color, width = _COLORS.get(who, Ink.MUTED), 2.0 if is_model else 1.2
        axes.step(
            values, shares, style, where="post", color=color, linewidth=width, label=short_name(who)
        )
    for bound in bounds:
        axes.axvline(bound, color=Ink.REQUIRED, linewidth=1.4, linestyle="--")
    models = np.concatenate([values for who, values in known.items() if who in _COLORS])
    axes.set_xlim(min(0.0, float(models.min())), max(_reach(models), *bounds, 1e-9) * 1.05)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel(name)
    axes.set_ylabel("share of production below")
    figure.legend(
        loc="outside upper left", ncols=2, frameon=False, labelcolor=Ink.TEXT, handlelength=1.6
    )
    return to_svg(figure, f"Distribution of {name} over {len(part.ids)} test samples")


def _reach(values: Array) -> float:
    return float(np.quantile(values, _SHOWN))


def _curves(
    known: Mapping[str, Array], weights: Array
) -> Iterator[tuple[str, tuple[Array, Array]]]:
    """Each weighted empirical distribution: sorted values, and the share that lies at or below."""
    for who, values in known.items():
        order = np.argsort(values, kind="stable")
        shares = np.cumsum(weights[order]) / weights.sum()
        yield who, (np.append(values[order[:1]], values[order]), np.append(0.0, shares))
