"""Everything that the page about all nights shows, read from the ledger.

Bounded however many nights there were: 60 reports, the newest 1,000 failures by slice, the times
of the newest 50,000; of a night only a row or two are read. How it looks is not known here.

How long a fix takes: from a failure that was seen to a model that serves and gets it right.

Most failures of last week are not fixed yet; leaving them out would make fixing look quick.
They count as waiting so long and no longer, in Kaplan's and Meier's estimate.

"""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from scipy import stats
from sqlalchemy import Connection

from flywheel.annotate.evidence import slices_of
from flywheel.collect import Collected, Drift
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
from flywheel.ledger.nights import last_night
from flywheel.ledger.releases import release_history
from flywheel.loop import Loop
from flywheel.records import Array, Decision, Estimate, FailureState, Night, Release, Report
from flywheel.report.facts import comparable_reports, thin_out
from flywheel.report.labeling.facts import LabelingFacts, read_labeling
from flywheel.report.overview.saved import Saved, labels_saved

_DAY_SECONDS = 86_400.0
_FEWEST = 5
"""failures that were fixed"""
_FIX_POINTS = 200
_TAIL = 0.025


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FixTimes:
    """How long failures wait until a model that serves answers them right."""

    num_failures: int
    num_fixed: int
    days: Array
    """(N,) rising, 200 at most"""
    shares: Array
    """(N,) of the failures that are fixed by then"""
    lows: Array
    highs: Array
    """(N,) each, of their 0.95 interval"""
    median: float | None
    """days until half of them are fixed; None: fewer than half will be, as far as is known"""
    median_low: float | None
    median_high: float | None
    """of its interval; None: open at that end"""

    def after(self, days: float) -> Estimate | None:
        """The share that is fixed within so many days; None beyond the longest wait."""
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
    """The time from since to until; None while fewer than 5 failures are fixed.

    Formula: Kaplan and Meier's 1 - S(t), a failure that is not fixed is censored now; intervals
    are the exponential Greenwood ones on log(-log S); where S is 1 or 0 they are what the number
    still waiting allows at most (Clopper and Pearson). The median is where S reaches 1/2, its
    interval where the interval of S holds 1/2.
    Source: Kaplan and Meier 1958; Brookmeyer and Crowley 1982 for the median.
    """
    known = list(waits)
    ends = [one.until for one in known]
    is_open = np.array([end is None for end in ends], dtype=bool)
    days = np.array(
        [
            max(((end or now) - one.since).total_seconds(), 0.0) / _DAY_SECONDS
            for one, end in zip(known, ends, strict=True)
        ]
    )
    if (~is_open).sum() < _FEWEST:
        return None
    data = stats.CensoredData.right_censored(days, is_open)
    survival = stats.ecdf(data).sf
    with warnings.catch_warnings():  # no interval where no or every failure is fixed
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
    """How many had waited for at least as long as each time."""
    counts: Array = len(days) - np.searchsorted(np.sort(days), times, side="left")
    return counts


def _reaches_half(times: Array, left: Array) -> float | None:
    """The first time at which no more than half are left."""
    reached = np.flatnonzero(left <= 0.5)
    return float(times[reached[0]]) if len(reached) else None


_POINTS = 60
_RECENT = 10
_SLICED = 1_000
_TIMED = 50_000
_TIMED_NIGHTS = 90


@dataclass(frozen=True, kw_only=True, slots=True)
class Released:
    """A release with the night that it belongs to."""

    release: Release
    night: int | None
    """during which or after which it came; None before the first night"""
    is_roll_back: bool
    """the model had served before"""


@dataclass(frozen=True, kw_only=True, slots=True)
class OverviewFacts:
    """How the flywheel turned so far."""

    last: Night | None
    """the newest night, finished or not"""
    num_nights: int
    report: Report | None
    """of the newest night that has one"""
    past: tuple[Report, ...]
    """thinned out evenly, oldest first; measured anew where they were"""
    num_reports: int
    recent: tuple[tuple[Report, Decision | None], ...]
    """the last ten nights with a report, newest first"""
    releases: tuple[Released, ...]
    """every one, oldest first"""
    failures: Mapping[FailureState, int]
    moves: Mapping[int, Mapping[FailureState, int]]
    """night -> failures that came to each state in it"""
    slices: Mapping[str, Mapping[FailureState, int]]
    """of the newest failures"""
    num_sliced: int
    labeling: LabelingFacts
    saved: Saved | None
    fix_times: FixTimes | None
    """from seen to fix serving, of failures that were seen in the last 90 nights"""
    fix_times_since_sent: FixTimes | None
    """the same from when people were asked, of those that they were asked about"""
    drift: tuple[tuple[int, Drift], ...]
    """of every night that had data enough, oldest first"""
    written_at: datetime


def read_overview(loop: Loop, labeling: LabelingFacts | None = None) -> OverviewFacts:
    """How the flywheel turned so far; `labeling` is how labeling stands, when that is read already."""
    labeling = labeling or read_labeling(loop)
    saved = labels_saved(loop)
    with loop.ledger.read() as connection:
        nights, last = night_starts(connection), last_night(connection)
        reported = reported_nights(connection, last.number) if last is not None else []
        recent = reports_of(connection, reported[-_RECENT:])
        decisions = decisions_of(connection, reported[-_RECENT:])
        report = recent[-1] if recent else None
        newest = newest_failures(connection, _SLICED)
        since = max(len(nights) - _TIMED_NIGHTS, 0)
        return OverviewFacts(
            last=last,
            num_nights=len(nights),
            report=report,
            past=comparable_reports(connection, report, thin_out(reported, _POINTS)),
            num_reports=len(reported),
            recent=tuple((one, decisions.get(one.night)) for one in reversed(recent)),
            releases=_releases(connection, nights),
            failures=count_failures(connection),
            moves=moves_by_night(connection),
            slices=_by_slice(loop, connection, newest),
            num_sliced=len(newest),
            labeling=labeling,
            saved=saved,
            fix_times=_fix_times(loop, connection, FailureState.SEEN, since),
            fix_times_since_sent=_fix_times(loop, connection, FailureState.QUEUED, since),
            drift=_drift(connection),
            written_at=loop.now(),
        )


def _releases(connection: Connection, nights: list[tuple[int, datetime]]) -> tuple[Released, ...]:
    found, known = [], set[str]()
    starts = [start for _, start in nights]
    for one in release_history(connection):
        place = bisect_right(starts, one.created_at) - 1
        found.append(
            Released(
                release=one,
                night=nights[place][0] if place >= 0 else None,
                is_roll_back=one.checkpoint_digest in known,
            )
        )
        known.add(one.checkpoint_digest)
    return tuple(found)


def _by_slice(
    loop: Loop, connection: Connection, newest: Mapping[str, FailureState]
) -> dict[str, Counter[FailureState]]:
    """Slice -> how many of the newest failures are in each state; the largest slice first."""
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
    """Every night's, as far as it was measured."""
    results = results_of(connection, "collect")
    found = {night: from_json(Collected, result).drift for night, result in results.items()}
    return tuple(
        (night, one) for night, one in found.items() if one is not None and one.distance is not None
    )
