"""Finds the samples of a gallery: in production through indexed windows, or in the test set of a night."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import numpy as np
from sqlalchemy import Connection

from flywheel.annotate.evidence import slices_of
from flywheel.errors import UserError
from flywheel.evaluate import Part
from flywheel.evaluate.scoring import CONFIDENCE
from flywheel.ledger.browse import (
    Seen,
    Span,
    Window,
    annotated,
    annotators_of,
    cases_of,
    failing,
    labeled,
    moved,
    predicted,
    span_of,
)
from flywheel.ledger.dialects import holds
from flywheel.ledger.judged import report_of_night
from flywheel.loop import Loop
from flywheel.metrics.scores import ANSWER, LABEL
from flywheel.records import Array, FailureState, Json, Report
from flywheel.report.kit import text
from flywheel.report.kit.classes import Classes, read_classes, stored_part
from flywheel.report.kit.detection import KINDS, Detections, read_detections
from flywheel.report.kit.samples import Shown, show_cases
from flywheel.report.site.life import SMALL, picture_address
from flywheel.report.site.map import read_map
from flywheel.report.site.query import ANY, MODELS, Query

PAGE = 24
_SECONDS = 0.25
"""after which a page shows what it has found, and where to go on"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """A sample of a gallery."""

    shown: Shown
    said: tuple[tuple[str, str], ...]
    """model and its answer to a sample of a test set; (): of production, which the case says"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gallery:
    """A page of a gallery."""

    cards: tuple[Card, ...]
    more: int | None
    """where the next page begins; None: this is the last one"""
    total: int | None
    """samples on all pages; None: production, which is not counted but on a part of the map"""
    back_to: datetime | None
    """when the oldest sample that was looked at came; None: nothing was, or of a test set"""


def find(loop: Loop, query: Query) -> Gallery:
    """Return a page of samples.

    Raises:
        UserError: there is no such night, or it has no scores.
    """
    if query.test is not None:
        return _of_test_set(loop, query, query.test)
    if query.area:
        return _of_map(loop, query)
    rows, more, back_to = _search(loop, query)
    shown = show_cases(loop, [seen.case for seen in rows], SMALL, picture_address)
    cards = tuple(Card(shown=one, said=()) for one in shown)
    return Gallery(cards=cards, more=more, total=None, back_to=back_to)


def _of_map(loop: Loop, query: Query) -> Gallery:
    """Return a page of the samples in a part of the map that every filter lets through."""
    ids = read_map(loop, query.upto).inside(query.area)
    with loop.ledger.read() as connection:
        span = _span(connection, query)
        window = Window(list(enumerate(ids)), None)
        rows = [seen for _, seen in _kept(loop, connection, query, window, span)]
    first = query.start or 0
    page = rows[first : first + PAGE]
    shown = show_cases(loop, [seen.case for seen in page], SMALL, picture_address)
    return Gallery(
        cards=tuple(Card(shown=one, said=()) for one in shown),
        more=first + PAGE if first + PAGE < len(rows) else None,
        total=len(rows),
        back_to=min((seen.at for seen in page), default=None),
    )


def _search(loop: Loop, query: Query) -> tuple[list[Seen], int | None, datetime | None]:
    """Walk the windows of the index that the query is best served by, for a quarter of a second."""
    found: dict[str, Seen] = {}
    start, back_to = query.start, None
    until = time.monotonic() + _SECONDS
    with loop.ledger.read() as connection:
        span = _span(connection, query)
        walk = _walk(connection, query, span)
        while True:
            window = walk(start)
            for place, seen in _kept(loop, connection, query, window, span):
                back_to = seen.at if back_to is None else min(back_to, seen.at)
                if seen.case.sample_id in found:
                    continue
                found[seen.case.sample_id] = seen
                if len(found) == PAGE:
                    is_last = window.end is None and place == window.rows[-1][0]
                    return list(found.values()), None if is_last else place, back_to
            start = window.end
            if start is None or time.monotonic() > until:
                return list(found.values()), start, back_to


def _span(connection: Connection, query: Query) -> Span | None:
    if query.night is None:
        return None
    span = span_of(connection, query.night)
    if span is None:
        raise UserError(f"There is no night {query.night} yet. Leave the night out for all nights.")
    return span


