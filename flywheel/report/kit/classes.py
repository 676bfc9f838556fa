"""What a classifier confuses: its matrix, precision and recall of each class, reliability.

All comes from the stored scores of the test set, weighted as the report is. Those of
`flywheel.scoring.classification` number classes, which have their names of now; others keep texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from flywheel.calls import unguarded
from flywheel.errors import FlywheelError
from flywheel.evaluate import Part, unpack_book
from flywheel.evaluate.scoring import CONFIDENCE
from flywheel.evaluate.stats import FEWEST_SAMPLES, Measured, estimate
from flywheel.loop import Loop
from flywheel.metrics.compiled import compile_formula
from flywheel.metrics.scores import ANSWER, LABEL
from flywheel.records import Array, Estimate, Report
from flywheel.report.kit import text
from flywheel.report.kit.charts import Ink, canvas, short_name, to_svg
from flywheel.report.kit.tables import Sheet
from flywheel.scoring import calibration, confusion_matrix
from flywheel.scoring.classes import are_classes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_DRAWN, _MOST_ROWS, _WORST = 12, 20, 10
"""classes of a drawn matrix, rows of the table of classes, and rows of the worst confusions"""
_BINS = 10
_SIDES = ("predicted", "actual")
_PLACES = {"test": "the frozen test set", "start": "the held-out start data"}
_MODELS = {"candidate": Ink.CANDIDATE, "champion": Ink.CHAMPION}


def stored_part(loop: Loop, report: Report, name: str) -> Part | None:
    """Return a part of a report's stored scores; None if they are missing, changed or too few.

    Replaying its decision reports what is wrong with them; a page is written without.
    """
    try:
        book, written = unpack_book(loop.blobs.get(report.scores_digest), report.scores_digest)
    except FlywheelError:
        return None
    part = book.get(name) if written is not None else None
    return None if part is None or len(part.ids) < FEWEST_SAMPLES else part


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Classes:
    """N test samples whose answers are one of K classes."""

    names: tuple[str, ...]
    """(K,)"""
    part: Part
    models: tuple[str, ...]
    """those with scores on it, the candidate first"""
    place: str
    threshold: float | None
    """answers of the candidate of a lower confidence are withheld; None: no threshold is set"""

    def column(self, model: str, name: str) -> Array:
        """Return (N,) scores of a model; predicted and actual are numbers of classes."""
        return self.part.scores[model][name]

    def right(self, model: str) -> Array:
        """Return (N,) boolean: where a model's answer is the label."""
        return np.asarray(self.column(model, "predicted") == self.column(model, "actual"))

    def matrix(self, model: str) -> Array:
        """Return (K, K) float64: weight of the labels of a class (row) by the answer (column)."""
        answers, labels = self.column(model, "predicted"), self.column(model, "actual")
        everyone = range(len(self.names))
        return confusion_matrix(answers.tolist(), labels.tolist(), everyone, self.part.weights)

    def share(self, chosen: Array, hits: Array) -> Estimate | None:
        """Return the share of hits, (N,) boolean, among the chosen, (N,) boolean."""
        part = self.part.where(chosen)
        measured = Measured(
            ids=part.ids,
            scores={"hit": hits[chosen].astype(np.float64)},
            weights=part.weights,
            clusters=part.clusters,
        )
        # A share has a closed interval; the generator stays as it is.
        return estimate(compile_formula("hit", None), measured, np.random.default_rng(0))


def read_classes(loop: Loop, report: Report) -> Classes | None:
    """Return the classes of a report's test set, else of its start data; None for other tasks."""
    known = getattr(unguarded(loop.task.scores), "classes", ())
    keys = _SIDES if known else (ANSWER, LABEL)
    for name, place in _PLACES.items():
        part = stored_part(loop, report, name)
        tables = {} if part is None else part.scores
        models = [one for one in _MODELS if {*keys, CONFIDENCE} <= tables.get(one, {}).keys()]
        if part is None or not models:
            continue
        columns = np.array([[tables[model][key] for key in keys] for model in models])
        names = [text.answer(one) for one in known]
        if known:  # an answer of then may be of a class that the task no longer has
            names += [f"class {one}" for one in range(len(known), 1 + int(columns.max()))]
        elif are_classes([json.loads(one) for one in columns[0, 1]]):
            values, places = np.unique(columns.astype(np.str_), return_inverse=True)
            names = [text.answer(json.loads(one)) for one in values]
            columns = places.reshape(columns.shape)
        else:
            return None
        numbers = dict(zip(models, columns.astype(np.int64), strict=True))
        scores = {one: tables[one] | dict(zip(_SIDES, numbers[one], strict=True)) for one in models}
        return Classes(
            names=tuple(names),
            part=replace(part, scores=scores),
            models=tuple(models),
            place=place,
            threshold=None if report.abstention is None else report.abstention.threshold,
        )
    return None


