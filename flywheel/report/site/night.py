"""The page of a night: what was decided and why in one screen, then every number with its samples behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from flywheel.errors import UnknownIdError
from flywheel.ledger.failures import count_moved
from flywheel.ledger.history import get_night
from flywheel.ledger.judged import get_decision, report_of_night
from flywheel.ledger.locks import holder_of
from flywheel.ledger.nights import last_night, skips_of
from flywheel.ledger.requests import answers_asked
from flywheel.loop import Loop
from flywheel.loop.context import LOOP
from flywheel.loop.retrain import Epoch, epoch_under_way
from flywheel.loop.steps import RETRAIN, STEPS, step_results
from flywheel.records import Decision, Estimate, FailureState, Night, Report
from flywheel.report.kit.challenge import budget_sheet, error_sheet
from flywheel.report.kit.classes import class_sheets, draw_classes
from flywheel.report.kit.detection import draw_detections
from flywheel.report.kit.distributions import draw_distributions
from flywheel.report.kit.measured import measured_sheets, production_line
from flywheel.report.kit.tables import Sheet
from flywheel.report.night.steps import advice, falls_short, summarize
from flywheel.report.site.gallery import TestSet, read_test_set
from flywheel.report.site.query import CHANGES, samples_address

_SKIPS = 50
_CLASSES = 30


class Done(NamedTuple):
    """A step of the night."""

    name: str
    said: str
    seconds: float | None
    """None: not done"""
    falls_short: bool


class Row(NamedTuple):
    """A class or slice with both models, and the gallery behind it."""

    name: str
    address: str
    num_samples: int
    cells: tuple[Estimate | None, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class NightPage:
    """Everything that the page shows."""

    night: Night
    is_last: bool
    state: str
    """running, stopped or finished"""
    holder: str | None
    epoch: Epoch | None
    """of the training that runs; None: none does, or its first epoch has not ended"""
    decision: Decision | None
    report: Report | None
    steps: tuple[Done, ...]
    next_step: str
    kept: str
    """why a promoted candidate was not released"""
    seconds: float
    """of all steps"""
    num_asked: int
    """answers that the night asked annotators for"""
    moved: Mapping[FailureState, int]
    skips: tuple[tuple[str, str], ...]
    production: str
    changes: tuple[tuple[str, str, int, str], ...]
    """fixed, broken, neither and both: name, words, number of samples, address"""
    drawn: Mapping[str, str]
    """HTML of the matrices and of reliability, or of a detector's curve and sizes"""
    classes: tuple[Row, ...]
    slices: tuple[Row, ...]
    distributions: Mapping[str, str]
    """HTML by the quantity with a unit"""
    sheets: tuple[Sheet, ...]
    """all other measurements, which fold"""
    num_classes: int
    """of the task; `classes` has those with the most errors"""
    models: tuple[str, ...]
    place: str
    """what the models were compared on"""


def read_night(loop: Loop, number: int) -> NightPage:
    """Read the page of a night.

    Raises:
        UnknownIdError: there is no such night.
    """
    with loop.ledger.read() as connection:
        night, newest = get_night(connection, number), last_night(connection)
        decision, report = get_decision(connection, number), report_of_night(connection, number)
        results = step_results(connection, number)
        is_last = newest is not None and newest.number == number
        holder = holder_of(connection, LOOP) if is_last else None
        moved, asked = count_moved(connection, number), answers_asked(connection, number)
        skips = tuple(skips_of(connection, number)[:_SKIPS])
    test = read_test_set(loop, report) if report is not None else None
    link = partial(samples_address, test=number)
    found = test.classes if test is not None else None
    return NightPage(
        night=night,
        is_last=is_last,
        state=_state(night, holder),
        holder=holder,
        epoch=_epoch(loop, number, results) if holder is not None else None,
        decision=decision,
        report=report,
        steps=tuple(_steps(results, report)),
        next_step=advice(loop, report) if report else "",
        kept=_kept(decision, results),
        seconds=sum(seconds for _, seconds in results.values()),
        num_asked=asked,
        moved=moved,
        skips=skips,
        production=production_line(report) if report else "",
        changes=tuple(_changes(test, number)) if test else (),
        drawn=draw_classes(found, link) | draw_detections(test.boxes if test else None, link),
        classes=tuple(_classes(test, number)) if test else (),
        slices=tuple(_slices(test, number)) if test else (),
        distributions=draw_distributions(loop, report, link) if report else {},
        sheets=_sheets(report, decision, test) if report else (),
        num_classes=_num_classes(test),
        models=test.models if test else (),
        place=found.place if found is not None else "the frozen test set",
    )


