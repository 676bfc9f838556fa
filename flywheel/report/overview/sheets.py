"""The tables and sentences of the overview page.

Every number has its interval; where there is not enough data, the sheet says what will appear and
when. Nothing is measured here.
"""

from __future__ import annotations

from datetime import datetime

from flywheel.collect import LEAST_EFFECT
from flywheel.decide import goes_back_to
from flywheel.loop import Loop
from flywheel.records import Decision, FailureState, Report
from flywheel.report.history import Released
from flywheel.report.kit import text
from flywheel.report.kit.measured import drift_line
from flywheel.report.kit.tables import Sheet, facts_sheet
from flywheel.report.night.steps import advice
from flywheel.report.overview.facts import (
    NIGHTS,
    FixTimes,
    OverviewFacts,
    ReleaseFacts,
    Saved,
)

_RELEASES = 20
_WITHIN = (1, 7, 30)
_DRIFTS = 5


def states_sheet(facts: OverviewFacts) -> Sheet:
    """Return the suspects by state of their life cycle."""
    newest = facts.moves.get(facts.last.number, {}) if facts.last is not None else {}
    rows = [
        (state.value, f"{newest.get(state, 0):,}", f"{number:,}")
        for state, number in facts.failures.items()
    ]
    is_any = any(facts.failures.values())
    return Sheet(
        key="states",
        title="By life-cycle state",
        headings=("state", "reached it in the newest night", "in it now"),
        values=(1, 2),
        rows=tuple(rows) if is_any else (),
        note=""
        if is_any
        else "No suspect has been found yet. This table will show how many are seen, queued, "
        "labeled, trained on, fixed and guarded.",
        caption="Cumulative number of suspects that reached each state; one that returns to a state "
        "counts again. Fixed are those that a label calls wrong and the model in production answers rightly.",
    )


def slices_sheet(facts: OverviewFacts) -> Sheet:
    """Return the newest suspects by slice and state."""
    rows = tuple(
        (name, *(f"{counts.get(state, 0):,}" for state in FailureState))
        for name, counts in facts.slices.items()
    )
    if not rows:
        note = "The task defines no slices. Add Task(slices=...) to see where suspects concentrate."
    elif not facts.num_sliced:
        note = "No suspect has been found yet. This table will show where they concentrate."
        rows = ()
    else:
        note = f"The newest {facts.num_sliced:,} suspects; a sample may be in several slices."
    return Sheet(
        key="slices",
        title="By slice",
        headings=("slice", *(state.value for state in FailureState)),
        values=tuple(range(1, len(FailureState) + 1)),
        rows=rows,
        note=note,
        caption="The slices with most of the newest suspects.",
    )


def saved_sheet(saved: Saved | None) -> Sheet:
    """Return the labels saved against random sampling, and what that means."""
    title = "Labels saved against random sampling"
    if saved is None:
        none = (
            f"{text.NOT_ENOUGH.capitalize()}. The labels saved by targeting suspected failures appear "
            "once 10 targeted labels and 5 random ones of the same batches are back."
        )
        return facts_sheet("saved", title, [], none)
    rows = [
        ("targeted labels", f"{saved.num_labels:,}"),
        ("failures found", f"{saved.num_found:,}"),
        (
            "failures the same number of random labels would find",
            _counts(saved.at_random.value, saved.at_random.low, saved.at_random.high),
        ),
        ("labels saved", saved_line(saved)),
    ]
    return facts_sheet("saved", title, rows, _meaning(saved))


def saved_line(saved: Saved) -> str:
    """Return the labels saved with their interval."""
    if saved.saved is None or saved.high is None:
        return f"at least {saved.low:,.0f}"
    return _counts(saved.saved, saved.low, saved.high)


def within(line: str) -> str:
    """Return only the interval of a number with its interval."""
    return line[line.index("[") :] if "[" in line else line


def fix_times_sheet(facts: ReleaseFacts) -> Sheet:
    """Return the time from a failure seen to a fix in production."""
    known = [
        (name, times)
        for name, times in (
            ("seen", facts.fix_times),
            ("sent to annotators", facts.fix_times_since_sent),
        )
        if times is not None
    ]
    none = (
        f"{text.NOT_ENOUGH.capitalize()}. The days until the model in production answers a failure "
        "correctly appear once 5 failures have been fixed."
    )
    meaning = (
        "Kaplan-Meier estimate over the suspects of the last 90 nights: one that is not fixed yet "
        "is censored, so that slow fixes are not left out. A suspect that had been right is never fixed."
    )
    return Sheet(
        key="fix-times",
        title="From suspected to fixed in production",
        headings=("from", "suspects", "fixed", "median [interval]", *_within()),
        values=tuple(range(1, 4 + len(_WITHIN))),
        rows=tuple(_fix_times_row(name, times) for name, times in known),
        note=meaning if known else none,
        caption="Share of suspects fixed in production, by days, with its 0.95 interval. Dashed: half "
        "of them.",
    )


def median_line(times: FixTimes) -> str:
    """Return the median in days with its interval; in words where it is not reached."""
    if times.median is None:
        return "not reached"
    low = "0" if times.median_low is None else f"{times.median_low:.1f}"
    high = "open" if times.median_high is None else f"{times.median_high:.1f}"
    return f"{times.median:.1f} [{low}, {high}] days"