def _walk(
    connection: Connection, query: Query, span: Span | None
) -> Callable[[int | None], Window]:
    """Return the walk over the index that narrows the query most."""
    state = FailureState(query.state) if query.state not in ("", ANY) else None
    if (query.state or query.signal) and query.night is not None:
        night, reached = query.night, state or FailureState.SEEN
        return lambda start: moved(connection, start, night, reached)
    if query.state or query.signal:
        return lambda start: failing(connection, start, state)
    if query.annotator:
        return lambda start: annotated(connection, start, query.annotator)
    if query.label:
        return lambda start: labeled(connection, start, query.label)
    bounds = (query.low or 0.0, 1.0 if query.high is None else query.high)
    return lambda start: predicted(connection, start, span, bounds, query.answer)


def _kept(
    loop: Loop, connection: Connection, query: Query, window: Window, span: Span | None
) -> Iterator[tuple[int, Seen]]:
    """Yield the samples of a window that every filter lets through, and their places."""
    ids = [key for _, key in window.rows]
    cases = cases_of(connection, ids)
    by_state = bool(query.state or query.signal)
    is_night = span is not None and not by_state  # of a failure, the night is the one it moved in
    kept = {
        key
        for key, seen in cases.items()
        if _passes(query, seen)
        and not (is_night and span is not None and not span.after < seen.place <= span.upto)
    }
    if query.annotator and kept:
        who = annotators_of(connection, list(kept))
        kept = {key for key in kept if query.annotator in who.get(key, ())}
    if query.slice and kept:
        names = slices_of(connection, loop.blobs, loop.task, [key for key in ids if key in kept])
        kept = {key for key in kept if query.slice in names.get(key, ())}
    for place, key in window.rows:
        if key in kept:
            yield place, cases[key]


def _passes(query: Query, seen: Seen) -> bool:
    case = seen.case
    is_state = query.state in ("", ANY) or query.night is not None
    return (
        (is_state or (case.state is not None and case.state.value == query.state))
        and (not query.signal or query.signal in {one.name for one in case.signals})
        and (not query.answer or is_named(case.answer, query.answer))
        and (
            not query.label or (case.label is not None and is_named(case.label.answer, query.label))
        )
        and (query.low is None or case.confidence >= query.low)
        and (query.high is None or case.confidence <= query.high)
    )


def is_named(answer: Json, name: str) -> bool:
    """Whether an answer is, or names, what an address calls so."""
    return text.answer(answer) == name or holds(answer, name)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TestSet:
    """The N samples that a night judged on, with the scores of the models."""

    report: Report
    part: Part
    classes: Classes | None
    """None: the task has none"""
    boxes: Detections | None
    """the same of a detector"""
    models: tuple[str, ...]

    def names(self, model: str) -> tuple[list[str], list[str]]:
        """Return (N,) answers of a model and (N,) labels in words; [] where they are not kept."""
        table = self.part.scores.get(model, {})
        if self.classes is not None:
            names, rows = self.classes.names, self.classes.part.scores[model]
            return _worded(names, rows["predicted"]), _worded(names, rows["actual"])
        if {ANSWER, LABEL} <= table.keys():
            return _read(table[ANSWER]), _read(table[LABEL])
        return [], []

    def right(self, model: str) -> Array | None:
        """Return (N,) booleans: where a model is right; None: the scores do not say."""
        if self.classes is not None:
            return self.classes.right(model)
        table = self.part.scores.get(model, {})
        if "correct" in table:
            return np.asarray(table["correct"] > 0.5)
        return None

    def changed(self, change: str) -> Array | None:
        """Return (N,) booleans: where both models changed so; None: one is missing."""
        if len(self.models) < len(MODELS):
            return None
        ours, theirs = self.right(MODELS[0]), self.right(MODELS[1])
        if ours is None or theirs is None:
            return None
        return {
            "fixed": ours & ~theirs,
            "broken": ~ours & theirs,
            "neither": ~ours & ~theirs,
            "both": ours & theirs,
        }[change]


def _worded(names: Sequence[str], column: Array) -> list[str]:
    return [names[int(one)] for one in column]


def _read(column: Array) -> list[str]:
    return [text.answer(json.loads(one)) for one in column]


def read_test_set(loop: Loop, report: Report) -> TestSet | None:
    """Return the test set of a report, else its held-out start data; None: its scores are gone."""
    return _test_set(_ByReport(loop, report))


class _ByReport:
    """A report with its loop, equal where the report is: its scores never change."""

    def __init__(self, loop: Loop, report: Report) -> None:
        self.loop, self.report = loop, report
        self._key = (report.id, loop.project.directory)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByReport) and self._key == other._key


@lru_cache(maxsize=4)
def _test_set(asked: _ByReport) -> TestSet | None:
    loop, report = asked.loop, asked.report
    classes = read_classes(loop, report)
    part = classes.part if classes else None
    for name in ("test", "start"):
        part = stored_part(loop, report, name) if part is None else part
    if part is None:
        return None
    models = tuple(one for one in MODELS if part.scores.get(one))
    return TestSet(
        report=report, part=part, classes=classes, boxes=read_detections(part), models=models
    )


