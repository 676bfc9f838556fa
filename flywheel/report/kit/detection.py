"""What a detector misses and invents: precision against recall, boxes by class and by size.

The boxes of stored answers are matched with those of the labels at an IoU of 0.5. Answers are stored where the
metric is about whole answers, such as map; else there is nothing to draw.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from flywheel.errors import AnnotationError
from flywheel.evaluate import Part
from flywheel.evaluate.stats import Measured, estimate
from flywheel.metrics.compiled import compile_formula
from flywheel.metrics.scores import ANSWER, LABEL
from flywheel.records import Array, Estimate
from flywheel.report.kit import text
from flywheel.report.kit.classes import MODELS, Link, Spot
from flywheel.report.kit.distributions import Bar
from flywheel.report.kit.pages import render
from flywheel.scoring import match_boxes
from flywheel.scoring.boxes import read_boxes

FALSE, RIGHT, MISSED, FOUND = "false box", "right box", "missed box px", "found box px"
KINDS = (FALSE, RIGHT, MISSED, FOUND)
"""of boxes: those of an answer by their confidence, those of a label by the root of their area"""
_IOU = 0.5
_POINTS, _SIZES, _CLASSES = 8, 6, 12
_PRECISION, _RECALL = "num_hits.micro_precision(num_extra)", "num_hits.micro_recall(num_missed)"


class Boxed(NamedTuple):
    """M boxes of one kind."""

    rows: Array
    """(M,) int64, the sample of each"""
    names: Array
    """(M,) texts, the class of each"""
    values: Array
    """(M,) float64, confidence or size in pixels"""


class ClassRow(NamedTuple):
    """A class with the recall and the precision of each model."""

    name: str
    num_boxes: int
    """of the labels"""
    kind: str
    """of the boxes to look at: those that were missed, where there are any"""
    cells: tuple[Estimate | None, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Detections:
    """The boxes of N test samples, by model and kind."""

    part: Part
    boxes: Mapping[tuple[str, str], Boxed]
    models: tuple[str, ...]

    def largest(
        self, model: str, kind: str, name: str = "", low: float = -np.inf, high: float = np.inf
    ) -> Array:
        """Return (N,) the largest value within bounds of a sample's boxes of a kind and class; NaN: none."""
        boxed = self.boxes[model, kind]
        chosen = (boxed.values >= low) & (boxed.values <= high)
        if name:
            chosen &= boxed.names == name
        found = np.full(len(self.part.ids), -np.inf)
        np.maximum.at(found, boxed.rows[chosen], boxed.values[chosen])
        return np.where(np.isfinite(found), found, np.nan)

    @property
    def names(self) -> list[str]:
        """Return the classes, the one with the most errors of the first model first."""
        judged = self.models[0]
        every = (name for kind in KINDS for name in self.boxes[judged, kind].names)
        errors = Counter(
            name for kind in (FALSE, MISSED) for name in self.boxes[judged, kind].names
        )
        return sorted(set(every), key=lambda name: (-errors[name], name))

    def classes(self) -> list[ClassRow]:
        """Return the first of the classes with their recall and precision."""
        return [self._class_row(self.models[0], name) for name in self.names[:_CLASSES]]

    def _class_row(self, judged: str, name: str) -> ClassRow:
        missed, found = (
            int((self.boxes[judged, kind].names == name).sum()) for kind in (MISSED, FOUND)
        )
        cells = tuple(
            self._share(model, formula, name)
            for formula in (_RECALL, _PRECISION)
            for model in self.models
        )
        return ClassRow(name, missed + found, MISSED if missed else FOUND, cells)

    def _share(
        self, model: str, formula: str, name: str = "", threshold: float = -np.inf
    ) -> Estimate | None:
        """Return precision or recall of the boxes of at least a confidence."""

        def count(kind: str, low: float) -> Array:
            boxed = self.boxes[model, kind]
            chosen = boxed.values >= low
            if name:
                chosen &= boxed.names == name
            return np.bincount(boxed.rows[chosen], minlength=len(self.part.ids)).astype(np.float64)

        hits = count(RIGHT, threshold)
        true = count(MISSED, -np.inf) + count(FOUND, -np.inf)
        columns = {
            "num_hits": hits,
            "num_extra": count(FALSE, threshold),
            "num_missed": true - hits,
        }
        part = self.part
        measured = Measured(
            ids=part.ids, scores=columns, weights=part.weights, clusters=part.clusters
        )
        return estimate(compile_formula(formula, None), measured, np.random.default_rng(0))

    def curve(self, model: str, link: Link) -> Iterator[Spot]:
        """Yield precision against recall at up to eight confidences, the highest first."""
        known = np.concatenate([self.boxes[model, kind].values for kind in (FALSE, RIGHT)])
        if not len(known):
            return
        ranks = np.linspace(0, len(known), _POINTS + 1)[1:].astype(np.int64) - 1
        for threshold in np.unique(np.sort(known)[::-1][ranks.clip(0)])[::-1].tolist():
            precision = self._share(model, _PRECISION, threshold=threshold)
            recall = self._share(model, _RECALL, threshold=threshold)
            if precision is None or recall is None:
                continue
            number = int((self.boxes[model, FALSE].values >= threshold).sum())
            said = (
                f"{model}, boxes of confidence {text.number(threshold)} or more: precision "
                f"{text.estimate(precision)}, recall {text.estimate(recall)}; {number} false boxes"
            )
            address = link(model=model, score=FALSE if number else RIGHT, low=threshold)
            yield Spot(model, recall.value, precision, said, address)

    def sizes(self) -> Iterator[Bar]:
        """Yield how many boxes of the labels each model misses, by the root of their area."""
        parts = {model: self.boxes[model, MISSED].values for model in self.models}
        judged = self.models[0]
        everyone = np.concatenate([parts[judged], self.boxes[judged, FOUND].values])
        if not len(everyone):
            return
        known = np.unique(everyone)
        cuts = np.quantile(everyone, np.linspace(0, 1, _SIZES + 1)[1:-1])
        places = np.unique(np.searchsorted(known, cuts).clip(1, max(len(known) - 1, 1)))
        first = 0
        for place in [*places[places < len(known)].tolist(), len(known)]:
            low, high = float(known[first]), float(known[place - 1])
            numbers = {"labels": everyone, **parts}
            yield Bar(
                low,
                high,
                {
                    who: int(((values >= low) & (values <= high)).sum())
                    for who, values in numbers.items()
                },
            )
            first = place