def class_sheets(found: Classes | None) -> tuple[Sheet, ...]:
    """Return precision and recall of each class, the worst confusions, and calibration."""
    if found is None:
        return ()
    confusions = (_confusions_sheet(found, model) for model in found.models)
    return (_classes_sheet(found), *confusions, _reliability_sheet(found))


def draw_classes(found: Classes | None) -> dict[str, str]:
    """Return inline SVG by the key of its sheet: a matrix of up to 12 classes, and reliability."""
    if found is None:
        return {}
    drawn = {"reliability": _draw_reliability(found)}
    if len(found.names) <= _MOST_DRAWN:
        drawn |= {f"confusions_{model}": _draw_matrix(found, model) for model in found.models}
    return drawn


def _classes_sheet(found: Classes) -> Sheet:
    labels = found.column(found.models[0], "actual")
    counts = np.bincount(labels, minlength=len(found.names))
    is_wrong = ~found.right(found.models[0])
    wrong = np.bincount(labels, found.part.weights * is_wrong, len(found.names))
    shown = np.argsort(-wrong, kind="stable")[:_MOST_ROWS]
    if len(found.names) <= _MOST_ROWS:
        shown = np.arange(len(found.names))
    is_withheld = found.threshold is not None and found.models[0] == "candidate"
    headings = ["class", "labels"]
    headings += [f"{what}, {one}" for what in ("recall", "precision") for one in found.models]
    rows = []
    for place in shown.tolist():
        row = [found.names[place], f"{counts[place]:,}"]
        row += [_rate(found, model, "actual", place) for model in found.models]
        row += [_rate(found, model, "predicted", place) for model in found.models]
        rows.append((*row, *([_withheld(found, place)] if is_withheld else [])))
    note = (
        "Recall: share of the labels of a class that are answered right; precision: of its answers."
    )
    if len(shown) < len(found.names):
        note += f" The {len(shown)} of {len(found.names)} classes with the most errors."
    if is_withheld:
        headings.append("withheld")
        note += " Withheld: share of the candidate's answers below the threshold; the others count all answers."
    return Sheet(
        key="classes",
        title=f"Classes on {found.place}",
        headings=tuple(headings),
        values=tuple(range(1, len(headings))),
        rows=tuple(rows),
        note=note,
    )


def _rate(found: Classes, model: str, side: str, place: int) -> str:
    """Return recall (side: actual) or precision (side: predicted) of a class, in words if it has none."""
    chosen = found.column(model, side) == place
    if not chosen.any():
        return "no label" if side == "actual" else "never answered"
    return text.estimate(found.share(chosen, found.right(model)))


def _withheld(found: Classes, place: int) -> str:
    chosen = found.column("candidate", "actual") == place
    if not chosen.any():
        return "no label"
    return text.estimate(
        found.share(chosen, found.column("candidate", CONFIDENCE) < found.threshold)
    )


def _confusions_sheet(found: Classes, model: str) -> Sheet:
    matrix = found.matrix(model)
    np.fill_diagonal(matrix, 0.0)
    order = np.argsort(-matrix, axis=None, kind="stable")[:_WORST]
    pairs = [divmod(int(place), len(matrix)) for place in order if matrix.flat[place] > 0]
    answers, labels = found.column(model, "predicted"), found.column(model, "actual")
    rows = []
    for label, answer in pairs:
        chosen, hits = labels == label, answers == answer
        share = text.estimate(found.share(chosen, hits))
        rows.append((found.names[label], found.names[answer], f"{(chosen & hits).sum():,}", share))
    more = int((matrix > 0).sum()) - len(pairs)
    note = "" if rows else "Every answer is right."
    return Sheet(
        key=f"confusions_{model}",
        title=f"Confusions of the {model}",
        headings=("label", "answered", "samples", "share of the label"),
        values=(2, 3),
        rows=tuple(rows),
        note=f"The ones of the most weight; {more:,} other pairs occur." if more else note,
        caption="Share of each label (row) that is answered as each class (column), in percent; in "
        "parentheses the number of labels.",
    )