def _of_test_set(loop: Loop, query: Query, night: int) -> Gallery:
    with loop.ledger.read() as connection:
        report = report_of_night(connection, night)
    if report is None:
        raise UserError(
            f"Night {night} has no report, so no test set. Choose a night with a verdict."
        )
    test = read_test_set(loop, report)
    if test is None or not test.models:
        raise UserError(
            f"The scores of night {night} are gone or too few. Look at the samples of production instead."
        )
    rows = np.flatnonzero(_chosen(test, query))
    first_seen = -_values(test, query) if query.score else _trouble(test, query)
    rows = rows[np.argsort(first_seen[rows], kind="stable")]
    first = query.start or 0
    page = rows[first : first + PAGE].tolist()
    ids = [test.part.ids[row] for row in page]
    said = _said(test)
    with loop.ledger.read() as connection:
        seen = cases_of(connection, ids)
    page = [row for row in page if test.part.ids[row] in seen]
    cases = [seen[test.part.ids[row]].case for row in page]
    cards = (
        Card(shown=one, said=tuple((who, names[row]) for who, names in said.items()))
        for row, one in zip(page, show_cases(loop, cases, SMALL, picture_address), strict=True)
    )
    more = first + PAGE if first + PAGE < len(rows) else None
    return Gallery(cards=tuple(cards), more=more, total=len(rows), back_to=None)


def _trouble(test: TestSet, query: Query) -> Array:
    """Return (N,) keys: what is wrong with the highest confidence first, then what is right with the lowest."""
    model = _model(test, query)
    table = test.part.scores[model]
    right = test.right(model)
    sure = table[CONFIDENCE] if CONFIDENCE in table else np.zeros(len(test.part.ids))
    return np.asarray(sure if right is None else np.where(right, sure, -1 - sure))


def _model(test: TestSet, query: Query) -> str:
    model = query.model or test.models[0]
    if model not in test.models:
        raise UserError(
            f"Night {test.report.night} has no {model}. Choose {' or '.join(test.models)}."
        )
    return model


def _said(test: TestSet) -> Mapping[str, list[str]]:
    found = {model: test.names(model)[0] for model in test.models}
    found["label"] = test.names(test.models[0])[1]
    is_drawn = {who for who, names in found.items() if names and names[0][:1] in ("[", "{")}
    return {who: names for who, names in found.items() if names and who not in is_drawn}


def _chosen(test: TestSet, query: Query) -> Array:
    """Return (N,) booleans: the samples that every filter lets through."""
    model, part = _model(test, query), test.part
    keep = np.ones(len(part.ids), dtype=bool)
    answers, labels = test.names(model)
    label = "" if query.score in KINDS else query.label  # else it is the class of the boxes
    for wanted, names in ((query.answer, answers), (label, labels)):
        if wanted:
            keep &= np.array([one == wanted for one in names] or [False] * len(keep), dtype=bool)
    if query.slice:
        keep &= _column(part.marks, f"slice/{query.slice}", "slice")
    if query.score or query.low is not None or query.high is not None:
        values = _values(test, query)
        low = -np.inf if query.low is None else query.low
        keep &= (values >= low) & (values <= (np.inf if query.high is None else query.high))
    if query.change:
        changed = test.changed(query.change)
        if changed is None:
            raise UserError(
                f"Night {test.report.night} did not compare two models by right and wrong. Leave change out."
            )
        keep &= changed
    return keep


def _values(test: TestSet, query: Query) -> Array:
    """Return (N,) what `low` and `high` bound: a score, or the largest box within them; NaN: it has none."""
    model = _model(test, query)
    if query.score in KINDS and test.boxes is not None and model in test.boxes.models:
        bounds = {"low": query.low, "high": query.high}
        given = {name: value for name, value in bounds.items() if value is not None}
        return test.boxes.largest(model, query.score, query.label, **given)
    return _column(test.part.scores[model], query.score or CONFIDENCE, "score")


def _column(table: Mapping[str, Array], name: str, kind: str) -> Array:
    if name not in table or table[name].dtype == object:
        prefix = "slice/" if kind == "slice" else ""
        known = (
            ", ".join(one.removeprefix(prefix) for one in table if one.startswith(prefix)) or "none"
        )
        raise UserError(
            f"{name.removeprefix('slice/')!r} is no {kind} of this night. There are {known}."
        )
    return table[name]