def progress(loop: Loop) -> NightPage | None:
    """Return the night that has begun and not finished; None when there is none."""
    with loop.ledger.read() as connection:
        newest = last_night(connection)
    if newest is None or newest.finished_at is not None:
        return None
    try:
        return read_night(loop, newest.number)
    except UnknownIdError:  # a restore took it away meanwhile
        return None


def _state(night: Night, holder: str | None) -> str:
    if night.finished_at is not None:
        return "finished"
    return "running" if holder is not None else "stopped"


def _epoch(loop: Loop, night: int, results: Mapping[str, tuple[Any, float]]) -> Epoch | None:
    found = epoch_under_way(loop.project) if RETRAIN.name not in results else None
    return found if found is not None and found.night == night else None


def _steps(results: Mapping[str, tuple[Any, float]], report: Report | None) -> Iterator[Done]:
    for name in (step.name for step in STEPS):
        if name in results:
            result, seconds = results[name]
            yield Done(name, summarize(name, result, report), seconds, falls_short(result))
        else:
            yield Done(name, "not done", None, falls_short=False)


def _kept(decision: Decision | None, results: Mapping[str, tuple[Any, float]]) -> str:
    if decision is None or decision.verdict.value != "PROMOTE" or "release" not in results:
        return ""
    released = results["release"][0]
    return "" if released.release_number is not None else str(released.note)


def _changes(test: TestSet, night: int) -> Iterator[tuple[str, str, int, str]]:
    for name, words in CHANGES.items():
        chosen = test.changed(name)
        if chosen is None:
            return
        yield name, words, int(chosen.sum()), samples_address(test=night, change=name)


def _classes(test: TestSet, night: int) -> Iterator[Row]:
    """Yield recall and precision of the classes with the most errors, the one with most first."""
    found = test.classes
    if test.boxes is not None:
        for row in test.boxes.classes():
            address = samples_address(test=night, score=row.kind, label=row.name)
            yield Row(row.name, address, row.num_boxes, row.cells)
    if found is None:
        return
    judged = found.models[0]
    labels, wrong = found.column(judged, "actual"), ~found.right(judged)
    errors = np.bincount(labels, wrong, len(found.names))
    for place in np.argsort(-errors, kind="stable")[:_CLASSES].tolist():
        name = found.names[place]
        cells = tuple(
            found.share(found.column(model, side) == place, found.right(model))
            for side in ("actual", "predicted")
            for model in found.models
        )
        number = int((labels == place).sum())
        yield Row(name, samples_address(test=night, label=name), number, cells)


def _num_classes(test: TestSet | None) -> int:
    if test is not None and test.boxes is not None:
        return len(test.boxes.names)
    return len(test.classes.names) if test is not None and test.classes is not None else 0


def _slices(test: TestSet, night: int) -> Iterator[Row]:
    for part in test.report.slices:
        address = samples_address(test=night, slice=part.name)
        cells = (part.candidate, part.champion, part.difference)
        has_samples = f"slice/{part.name}" in test.part.marks
        yield Row(part.name, address if has_samples else "", part.num_samples, cells)


def _sheets(report: Report, decision: Decision | None, test: TestSet | None) -> tuple[Sheet, ...]:
    classes = class_sheets(test.classes) if test is not None else ()
    shown = {"slices", "classes"}
    sheets = (
        budget_sheet(report, decision),
        error_sheet(report),
        *measured_sheets(report),
        *classes,
    )
    return tuple(one for one in sheets if one.key not in shown)
