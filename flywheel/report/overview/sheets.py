"""How the flywheel turned, as sheets and sentences.

Every number stands with its interval, or it is said that there is too little of it and what will
be here. Nothing is measured here.
"""

from __future__ import annotations

from datetime import datetime

from flywheel.collect import LEAST_EFFECT
from flywheel.records import Decision, FailureState, Report
from flywheel.report.kit import text
from flywheel.report.kit.tables import Sheet, facts_sheet
from flywheel.report.night.steps import drift_line
from flywheel.report.overview.facts import FixTimes, OverviewFacts, Released
from flywheel.report.overview.saved import NIGHTS, Saved

_RELEASES = 20
_WITHIN = (1, 7, 30)
_DRIFTS = 5


def states_sheet(facts: OverviewFacts) -> Sheet:
    """Where the failures are now."""
    newest = facts.moves.get(facts.last.number, {}) if facts.last is not None else {}
    rows = [
        (state.value, f"{newest.get(state, 0):,}", f"{number:,}")
        for state, number in facts.failures.items()
    ]
    none = "" if any(facts.failures.values()) else "No failure has been found yet; here will be "
    return Sheet(
        key="states",
        title="By state of their life",
        headings=("state", "came here in the newest night", "are here now"),
        values=(1, 2),
        rows=tuple(rows) if not none else (),
        note=f"{none}how many are seen, queued, labeled, trained on, fixed and guarded."
        if none
        else "",
        caption="Failures that have come to each state, added up over the nights; one that came "
        "back to a state counts again. The gap between seen and fixed is what is left to do.",
    )


def slices_sheet(facts: OverviewFacts) -> Sheet:
    """On which slices they are."""
    rows = tuple(
        (name, *(f"{counts.get(state, 0):,}" for state in FailureState))
        for name, counts in facts.slices.items()
    )
    if not rows:
        note = "The task names no slices; Task(slices=...) shows here where failures gather."
    elif not facts.num_sliced:
        note = "No failure has been found yet; here will be where they gather."
        rows = ()
    else:
        note = f"Of the newest {facts.num_sliced:,} failures; a sample may be in several slices."
    return Sheet(
        key="slices",
        title="By slice",
        headings=("slice", *(state.value for state in FailureState)),
        values=tuple(range(1, len(FailureState) + 1)),
        rows=rows,
        note=note,
        caption="The slices with most of the newest failures.",
    )


def saved_sheet(saved: Saved | None) -> Sheet:
    """Labels saved against labels at random, and what that means."""
    title = "Labels saved against choosing at random"
    if saved is None:
        none = (
            f"{text.NOT_ENOUGH.capitalize()}: here will be how many labels it saves to look where "
            "failures are suspected, once 10 targeted labels and 5 random ones of the same batches "
            "are back."
        )
        return facts_sheet("saved", title, [], none)
    rows = [
        ("targeted labels", f"{saved.num_labels:,}"),
        ("failures that they found", f"{saved.num_found:,}"),
        (
            "as many random labels would have found",
            _counts(saved.at_random.value, saved.at_random.low, saved.at_random.high),
        ),
        ("labels saved", saved_line(saved)),
    ]
    return facts_sheet("saved", title, rows, _meaning(saved))


def saved_line(saved: Saved) -> str:
    """Labels saved with their interval, in numbers."""
    if saved.saved is None or saved.high is None:
        return f"at least {saved.low:,.0f}"
    return _counts(saved.saved, saved.low, saved.high)


def within(line: str) -> str:
    """Of a number with its interval only the interval, for below the number."""
    return line[line.index("[") :] if "[" in line else line


def fix_times_sheet(facts: OverviewFacts) -> Sheet:
    """How long it takes from a failure that is seen to a fix that serves."""
    known = [
        (name, one)
        for name, one in (("seen", facts.fix_times), ("sent to people", facts.fix_times_since_sent))
        if one is not None
    ]
    none = (
        f"{text.NOT_ENOUGH.capitalize()}: here will be how many days pass until a failure is "
        "answered right by the model that serves, once 5 failures have been fixed."
    )
    meaning = (
        "Of the failures of the last 90 nights. One that is not fixed yet counts as waiting so "
        "long and no longer (Kaplan and Meier), so that the slow ones are not left out."
    )
    return Sheet(
        key="fix-times",
        title="From failure seen to fix serving",
        headings=("from", "failures", "fixed", "median [interval]", *_within()),
        values=tuple(range(1, 4 + len(_WITHIN))),
        rows=tuple(_fix_times_row(name, one) for name, one in known),
        note=meaning if known else none,
        caption="Share of the failures that a serving model answers right, by days, with its "
        "0.95 interval. Dashed: half of them.",
    )