def releases_sheet(facts: ReleaseFacts) -> Sheet:
    """Return which model served when, and why; the newest first."""
    newest = list(reversed(facts.releases))[:_RELEASES]
    ends = [facts.written_at, *(released.release.created_at for released in newest)]
    rows = tuple(_release_row(released, end) for released, end in zip(newest, ends, strict=False))
    number, backs = len(facts.releases), sum(released.is_roll_back for released in facts.releases)
    more = f"The newest {len(rows)}. " if number > len(rows) else ""
    note = f"{more}Releases so far: {number:,}; of these, roll-backs: {backs:,}."
    return Sheet(
        key="releases",
        title="Releases and roll-backs",
        headings=("release", "night", "model", "since", "served for", "kind", "reason"),
        values=(1,),
        rows=rows,
        note=note
        if rows
        else "Nothing is released yet. This table will show which model served when, and why.",
    )


def drift_sheet(facts: ReleaseFacts) -> Sheet:
    """Return how far production has drifted from when the model was new."""
    said = drift_line(facts.drift[-1][1] if facts.drift else None)
    alarms = [night for night, drift in facts.drift if drift.is_alarm]
    rows = tuple(
        (
            str(night),
            text.number(drift.distance),
            text.number(drift.low),
            drift.feature or "",
            f"{drift.num_new:,} / {drift.num_reference:,}",
            "alarm" if drift.is_alarm else "",
        )
        for night, drift in reversed(facts.drift[-_DRIFTS:])
    )
    meaning = (
        "The distance is the largest share of production that has moved, in confidence, in "
        "answers or along a direction of the embeddings. The alarm needs a lower bound above "
        f"{LEAST_EFFECT:g}, or answers that fail more often than when the model was new. Drift requests "
        "labels where it is; it never rolls back a model by itself."
    )
    return Sheet(
        key="drift",
        title="Drift",
        headings=("night", "distance", "lower bound", "moved most", "new / reference", "alarm"),
        values=(1, 2, 4),
        rows=rows,
        note=f"{said[0].upper()}{said[1:]}. {_outcomes(facts)}{_alarms(alarms)}{meaning}",
        caption="Distance between each night's predictions and those when its model was new, down to "
        "its lower bound. Red dashed: the smallest drift that matters.",
    )


def _outcomes(facts: ReleaseFacts) -> str:
    """Say how often answers fail, by outcomes of the newest night."""
    watches = facts.drift[-1][1].watches if facts.drift else ()
    known = [one for one in watches if one.stakes and not one.name]
    if not known:
        return ""
    one = known[0]
    return (
        f"By their outcomes {one.num_new_failed:,} of {one.num_new:,} answers failed, against "
        f"{one.num_reference_failed:,} of {one.num_reference:,} when the model was new. "
    )


def nights_rows(
    facts: OverviewFacts, loop: Loop
) -> list[tuple[Report, Decision | None, str, str, str]]:
    """Return report, decision, candidate, difference and what to go back to of the last nights."""
    rows = []
    for report, decision in facts.recent:
        known = [entry.metric for entry in report.entries if entry.name == "candidate"]
        candidate = "none"
        if report.candidate_digest is not None:
            candidate = text.estimate(known[0] if known else None)
        back = goes_back_to(advice(loop, report))
        rows.append((report, decision, candidate, text.estimate(report.difference), back))
    return rows


def _meaning(saved: Saved) -> str:
    random = saved.at_random
    found = f"{saved.num_labels:,} targeted labels found {saved.num_found:,} failures"
    basis = (
        f"Over the last {NIGHTS} nights; a failure is an answer that its label contradicts. The "
        f"failure rate of random labels is that of {random.num_samples:,} labels of the "
        "probability share."
    )
    if saved.low <= 0:
        return f"{found}; this is not significantly more than random labels would find. {basis}"
    return (
        f"{found}; random sampling would need about {saved_line(saved)} more labels to find as many. "
        f"{basis}"
    )


def _alarms(nights: list[int]) -> str:
    return f"{len(nights):,} alarms so far, the last in night {nights[-1]}. " if nights else ""


def _counts(value: float, low: float, high: float) -> str:
    return f"{value:,.0f} [{low:,.0f}, {high:,.0f}]"


def _within() -> list[str]:
    return [f"within {days} day{'s' if days > 1 else ''}" for days in _WITHIN]


def _fix_times_row(name: str, times: FixTimes) -> tuple[str, ...]:
    shares = [times.after(days) for days in _WITHIN]
    return (
        name,
        f"{times.num_failures:,}",
        f"{times.num_fixed:,}",
        median_line(times),
        *(
            "not known yet"
            if share is None
            else f"{100 * share.value:.0f} [{100 * share.low:.0f}, {100 * share.high:.0f}] %"
            for share in shares
        ),
    )


def _release_row(released: Released, end: datetime) -> tuple[str, ...]:
    release = released.release
    seconds = (end - release.created_at).total_seconds()
    reason = release.reason
    if reason.startswith("decision "):
        reason = f"promoted, decision {text.digest(reason.removeprefix('decision '))}"
    return (
        str(release.number),
        "-" if released.night is None else str(released.night),
        text.digest(release.checkpoint_digest),
        f"{release.created_at:%Y-%m-%d %H:%M}",
        f"{seconds / 86_400:.1f} days" if seconds >= 86_400 else text.duration(seconds),
        "roll-back" if released.is_roll_back else "release",
        reason,
    )
