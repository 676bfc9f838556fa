"""What a task gives as its `scores`, ready-made by the kind of its answers.

Each function returns scores that also know the formulas that their field has a short name for, so
that [metric] may say f1 or map. A per-sample score that an aggregate adds up, such as a count of
boxes, keeps its own column.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from flywheel.errors import AnnotationError
from flywheel.records import Json, canonical, is_number
from flywheel.scoring.boxes import match_boxes, read_boxes
from flywheel.scoring.classes import number_of, numbered

_COUNTED = {
    "accuracy": "correct",
    "precision": "num_hits.micro_precision(num_extra)",
    "recall": "num_hits.micro_recall(num_missed)",
    "f1": "num_hits.micro_f1(num_extra, num_missed)",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """A task's `scores`: answer, label -> per-sample numbers."""

    score: Callable[[Json, Json], dict[str, float]] = field(repr=False)
    metrics: Mapping[str, str]
    """short name -> the formula of [metric] that it stands for"""
    classes: tuple[Json, ...] = ()
    """of answers that are one of several, by number; pages show which are confused"""

    def __call__(self, answer: Json, label: Json) -> dict[str, float]:
        """The numbers of one answer.

        Raises:
            AnnotationError: the answer or the label is none of this kind.
        """
        return self.score(answer, label)


def classification(classes: Sequence[Json], *, positive: Json = None) -> Scores:
    """Scores of answers that are one of several classes.

    Scores: correct, 0 or 1; predicted and actual, the number of the class, counted from 0.
    Names: accuracy; precision, recall and f1, of the positive class (of two classes the second, if
    none is named), else the mean over the classes; map, see
    `flywheel.metrics.scores.mean_average_precision`.
    Source: the formulas and their sources are those of `flywheel.metrics.scores`.

    >>> from flywheel.scoring import classification
    >>> scores = classification(["fine", "scratched"])
    >>> scores("fine", "scratched")
    {'correct': 0.0, 'predicted': 0.0, 'actual': 1.0}
    >>> scores.metrics["recall"]
    'predicted.recall(actual, positive=1)'

    Raises:
        ValueError: the classes are not at least two different ones.
        AnnotationError: the positive one is none of them.
    """
    numbers = numbered(classes)

    def score(answer: Json, label: Json) -> dict[str, float]:
        predicted, actual = number_of(answer, numbers), number_of(label, numbers)
        return {
            "correct": float(predicted == actual),
            "predicted": float(predicted),
            "actual": float(actual),
        }

    chosen = 1 if len(classes) == 2 else None
    if positive is not None:
        chosen = number_of(positive, numbers)
    metrics = {"accuracy": "correct", "map": "predicted.mean_average_precision(actual, confidence)"}
    for name in ("precision", "recall", "f1"):
        one = f"predicted.{name}(actual, positive={chosen})"
        metrics[name] = one if chosen is not None else f"predicted.macro_{name}(actual)"
    return Scores(score=score, metrics=metrics, classes=tuple(classes))


def multi_label(labels: Sequence[str]) -> Scores:
    """Scores of answers that are a list of labels, in any order.

    Scores: correct, 1 where all are the same; num_hits, num_extra and num_missed, counts of labels.
    Names: accuracy, the share of samples whose labels are all right; precision, recall and f1 over
    all labels of all samples.
    Source: Manning, Raghavan and Schuetze (2008), section 13.6, for the micro average.

    >>> from flywheel.scoring import multi_label
    >>> multi_label(["cat", "dog", "fox"])(["cat", "dog"], ["dog"])
    {'correct': 0.0, 'num_hits': 1.0, 'num_extra': 1.0, 'num_missed': 0.0}

    Raises:
        ValueError: the labels are not at least two different ones.
    """
    numbers = numbered(labels)

    def chosen(value: Json) -> set[int]:
        if not isinstance(value, list):
            raise AnnotationError(f"{value!r:.60} is no list of labels; give one, [] for none")
        return {number_of(one, numbers) for one in value}

    return Scores(
        score=lambda answer, label: _counts(chosen(answer), chosen(label)), metrics=_COUNTED
    )


