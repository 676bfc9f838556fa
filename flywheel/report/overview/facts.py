"""Reads everything that the overview page shows from the ledger.

The cost is bounded however many nights there were: 60 reports, the newest 1,000 failures by
slice, the times of the newest 50,000 failures, and a row or two per night.

The time from a failure seen to a fix in production is a Kaplan-Meier estimate. Most failures of
last week are not fixed yet; leaving them out would make fixes look faster than they are.

Labels saved: both shares of a batch are drawn from the same production. The failure rate of random
labels is estimated from the probability share, with its interval. Whether an answer is a failure is
decided by the project's own rule.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime

import numpy as np
import scipy
from sqlalchemy import Connection

from flywheel.annotate.evidence import slices_of
from flywheel.collect import Collected, Drift
from flywheel.evaluate import Population, Returned, production_estimate
from flywheel.evaluate.abstain import failed
from flywheel.evaluate.book import LATENCY
from flywheel.evaluate.scoring import CONFIDENCE, score_one
from flywheel.ledger.batches import Drawn, LabeledChoice, draws_since, labeled_choices
from flywheel.ledger.codec import from_json
from flywheel.ledger.failures import count_failures
from flywheel.ledger.history import (
    Wait,
    decisions_of,
    moves_by_night,
    newest_failures,
    night_starts,
    reported_nights,
    reports_of,
    results_of,
    waits,
)
from flywheel.ledger.nights import current_night_number, last_night
from flywheel.ledger.releases import Handover, all_handovers
from flywheel.loop import Loop
from flywheel.metrics.compiled import compile_formula
from flywheel.records import Array, Decision, Estimate, FailureState, Night, Report, Share
from flywheel.report.history import Released, read_released
from flywheel.report.labeling.facts import LabelingFacts, read_labeling
from flywheel.report.night.facts import comparable_reports, thin_out

NIGHTS = 60
"""only batches of these last nights count"""
_FEWEST_TARGETED = 10
"""targeted labels below which there is no estimate"""
_FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved:
    """Labels saved by targeting suspects."""

    num_labels: int
    """labels of the targeted share, in batches with random labels too"""
    num_found: int
    """failures among them: the logged answer contradicts the label"""
    at_random: Estimate
    """failures that the same number of random labels would have found"""
    saved: float | None
    """extra random labels needed to find as many failures; None: unbounded"""
    low: float
    high: float | None
    """bounds of its interval; None: unbounded"""


def labels_saved(loop: Loop) -> Saved | None:
    """Return the labels saved in the last 60 nights; None below 10 targeted or 5 random labels.

    Formula: with f failures among n targeted labels and failure rate p of random labels, n random
    labels would have found n p failures, and f failures need f / p of them: f / p - n are saved.
    p is the Hajek mean over the probability share with Wilson's interval. Each batch is weighted
    by its targeted labels, so that easy and hard nights count alike on both sides. The bounds of
    the other numbers follow from those of p; f is a count and has no interval.
    """
    with loop.ledger.read() as connection:
        since = current_night_number(connection) - NIGHTS
        labeled = labeled_choices(connection, since)
        draws = draws_since(connection, since)
    both = _batches_of(labeled, Share.TARGETED) & _batches_of(labeled, Share.PROBABILITY)
    labeled = [choice for choice in labeled if choice.batch_id in both]
    is_targeted = np.array([choice.share is Share.TARGETED for choice in labeled], dtype=bool)
    number = int(is_targeted.sum())
    if number < _FEWEST_TARGETED:
        return None
    wrong = _failures(loop, labeled)
    found = int(wrong[is_targeted].sum())
    rate = _rate(loop, labeled, wrong, [draw for draw in draws if draw.batch_id in both])
    if rate is None:
        return None
    return Saved(
        num_labels=number,
        num_found=found,
        at_random=Estimate(
            value=number * rate.value,
            low=number * rate.low,
            high=number * rate.high,
            num_samples=rate.num_samples,
        ),
        saved=found / rate.value - number if rate.value > 0 else None,
        low=found / rate.high - number,
        high=found / rate.low - number if rate.low > 0 else None,
    )


def _batches_of(labeled: Sequence[LabeledChoice], share: Share) -> set[str]:
    return {choice.batch_id for choice in labeled if choice.share is share}


def _failures(loop: Loop, labeled: Sequence[LabeledChoice]) -> Array:
    """Return (N,) booleans, N >= 1: abstain.failure or the metric, else disagreement."""
    project = loop.project
    rows = [
        score_one(loop.task, choice.sample_id, choice.answer, choice.label)
        | {CONFIDENCE: choice.confidence, LATENCY: choice.latency_ms}
        for choice in labeled
    ]
    names = set.intersection(*map(set, rows))
    table = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in names}
    metric = compile_formula(project.metric.optimize, project.directory)
    wrong = failed(table, project.abstain, metric, higher_is_better=project.metric.higher_is_better)
    if wrong is not None:
        return wrong
    agree = loop.task.agree
    return np.array([not agree(choice.answer, choice.label) for choice in labeled], dtype=bool)


def _rate(
    loop: Loop, labeled: Sequence[LabeledChoice], wrong: Array, draws: Sequence[Drawn]
) -> Estimate | None:
    """Return the failure rate of random labels; a batch is weighted by its targeted labels."""
    targeted = Counter(choice.batch_id for choice in labeled if choice.share is Share.TARGETED)
    places = {draw.batch_id: index for index, draw in enumerate(draws)}
    random = [index for index, choice in enumerate(labeled) if choice.share is Share.PROBABILITY]
    chosen = [labeled[index] for index in random]
    returned = Returned(
        ids=tuple(choice.sample_id for choice in chosen),
        scores={_FAILED: wrong[random].astype(np.float64)},
        confidences=np.array([choice.confidence for choice in chosen]),
        probabilities=np.array([choice.inclusion_probability or np.nan for choice in chosen]),
        clusters=np.unique([choice.group for choice in chosen], return_inverse=True)[1],
        batches=np.array([places[choice.batch_id] for choice in chosen], dtype=np.int64),
        populations=tuple(
            Population(size=targeted[draw.batch_id], mean_confidence=None, night=draw.night)
            for draw in draws
        ),
    )
    rng = np.random.default_rng(loop.project.project.seed)
    found = production_estimate(compile_formula(_FAILED, loop.project.directory), returned, rng)
    return None if found is None else found.estimate


_DAY_SECONDS = 86_400.0
_FEWEST_FIXED = 5
"""fixed failures below which there is no estimate"""
_FIX_POINTS = 200
_TAIL = 0.025


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FixTimes:
    """The time until failures are fixed: until the model in production answers them correctly."""

    num_failures: int
    num_fixed: int
    days: Array
    """(N,) increasing, N <= 200"""
    shares: Array
    """(N,) share of the failures fixed by each day"""
    lows: Array
    highs: Array
    """(N,) each, bounds of the 0.95 interval of `shares`"""
    median: float | None
    """days until half of them are fixed; None: the estimate does not reach one half"""
    median_low: float | None
    median_high: float | None
    """bounds of its 0.95 interval; None: unbounded at that end"""

    def after(self, days: float) -> Estimate | None:
        """Return the share fixed within so many days; None beyond the longest wait."""
        if days > self.days[-1]:
            return None
        at = int(np.searchsorted(self.days, days, side="right")) - 1
        if at < 0:
            return Estimate(value=0.0, low=0.0, high=0.0, num_samples=self.num_failures)
        return Estimate(
            value=float(self.shares[at]),
            low=float(self.lows[at]),
            high=float(self.highs[at]),
            num_samples=self.num_failures,
        )


def fix_times(waits: Iterable[Wait], now: datetime) -> FixTimes | None:
    """Return the distribution of the time to a fix; None while fewer than 5 failures are fixed.

    Formula: the Kaplan-Meier estimate 1 - S(t); a failure that is not fixed is censored at `now`.
    Intervals are the exponential Greenwood ones on log(-log S); where S is 1 or 0 they are the
    Clopper-Pearson bounds for the number still at risk. The median is where S reaches 1/2, its
    interval where the interval of S contains 1/2.
    Source: Kaplan and Meier 1958; Brookmeyer and Crowley 1982 for the median.
    """
    known = list(waits)
    ends = [wait.until for wait in known]
    is_open = np.array([end is None for end in ends], dtype=bool)
    days = np.array(
        [
            max(((end or now) - wait.since).total_seconds(), 0.0) / _DAY_SECONDS
            for wait, end in zip(known, ends, strict=True)
        ]
    )
    if (~is_open).sum() < _FEWEST_FIXED:
        return None
    data = scipy.stats.CensoredData.right_censored(days, is_open)
    survival = scipy.stats.ecdf(data).sf
    with warnings.catch_warnings():  # SciPy warns where S is 0 or 1; handled below
        warnings.simplefilter("ignore")
        band = survival.confidence_interval(0.95, method="log-log")
    times, left = survival.quantiles, survival.probabilities
    at_risk = _at_risk(days, times)
    least = np.where(left < 1, band.low.probabilities, _TAIL ** (1 / at_risk))
    most = np.where(left > 0, band.high.probabilities, 1 - _TAIL ** (1 / at_risk))
    least, most = np.minimum(np.nan_to_num(least), left), np.maximum(np.nan_to_num(most), left)
    shown = np.unique(
        np.linspace(0, len(times) - 1, min(len(times), _FIX_POINTS)).round().astype(int)
    )
    return FixTimes(
        num_failures=len(known),
        num_fixed=int((~is_open).sum()),
        days=times[shown],
        shares=1 - left[shown],
        lows=1 - most[shown],
        highs=1 - least[shown],
        median=_reaches_half(times, left),
        median_low=_reaches_half(times, least),
        median_high=_reaches_half(times, most),
    )


def _at_risk(days: Array, times: Array) -> Array:
    """Count the failures that waited at least as long as each time."""
    counts: Array = len(days) - np.searchsorted(np.sort(days), times, side="left")
    return counts


def _reaches_half(times: Array, left: Array) -> float | None:
    """Return the first time at which at most half are left; None: there is none."""
    reached = np.flatnonzero(left <= 0.5)
    return float(times[reached[0]]) if len(reached) else None


_POINTS = 60
_RECENT = 10
_SLICED = 1_000
_TIMED = 50_000
_TIMED_NIGHTS = 90


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseFacts:
    """What served when, how fast failures were fixed, and drift since."""

    releases: tuple[Released, ...]
    """every one, oldest first"""
    handovers: Mapping[int, Handover]
    """by number of their release: how far it has come with a server of the user's own"""
    fix_times: FixTimes | None
    """from seen to fixed, of failures seen in the last 90 nights"""
    fix_times_since_sent: FixTimes | None
    """from sent to annotators to fixed, of the failures that were sent"""
    drift: tuple[tuple[int, Drift], ...]
    """of every night with enough data, oldest first"""
    written_at: datetime


