"""The page of a night: what was decided and why in one screen, then every number with its samples behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from flywheel.errors import UnknownIdError
from flywheel.evaluate.scoring import CONFIDENCE
from flywheel.ledger.failures import count_moved
from flywheel.ledger.history import get_night
from flywheel.ledger.judged import get_decision, report_of_night
from flywheel.ledger.locks import holder_of
from flywheel.ledger.nights import last_night, skips_of
from flywheel.ledger.requests import answers_asked
from flywheel.loop import Loop
from flywheel.loop.context import LOOP
from flywheel.loop.steps import STEPS, step_results
from flywheel.metrics.names import has_unit
from flywheel.records import Array, Decision, Estimate, FailureState, Night, Report
from flywheel.report.kit.challenge import budget_sheet, error_sheet
from flywheel.report.kit.classes import class_sheets, draw_classes
from flywheel.report.kit.measured import measured_sheets, production_line
from flywheel.report.kit.tables import Sheet
from flywheel.report.night.steps import advice, falls_short, summarize
from flywheel.report.site.gallery import TestSet, read_test_set
from flywheel.report.site.query import CHANGES, samples_address

_SKIPS = 50
_BINS = 10


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


class Bar(NamedTuple):
    """Samples whose score lies in a range."""

    low: float
    high: float
    number: int
    address: str


@dataclass(frozen=True, kw_only=True, slots=True)
class NightPage:
    """Everything that the page shows."""

    night: Night
    is_last: bool
    state: str
    """running, stopped or finished"""
    holder: str | None
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
    """HTML of the matrices and of reliability"""
    classes: tuple[Row, ...]
    slices: tuple[Row, ...]
    histograms: Mapping[str, tuple[Bar, ...]]
    """score of the judged model -> its bars"""
    sheets: tuple[Sheet, ...]
    """all other measurements, which fold"""
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
        decision=decision,
        report=report,
        steps=tuple(_steps(results)),
        next_step=advice(loop, report) if report else "",
        kept=_kept(decision, results),
        seconds=sum(seconds for _, seconds in results.values()),
        num_asked=asked,
        moved=moved,
        skips=skips,
        production=production_line(report) if report else "",
        changes=tuple(_changes(test, number)) if test else (),
        drawn=draw_classes(found, link),
        classes=tuple(_classes(test, number)) if test else (),
        slices=tuple(_slices(test, number)) if test else (),
        histograms=dict(_histograms(test, number)) if test else {},
        sheets=_sheets(report, decision, test) if report else (),
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


def _steps(results: Mapping[str, tuple[Any, float]]) -> Iterator[Done]:
    for name in (step.name for step in STEPS):
        if name in results:
            result, seconds = results[name]
            yield Done(name, summarize(name, result), seconds, falls_short(result))
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
    """Yield recall and precision of every class, the one with the most errors first."""
    found = test.classes
    if found is None:
        return
    judged = found.models[0]
    labels, wrong = found.column(judged, "actual"), ~found.right(judged)
    errors = np.bincount(labels, wrong, len(found.names))
    for place in np.argsort(-errors, kind="stable").tolist():
        name = found.names[place]
        cells = tuple(
            found.share(found.column(model, side) == place, found.right(model))
            for side in ("actual", "predicted")
            for model in found.models
        )
        number = int((labels == place).sum())
        yield Row(name, samples_address(test=night, label=name), number, cells)


def _slices(test: TestSet, night: int) -> Iterator[Row]:
    for part in test.report.slices:
        address = samples_address(test=night, slice=part.name)
        cells = (part.candidate, part.champion, part.difference)
        has_samples = f"slice/{part.name}" in test.part.marks
        yield Row(part.name, address if has_samples else "", part.num_samples, cells)


def _histograms(test: TestSet, night: int) -> Iterator[tuple[str, tuple[Bar, ...]]]:
    """Yield the judged model's scores that have a unit, in bars of equal width; the last takes the tail."""
    for name, values in test.part.scores.get(test.models[0], {}).items():
        if values.dtype == object or name == CONFIDENCE or not has_unit(name):
            continue
        usable = values[np.isfinite(values)]
        if not len(usable):
            continue
        yield (
            name,
            tuple(
                Bar(low, high, number, samples_address(test=night, score=name, low=low, high=high))
                for low, high, number in _bars(usable)
            ),
        )


def _bars(values: Array) -> Iterator[tuple[float, float, int]]:
    """Yield ends and number of each bar: one for each value where they are few, as of counts."""
    different, numbers = np.unique(values, return_counts=True)
    if len(different) <= _BINS:
        for value, number in zip(different.tolist(), numbers.tolist(), strict=True):
            yield value, value, number
        return
    low, reach, end = (float(np.quantile(values, share)) for share in (0.0, 0.95, 1.0))
    # Cut to what an address shows, so that a bar and its gallery hold the same samples.
    inner = [float(f"{edge:.6g}") for edge in np.linspace(low, max(reach, low), _BINS)][1:]
    edges = [low, *inner, end]
    counts, _ = np.histogram(values, edges)
    yield from zip(edges[:-1], edges[1:], counts.tolist(), strict=True)


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