def detection(labels: Sequence[str], *, iou: float = 0.5) -> Scores:
    """Scores of answers that are a list of boxes, see `flywheel.scoring.boxes`.

    Scores: correct, 1 where every box has its match and none is missed; num_hits, num_extra and
    num_missed, counts of boxes, matched one to one at `iou`, see `boxes.match_boxes`.
    Names: accuracy; precision, recall and f1 over all boxes of all samples; map, map_50 and map_75
    as COCO defines them, over whole answers.
    Source: Lin et al. (2014), Microsoft COCO; Everingham et al. (2010), PASCAL VOC, for IoU >= 0.5.

    >>> from flywheel.scoring import detection
    >>> cup = {"label": "cup", "x": 10, "y": 10, "width": 20, "height": 20}
    >>> detection(["cup", "pan"])([{**cup, "x": 12, "confidence": 0.8}], [cup, {**cup, "x": 90}])
    {'correct': 0.0, 'num_hits': 1.0, 'num_extra': 0.0, 'num_missed': 1.0}

    Raises:
        ValueError: iou is not above 0 and at most 1.
    """
    if not 0 < iou <= 1:
        raise ValueError(f"iou is {iou:g}; give a number above 0 and at most 1, such as 0.5")
    known = set(labels)

    def count(value: Json) -> int:
        boxes = read_boxes(value)
        for name in set(boxes.labels) - known:
            raise AnnotationError(
                f"a box has the label {name!r:.60}; give one of {', '.join(labels):.200}"
            )
        return len(boxes.labels)

    def score(answer: Json, label: Json) -> dict[str, float]:
        number, wanted = count(answer), count(label)
        return _counted(len(match_boxes(answer, label, iou)), number, wanted)

    names = {"map": "mean_average_precision", "map_50": "map_50", "map_75": "map_75"}
    whole = {name: f"flywheel.scoring:{function}" for name, function in names.items()}
    return Scores(score=score, metrics=_COUNTED | whole)


def spans(labels: Sequence[str]) -> Scores:
    """Scores of answers that are a list of spans of a text: dicts of start, end and label.

    A span is right when its label and both ends are those of one in the label, which counts once.
    Scores: correct, 1 where all are right; num_hits, num_extra and num_missed, counts of spans.
    Names: accuracy; precision, recall and f1 over all spans of all samples.
    Source: Tjong Kim Sang and De Meulder (2003), CoNLL-2003 shared task: exact match.

    >>> from flywheel.scoring import spans
    >>> name = {"start": 0, "end": 5, "label": "name"}
    >>> spans(["name", "city"])([name, {**name, "start": 9, "end": 12}], [name])
    {'correct': 0.0, 'num_hits': 1.0, 'num_extra': 1.0, 'num_missed': 0.0}
    """
    known = set(labels)

    def read(value: Json) -> Counter[Hashable]:
        if not isinstance(value, list):
            raise AnnotationError(f"{value!r:.60} is no list of spans; give one, [] for none")
        return Counter(_span(one, known) for one in value)

    def score(answer: Json, label: Json) -> dict[str, float]:
        found, true = read(answer), read(label)
        return _counted((found & true).total(), found.total(), true.total())

    return Scores(score=score, metrics=_COUNTED)


def regression(unit: str = "") -> Scores:
    """Scores of answers that are a number: the absolute error, named with its unit.

    Scores: error, or error_UNIT, such as error_cm; lower is better.
    Names: mae, its mean; rmse, the root of the mean of its square.
    Source: Willmott and Matsuura (2005) compare the two.

    >>> from flywheel.scoring import regression
    >>> scores = regression("cm")
    >>> scores(12.5, 10), scores.metrics["rmse"]
    ({'error_cm': 2.5}, 'error_cm.rms')
    """
    name = f"error_{unit}" if unit else "error"

    def score(answer: Json, label: Json) -> dict[str, float]:
        return {name: abs(_number(answer) - _number(label))}

    return Scores(score=score, metrics={"mae": name, "rmse": f"{name}.rms"})