def median_line(one: FixTimes) -> str:
    """The median in days with its interval; what is beyond all waits is said in words."""
    if one.median is None:
        return "not reached"
    low = "0" if one.median_low is None else f"{one.median_low:.1f}"
    high = "open" if one.median_high is None else f"{one.median_high:.1f}"
    return f"{one.median:.1f} [{low}, {high}] days"


def releases_sheet(facts: OverviewFacts) -> Sheet:
    """Who served when, and why; the newest first."""
    newest = list(reversed(facts.releases))[:_RELEASES]
    ends = [facts.written_at, *(one.release.created_at for one in newest)]
    rows = tuple(_release_row(one, end) for one, end in zip(newest, ends, strict=False))
    number, backs = len(facts.releases), sum(one.is_roll_back for one in facts.releases)
    more = f"The newest {len(rows)}. " if number > len(rows) else ""
    note = f"{more}Releases so far: {number:,}; back to an earlier model: {backs:,}."
    return Sheet(
        key="releases",
        title="Releases and roll-backs",
        headings=("release", "night", "model", "since", "served for", "what", "because"),
        values=(1,),
        rows=rows,
        note=note if rows else "Nothing is released yet; here will be what served when, and why.",
    )


def drift_sheet(facts: OverviewFacts) -> Sheet:
    """Whether production looks otherwise than when the model was new."""
    said = drift_line(facts.drift[-1][1] if facts.drift else None)
    alarms = [night for night, one in facts.drift if one.is_alarm]
    rows = tuple(
        (
            str(night),
            text.number(one.distance),
            text.number(one.low),
            one.feature or "",
            f"{one.num_new:,} / {one.num_reference:,}",
            "alarm" if one.is_alarm else "",
        )
        for night, one in reversed(facts.drift[-_DRIFTS:])
    )
    meaning = (
        "The distance is the largest share of production that lies elsewhere, by confidence or "
        f"along the main directions of the embeddings. An alarm takes a lower bound above "
        f"{LEAST_EFFECT:g}. Drift may ask for labels; alone it never rolls anything back."
    )
    return Sheet(
        key="drift",
        title="Drift",
        headings=("night", "distance", "at least", "what moved most", "new / reference", ""),
        values=(1, 2, 4),
        rows=rows,
        note=f"{said[0].upper()}{said[1:]}. {_alarms(alarms)}{meaning}",
        caption="Distance of each night's predictions from those when its model was new, down to "
        "its lower bound. Red dashed: what matters.",
    )


def nights_rows(facts: OverviewFacts) -> list[tuple[Report, Decision | None, str, str]]:
    """The last nights: report, decision, candidate and difference in words."""
    rows = []
    for report, decision in facts.recent:
        known = [one.metric for one in report.entries if one.name == "candidate"]
        candidate = "none"
        if report.candidate_digest is not None:
            candidate = text.estimate(known[0] if known else None)
        rows.append((report, decision, candidate, text.estimate(report.difference)))
    return rows


def _meaning(saved: Saved) -> str:
    random = saved.at_random
    found = f"{saved.num_labels:,} labels of suspects found {saved.num_found:,} failures"
    basis = (
        f"Over the last {NIGHTS} nights; a failure is a label that says the model was wrong. The "
        f"failure rate of random labels is that of {random.num_samples:,} labels of the "
        "probability share."
    )
    if saved.low <= 0:
        return f"{found}; that this saves labels is not shown yet. {basis}"
    return (
        f"{found}; to find as many, about {saved_line(saved)} more labels would be needed if "
        f"samples were chosen at random. {basis}"
    )


def _alarms(nights: list[int]) -> str:
    return f"{len(nights):,} alarms so far, the last in night {nights[-1]}. " if nights else ""


def _counts(value: float, low: float, high: float) -> str:
    return f"{value:,.0f} [{low:,.0f}, {high:,.0f}]"


def _within() -> list[str]:
    return [f"within {days} day{'s' if days > 1 else ''}" for days in _WITHIN]


def _fix_times_row(name: str, one: FixTimes) -> tuple[str, ...]:
    shares = [one.after(days) for days in _WITHIN]
    return (
        name,
        f"{one.num_failures:,}",
        f"{one.num_fixed:,}",
        median_line(one),
        *(
            "not known yet"
            if share is None
            else f"{100 * share.value:.0f} [{100 * share.low:.0f}, {100 * share.high:.0f}] %"
            for share in shares
        ),
    )


def _release_row(one: Released, end: datetime) -> tuple[str, ...]:
    release = one.release
    days = (end - release.created_at).total_seconds() / 86_400
    reason = release.reason
    if reason.startswith("decision "):
        reason = f"decision {text.digest(reason.removeprefix('decision '))}"
    return (
        str(release.number),
        "-" if one.night is None else str(one.night),
        text.digest(release.checkpoint_digest),
        f"{release.created_at:%Y-%m-%d %H:%M}",
        f"{days:.1f} days",
        "roll-back" if one.is_roll_back else "release",
        reason,
    )