def _reliability_sheet(found: Classes) -> Sheet:
    rows = []
    for model in found.models:
        sure, right = found.column(model, CONFIDENCE).clip(0, 1), found.right(model)
        error = calibration(sure, right, found.part.weights).ece
        mean = float(np.average(sure, weights=found.part.weights))
        everyone = np.ones(len(right), dtype=bool)
        shown = text.estimate(found.share(everyone, right))
        rows.append((model, text.number(mean), shown, text.number(error)))
    return Sheet(
        key="reliability",
        title="Confidence against the share that is right",
        headings=("who", "mean confidence", "share right", "expected calibration error"),
        values=(1, 2, 3),
        rows=tuple(rows),
        note="The error is over 15 bins; few samples alone make one, in a perfect model too.",
        caption="Answers by confidence, with intervals of the share that is right. On the dashed line a "
        "confidence is the chance to be right. Bins of too few samples are left out.",
    )


def _draw_matrix(found: Classes, model: str) -> str:
    from matplotlib.patches import Rectangle  # noqa: PLC0415 - see kit/charts.py

    matrix, number = found.matrix(model), len(found.names)
    counts = np.bincount(found.column(model, "actual"), minlength=number)
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros_like(matrix), where=totals > 0)
    figure, axes = canvas(1.0 + 0.3 * number)
    axes.grid(visible=False)
    for (row, column), share in np.ndenumerate(shares):
        color = Ink.CANDIDATE if row == column else Ink.REQUIRED
        corner = (column - 0.48, row - 0.48)
        axes.add_patch(Rectangle(corner, 0.96, 0.96, color=Ink.GRID, alpha=0.35, linewidth=0))
        if share > 0:
            ink = 0.1 + 0.5 * float(share)
            axes.add_patch(Rectangle(corner, 0.96, 0.96, color=color, alpha=ink, linewidth=0))
            axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=8)
    shown = [short_name(name) for name in found.names]
    axes.set_xticks(
        range(number), shown, rotation=90 if number > 3 and max(map(len, shown)) > 2 else 0
    )
    axes.set_yticks(
        range(number), [f"{name} ({count})" for name, count in zip(shown, counts, strict=True)]
    )
    axes.set_xlim(-0.5, number - 0.5)
    axes.set_ylim(number - 0.5, -0.5)
    axes.set_xlabel("answered")
    return to_svg(figure, f"Confusion matrix of the {model}, {number} classes")


def _draw_reliability(found: Classes) -> str:
    figure, axes = canvas(3.0)
    axes.plot([0, 1], [0, 1], "--", color=Ink.MUTED, linewidth=1.4)
    for model in found.models:
        for confidence, share in _bins(found, model):
            color = _MODELS[model]
            axes.plot([confidence] * 2, [share.low, share.high], color=color, linewidth=2)
            axes.plot([confidence], [share.value], "o", color=color, markersize=6)
    _legend(figure, found.models)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("confidence")
    axes.set_ylabel("share right")
    return to_svg(figure, f"Reliability of {' and '.join(found.models)} on {found.place}")


def _legend(figure: Figure, models: tuple[str, ...]) -> None:
    axes = figure.axes[0]
    for model in models:
        axes.plot([], [], "o", color=_MODELS[model], label=model)
    figure.legend(loc="outside upper left", ncols=2, frameon=False, labelcolor=Ink.TEXT)


def _bins(found: Classes, model: str) -> Iterator[tuple[float, Estimate]]:
    """Yield mean confidence and share right of each bin with enough samples."""
    sure, right = found.column(model, CONFIDENCE).clip(0, 1), found.right(model)
    places = np.minimum((sure * _BINS).astype(np.int64), _BINS - 1)
    for place in np.unique(places):
        chosen = places == place
        share = found.share(chosen, right)
        if share is not None:
            yield float(np.average(sure[chosen], weights=found.part.weights[chosen])), share