def read_releases(loop: Loop, connection: Connection) -> ReleaseFacts:
    """Read them as of now."""
    nights = night_starts(connection)
    since = len(nights) - _TIMED_NIGHTS + 1
    return ReleaseFacts(
        releases=read_released(connection, nights),
        handovers=all_handovers(connection),
        fix_times=_fix_times(loop, connection, FailureState.SEEN, since),
        fix_times_since_sent=_fix_times(loop, connection, FailureState.QUEUED, since),
        drift=_drift(connection),
        written_at=loop.now(),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class OverviewFacts(ReleaseFacts):
    """All that the overview page shows."""

    last: Night | None
    """the newest night, finished or not"""
    num_nights: int
    report: Report | None
    """of the newest night with one"""
    past: tuple[Report, ...]
    """evenly thinned out, oldest first; rescored ones where they exist"""
    num_reports: int
    recent: tuple[tuple[Report, Decision | None], ...]
    """the last ten nights with a report, newest first"""
    failures: Mapping[FailureState, int]
    moves: Mapping[int, Mapping[FailureState, int]]
    """night -> state -> failures that reached it"""
    slices: Mapping[str, Mapping[FailureState, int]]
    """slice -> state -> newest failures"""
    num_sliced: int
    labeling: LabelingFacts
    saved: Saved | None


def read_overview(loop: Loop, labeling: LabelingFacts | None = None) -> OverviewFacts:
    """Read the facts of now; `labeling` if the caller has read it already."""
    labeling = labeling or read_labeling(loop)
    saved = labels_saved(loop)
    with loop.ledger.read() as connection:
        nights, last = night_starts(connection), last_night(connection)
        reported = reported_nights(connection, last.number) if last is not None else []
        recent = reports_of(connection, reported[-_RECENT:])
        decisions = decisions_of(connection, reported[-_RECENT:])
        report = recent[-1] if recent else None
        newest = newest_failures(connection, _SLICED)
        served = read_releases(loop, connection)
        return OverviewFacts(
            **{one.name: getattr(served, one.name) for one in fields(served)},
            last=last,
            num_nights=len(nights),
            report=report,
            past=comparable_reports(connection, report, thin_out(reported, _POINTS)),
            num_reports=len(reported),
            recent=tuple((report, decisions.get(report.night)) for report in reversed(recent)),
            failures=count_failures(connection),
            moves=moves_by_night(connection),
            slices=_by_slice(loop, connection, newest),
            num_sliced=len(newest),
            labeling=labeling,
            saved=saved,
        )


def _by_slice(
    loop: Loop, connection: Connection, newest: Mapping[str, FailureState]
) -> dict[str, Counter[FailureState]]:
    """Count the newest failures by slice and state; the largest slice first."""
    found = {name: Counter[FailureState]() for name in loop.task.slices}
    for key, names in slices_of(connection, loop.blobs, loop.task, list(newest)).items():
        for name in names:
            found[name][newest[key]] += 1
    ordered = sorted(found, key=lambda name: (-found[name].total(), name))
    return {name: found[name] for name in ordered}


def _fix_times(
    loop: Loop, connection: Connection, start: FailureState, since_night: int
) -> FixTimes | None:
    return fix_times(waits(connection, start, since_night, _TIMED).values(), loop.now())


def _drift(connection: Connection) -> tuple[tuple[int, Drift], ...]:
    """Return the drift of every night that measured one."""
    results = results_of(connection, "collect")
    found = {night: from_json(Collected, result).drift for night, result in results.items()}
    return tuple(
        (night, drift)
        for night, drift in found.items()
        if drift is not None and (drift.distance is not None or drift.is_alarm)
    )
