"""The gate: stored numbers in, a verdict and all reasons out; the same report gives the same bytes.

It sees no samples, models or scores, and the order of its rules is fixed: enough data, vetoes,
gain. Nothing that a baseline does can change a verdict once something serves.
"""

from __future__ import annotations

from datetime import datetime

from flywheel.decide.facts import above, measured, samples_for, told, usable
from flywheel.errors import SettingsError
from flywheel.project import Gate, Metric
from flywheel.records import Decision, Estimate, Report, Verdict, canonical, content_id

_Ruling = tuple[Verdict, list[str]]


def decide(report: Report, metric: Metric, gate: Gate, *, now: datetime) -> Decision:
    """The verdict on a report's candidate; the reason that decided comes first.

    A tie is a HOLD, too little data is NO-VERDICT, a missed requirement is told but does not
    keep an improvement back.

    Raises:
        SettingsError: the report measures another metric than the settings name.
    """
    if (report.metric, report.higher_is_better) != (metric.optimize, metric.higher_is_better):
        raise SettingsError(
            f"report {report.id[:12]} measures {report.metric!r} with higher_is_better = "
            f"{report.higher_is_better}, the settings say {metric.optimize!r} and "
            f"{metric.higher_is_better}; run the night again under the new metric"
        )
    vetoes = _vetoes(report, metric, gate)
    verdict, reasons = _rule(report, gate, vetoes)
    reasons += [veto for veto in vetoes if veto not in reasons]
    reasons += _asides(report, metric)
    content = [report.id, report.night, verdict.value, reasons]
    return Decision(
        id=content_id(canonical(content).encode()),
        night=report.night,
        report_id=report.id,
        verdict=verdict,
        reasons=tuple(reasons),
        created_at=now,
    )


def _rule(report: Report, gate: Gate, vetoes: list[str]) -> _Ruling:
    if report.candidate_digest is None:
        return Verdict.NO_VERDICT, ["nothing new was trained, so there is nothing to judge"]
    if report.champion_digest is None:
        return _rule_first(report, vetoes)
    difference = usable(report.difference)
    if difference is None or difference.num_samples < gate.min_test_samples:
        return Verdict.NO_VERDICT, [_too_few(difference, gate)]
    return _rule_gain(report, difference, gate, vetoes)


def _rule_gain(report: Report, difference: Estimate, gate: Gate, vetoes: list[str]) -> _Ruling:
    if difference.high < 0:
        return Verdict.REJECT, [f"the candidate is surely worse: its gain is {told(difference)}"]
    if vetoes:
        return Verdict.REJECT, []
    if difference.low > gate.min_gain:
        gain = f"the candidate is better by {told(difference)}"
        none = f"one with no gain above {gate.min_gain:g}"
        chance = f"{none} would pass with a chance of {report.alpha:.2g}"
        return Verdict.PROMOTE, [f"{gain}; {chance}"]
    return Verdict.HOLD, [_not_shown(report, difference, gate)]


def _rule_first(report: Report, vetoes: list[str]) -> _Ruling:
    """Nothing serves yet: any model that beats a rule of thumb, and is fast enough, is a gain."""
    candidate = measured(report.start_entries, "candidate")
    scripted = measured(report.start_entries, "scripted", is_kind=True)
    if vetoes:
        return Verdict.REJECT, []
    if candidate is None or scripted is None:
        return Verdict.PROMOTE, ["the first model: nothing serves yet"]
    gain = above(candidate.value, scripted.value, higher_is_better=report.higher_is_better)
    comparison = (
        f"{report.metric} on the held-out start data is {told(candidate)}, "
        f"the scripted baseline's is {told(scripted)}"
    )
    if gain < 0:
        return Verdict.REJECT, [f"the first model is worse than a scripted baseline: {comparison}"]
    return Verdict.PROMOTE, [f"the first model: nothing serves yet; {comparison}"]


def _too_few(difference: Estimate | None, gate: Gate) -> str:
    if difference is None:
        return (
            "no difference between candidate and champion could be measured on the test set; "
            f"{gate.min_test_samples} labeled samples of the probability share are needed"
        )
    missing = gate.min_test_samples - difference.num_samples
    return (
        f"{difference.num_samples} test samples are too few, {gate.min_test_samples} are needed; "
        f"{missing} more labeled samples of the probability share settle it"
    )


def _vetoes(report: Report, metric: Metric, gate: Gate) -> list[str]:
    """What keeps any candidate back, however much better it is on the whole."""
    if report.candidate_digest is None:
        return []
    vetoes = []
    latency, limit = report.latency_p95_ms, metric.max_latency_ms
    # Written so that a NaN does not pass for fast.
    if limit is not None and latency is not None and not latency <= limit:
        vetoes.append(
            f"too slow: the 95th percentile of one answer is {latency:.1f} ms, allowed are {limit:g}"
        )
    parts = [("the held-out start data", report.start_difference)]
    parts += [(f"slice {part.name!r}", part.difference) for part in report.slices]
    for name, difference in parts:
        known = usable(difference)
        if known is not None and known.high < -gate.slice_margin:
            vetoes.append(
                f"surely worse by more than {gate.slice_margin:g} on {name}: "
                f"its gain is {told(known)}"
            )
    return vetoes


def _not_shown(report: Report, difference: Estimate, gate: Gate) -> str:
    """Why the candidate is held, and what would settle it."""
    text = f"no gain above {gate.min_gain:g} is shown yet: it is {told(difference)}"
    gain = difference.value if difference.value > gate.min_gain else difference.high
    needed = samples_for(gain, difference, gate.min_gain, report.alpha)
    if needed is None:
        return f"{text}; even its upper bound is not above {gate.min_gain:g}, train a better one"
    return f"{text}; about {needed} test samples would settle a gain of {gain:.2g}"


def _asides(report: Report, metric: Metric) -> list[str]:
    """What is worth saying and decides nothing."""
    if metric.requirement is None:
        return []
    name = "champion" if report.candidate_digest is None else "candidate"
    estimate = measured(report.entries, name)
    if estimate is None:
        return [f"requirement {metric.requirement:g}: the {name} could not be measured against it"]
    missing = -above(estimate.value, metric.requirement, higher_is_better=metric.higher_is_better)
    verb = "misses" if missing > 0 else "meets"
    number = f"{report.metric} is {told(estimate)}"
    return [f"the {name} {verb} the requirement {metric.requirement:g}: {number}"]