def read_detections(part: Part | None) -> Detections | None:
    """Return the boxes of a test set; None: its answers are no boxes, or were not stored."""
    tables = {} if part is None else part.scores
    models = tuple(one for one in MODELS if {ANSWER, LABEL} <= tables.get(one, {}).keys())
    if part is None or not models:
        return None
    found: dict[tuple[str, str], Boxed] = {}
    for model in models:
        table = tables[model]
        pairs = [
            (json.loads(answer), json.loads(label))
            for answer, label in zip(table[ANSWER], table[LABEL], strict=True)
        ]
        try:
            found |= {(model, kind): boxed for kind, boxed in _matched(pairs).items()}
        except AnnotationError:
            return None
    if not any(len(boxed.rows) for boxed in found.values()):
        return None
    return Detections(part=part, boxes=found, models=models)


def _matched(pairs: list[tuple[object, object]]) -> dict[str, Boxed]:
    rows: dict[str, list[tuple[int, str, float]]] = {kind: [] for kind in KINDS}
    for row, (answer, label) in enumerate(pairs):
        matches = match_boxes(answer, label, _IOU)
        for value, places, kinds in (
            (answer, {one for one, _ in matches}, (FALSE, RIGHT)),
            (label, {one for _, one in matches}, (MISSED, FOUND)),
        ):
            boxes = read_boxes(value)
            areas = boxes.sides[:, 2] * boxes.sides[:, 3]
            values = boxes.confidences if FALSE in kinds else np.sqrt(areas)
            for name, place, number in zip(boxes.labels, boxes.places, values, strict=True):
                rows[kinds[place in places]].append((row, name, float(number)))
    return {
        kind: Boxed(
            np.array([row for row, _, _ in found], dtype=np.int64),
            np.array([name for _, name, _ in found], dtype=object),
            np.array([value for _, _, value in found], dtype=np.float64),
        )
        for kind, found in rows.items()
    }


def draw_detections(found: Detections | None, link: Link) -> dict[str, str]:
    """Return HTML of the curve and of the sizes; each point and bar leads to its samples."""
    if found is None:
        return {}
    return {
        "curve": render(
            "points.html",
            title=f"Precision against recall of {' and '.join(found.models)}",
            axes=("recall", "precision"),
            models=found.models,
            points=[spot for model in found.models for spot in found.curve(model, link)],
            is_curve=True,
        ),
        "sizes": render(
            "bars.html",
            name=MISSED,
            bars=list(found.sizes()),
            everyone=["labels", *found.models],
            models=MODELS,
            required="",
            link=link,
        ),
    }
