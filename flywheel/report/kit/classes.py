"""What a classifier confuses: its matrix, precision and recall of each class, reliability.

All comes from the stored scores of the test set, weighted as the report is. Those of
`flywheel.scoring.classification` number classes, which have their names of now; others keep texts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

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
from flywheel.report.kit.pages import render
from flywheel.report.kit.tables import Sheet
from flywheel.scoring import calibration_error, confusion_matrix
from flywheel.scoring.classes import are_classes

Link = Callable[..., str]
"""filters of samples -> the address of their gallery"""
_MOST_DRAWN, _MOST_ROWS, _WORST = 12, 20, 10
"""classes of a matrix, rows of the table of classes, and rows of the worst confusions"""
_BINS = 10
_SIDES = ("predicted", "actual")
_PLACES = {"test": "the frozen test set", "start": "the held-out start data"}
MODELS = ("candidate", "champion")


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
        models = [one for one in MODELS if {*keys, CONFIDENCE} <= tables.get(one, {}).keys()]
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


def draw_classes(found: Classes | None, link: Link | None = None) -> dict[str, str]:
    """Return HTML by the key of its sheet: a matrix for each model, and reliability as inline SVG.

    A matrix of more than 12 classes shows those with the most errors. With a `link`, each cell and each
    point leads to its samples.
    """
    if found is None:
        return {}
    matrices = {model: _matrix(found, model) for model in found.models}
    drawn = {
        f"confusions_{model}": render("matrix.html", matrix=matrix, model=model, link=link)
        for model, matrix in matrices.items()
    }
    return drawn | {
        "reliability": render(
            "points.html",
            title=f"Reliability of {' and '.join(found.models)} on {found.place}",
            axes=("confidence", "share right"),
            models=found.models,
            points=[point for model in found.models for point in _points(found, model, link)],
            is_curve=False,
        )
    }


class Cell(NamedTuple):
    """A cell of a matrix."""

    answer: str
    number: int
    """of samples"""
    share: float
    """of the label's weight, 0..1"""


class Matrix(NamedTuple):
    """The K classes of a matrix with the most errors, in the order of all classes."""

    names: tuple[str, ...]
    rows: tuple[tuple[str, int, tuple[Cell, ...]], ...]
    """label, its number of samples, and its cells"""
    num_classes: int
    """of the task"""


def _matrix(found: Classes, model: str) -> Matrix:
    weight, number = found.matrix(model), len(found.names)
    answers, labels = found.column(model, "predicted"), found.column(model, "actual")
    off = weight.copy()
    np.fill_diagonal(off, 0.0)
    worst = np.argsort(-(off.sum(axis=0) + off.sum(axis=1)), kind="stable")[:_MOST_DRAWN]
    shown = sorted(worst.tolist())
    totals = np.maximum(weight.sum(axis=1), 1e-12)
    counts = np.zeros((number, number), dtype=np.int64)
    np.add.at(counts, (labels, answers), 1)
    rows = tuple(
        (
            found.names[row],
            int(counts[row].sum()),
            tuple(
                Cell(found.names[one], int(counts[row, one]), float(weight[row, one] / totals[row]))
                for one in shown
            ),
        )
        for row in shown
    )
    return Matrix(tuple(found.names[one] for one in shown), rows, number)


class Spot(NamedTuple):
    """A point of a chart whose two axes are shares."""

    model: str
    x: float
    """0..1"""
    share: Estimate
    """on the other axis"""
    said: str
    address: str
    """of its samples; "": it leads nowhere"""


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
        caption="Share of each label (row) that is answered as each class (column), in percent.",
    )


def _reliability_sheet(found: Classes) -> Sheet:
    rows = []
    for model in found.models:
        sure, right = found.column(model, CONFIDENCE).clip(0, 1), found.right(model)
        error = calibration_error(sure, right, found.part.weights)
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


def _points(found: Classes, model: str, link: Link | None) -> Iterator[Spot]:
    """Yield the share that is right for each bin of confidences with enough samples."""
    sure, right = found.column(model, CONFIDENCE).clip(0, 1), found.right(model)
    places = np.minimum((sure * _BINS).astype(np.int64), _BINS - 1)
    for place in np.unique(places).tolist():
        chosen = places == place
        share = found.share(chosen, right)
        if share is None:
            continue
        low, high = place / _BINS, (place + 1) / _BINS
        said = (
            f"{model}: of {share.num_samples} answers with confidence {low:.1f} to {high:.1f} the share "
            f"right is {text.estimate(share)}"
        )
        mean = float(np.average(sure[chosen], weights=found.part.weights[chosen]))
        address = link(model=model, low=low, high=high) if link else ""
        yield Spot(model, mean, share, said, address)