def ranking(k: int | None = 10) -> Scores:
    """Scores of answers that rank items, of which the first k count; None: all.

    An answer is a list of ids, the best first, or a dict of id -> number, ranked by it. So is a
    label: the ids of a list are relevant, each with gain 1; those of a dict have the gain that it
    says. Scores, all 0..1: ndcg, with DCG = sum of gain / log2(1 + rank); reciprocal_rank, of the
    first relevant item; average_precision, over the relevant items or the first k of them;
    precision and recall, of the first k. Where nothing is relevant, all are 0.
    Names: mrr, the mean reciprocal rank, and map, the mean average precision.
    Source: Jaervelin and Kekaelaeinen (2002) for NDCG; Manning, Raghavan and Schuetze (2008),
    section 8.4.

    >>> from flywheel.scoring import ranking
    >>> scores = ranking()(["b", "a", "c"], ["a"])
    >>> {name: round(score, 3) for name, score in scores.items()}  # doctest: +NORMALIZE_WHITESPACE
    {'ndcg': 0.631, 'reciprocal_rank': 0.5, 'average_precision': 0.5, 'precision': 0.1,
     'recall': 1.0}

    Raises:
        ValueError: k is below 1.
    """
    if k is not None and k < 1:
        raise ValueError(f"k is {k}; give the number of items that count, 1 or more, or None")

    def score(answer: Json, label: Json) -> dict[str, float]:
        gains = {one: gain for one, gain in _gains(label).items() if gain > 0}
        ranked = list(_gains(answer))[:k]
        return _ranked([gains.get(one, 0.0) for one in ranked], list(gains.values()), k)

    names = {"mrr": "reciprocal_rank", "map": "average_precision"}
    return Scores(score=score, metrics=names)


def _ranked(found: Sequence[float], gains: Iterable[float], k: int | None) -> dict[str, float]:
    """The scores of gains in the order of an answer, of those that could be had."""
    best = sorted(gains, reverse=True)
    ranks = [rank for rank, gain in enumerate(found, start=1) if gain > 0]
    precisions = [number / rank for number, rank in enumerate(ranks, start=1)]
    most = len(best[:k])
    return {
        "ndcg": _dcg(found) / _dcg(best[:k]) if best else 0.0,
        "reciprocal_rank": 1 / ranks[0] if ranks else 0.0,
        "average_precision": math.fsum(precisions) / most if best else 0.0,
        "precision": len(ranks) / (k or max(len(found), 1)),
        "recall": len(ranks) / len(best) if best else 0.0,
    }


def _dcg(gains: Sequence[float]) -> float:
    return math.fsum(gain / math.log2(1 + rank) for rank, gain in enumerate(gains, start=1))


def _gains(value: Json) -> dict[str, float]:
    """The gain of each item, the best first; items of a list have a gain of 1."""
    if isinstance(value, list):
        return dict.fromkeys(map(canonical, value), 1.0)
    if isinstance(value, dict):
        gains = {canonical(one): _number(gain) for one, gain in value.items()}
        return dict(sorted(gains.items(), key=lambda pair: (-pair[1], pair[0])))
    raise AnnotationError(
        f"{value!r:.60} is no ranking; give a list of ids, the best first, or a number for each id"
    )


def _number(value: Json) -> float:
    if is_number(value):
        return float(value)
    raise AnnotationError(f"{value!r:.60} is no finite number; give one")


def _span(value: Json, known: set[str]) -> Hashable:
    if not isinstance(value, dict) or value.get("label") not in list(known):
        raise AnnotationError(
            f"{value!r:.80} is no span; give a dict with start, end and a label of "
            f"{', '.join(sorted(known)):.200}"
        )
    start, end = value.get("start"), value.get("end")
    if type(start) is not int or type(end) is not int or not 0 <= start < end:
        raise AnnotationError(
            f"a span goes from {start!r:.20} to {end!r:.20}; give whole numbers, 0 <= start < end"
        )
    return start, end, value["label"]


def _counts(found: set[int], true: set[int]) -> dict[str, float]:
    return _counted(len(found & true), len(found), len(true))


def _counted(num_hits: int, number: int, wanted: int) -> dict[str, float]:
    extra, missed = number - num_hits, wanted - num_hits
    return {
        "correct": float(extra == missed == 0),
        "num_hits": float(num_hits),
        "num_extra": float(extra),
        "num_missed": float(missed),
    }
