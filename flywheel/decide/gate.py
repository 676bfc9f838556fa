"""The gate: a report in, a verdict with all its reasons out; the same report gives the same bytes.

A candidate has to pass two tests. Vetoes on the frozen test set, which is looked at every night,
can only reject it. The anytime-valid test, on labels that no earlier decision has used, is the only
way to be promoted. Once a model serves, no baseline can change a verdict.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from flywheel.decide.challenge import gives_up, taken_over
from flywheel.decide.plan import Forecast, forecast
from flywheel.decide.vetoes import (
    above,
    format_estimate,
    measured,
    on_trust,
    unmeasured,
    usable,
    vetoes,
)
from flywheel.errors import SettingsError
from flywheel.metrics.eprocess import e_value
from flywheel.records import (
    Challenge,
    Decision,
    FreshOutcomes,
    Report,
    Verdict,
    canonical,
    content_id,
)
from flywheel.settings.judging import Gate, Metric

_NO_OUTCOMES = (
    "no fresh label could be compared; more labeled samples of the probability share are needed"
)

_FARTHEST = 2_000
"""labels that a forecast looks ahead at most"""


class _Ruling(NamedTuple):
    verdict: Verdict
    reasons: list[str]
    closes: bool
    """the challenge, if one is open"""


def decide(report: Report, metric: Metric, gate: Gate, *, now: datetime) -> Decision:
    """The verdict on a report's candidate; the reason that decided comes first.

    A tie is a HOLD and too little data is NO-VERDICT. A missed metric.requirement is reported, but
    does not block an improvement.

    Raises:
        SettingsError: the report measures another metric than the settings name.
    """
    if report.metric_settings != metric.model_dump(mode="json"):
        raise SettingsError(
            f"report {report.id[:12]} measures {report.metric!r} as {report.metric_settings}, the "
            f"settings say {metric.model_dump(mode='json')}. Restore [metric], end the "
            "night with flywheel night, and change it then"
        )
    evidence = _evidence(report, gate)
    ruling = _rule(report, gate, evidence)
    broken = vetoes(report, gate)
    reasons = [*ruling.reasons, *(veto for veto in broken if veto not in ruling.reasons)]
    reasons += _remarks(report, metric)
    # The time stays out of the id: the same report always gives the same decision.
    needed = 1 / report.challenge.alpha if report.challenge else None
    content = [report.id, report.night, ruling.verdict.value, reasons, evidence, needed]
    return Decision(
        id=content_id(canonical([*content, gate.model_dump(mode="json")]).encode()),
        night=report.night,
        report_id=report.id,
        verdict=ruling.verdict,
        reasons=tuple(reasons),
        e_value=evidence,
        needed_e_value=needed,
        closes_challenge=ruling.closes and report.challenge is not None,
        gate_settings=gate.model_dump(mode="json"),
        created_at=now,
    )


def _evidence(report: Report, gate: Gate) -> float | None:
    if report.challenge is None or report.fresh is None or not report.fresh.gains:
        return None
    return float(f"{e_value(report.fresh, gate.min_gain):.10g}")


def _rule(report: Report, gate: Gate, evidence: float | None) -> _Ruling:
    if report.candidate_digest is None:
        nothing = "nothing new was trained, so there is nothing to judge"
        return _Ruling(Verdict.NO_VERDICT, [nothing], closes=False)
    if report.champion_digest is None:
        return _rule_first(report, gate)
    broken = [*_significantly_worse(report), *vetoes(report, gate)]
    if broken:
        return _Ruling(Verdict.REJECT, broken, closes=True)
    if report.challenge is None or report.fresh is None or evidence is None:
        return _Ruling(Verdict.NO_VERDICT, [report.no_challenge or _NO_OUTCOMES], closes=False)
    unknown = unmeasured(report)
    if unknown:
        return _Ruling(Verdict.NO_VERDICT, unknown, closes=False)
    ruling = _rule_challenge(report.challenge, report.fresh, evidence, gate)
    return _held(ruling, report, gate)


def _held(ruling: _Ruling, report: Report, gate: Gate) -> _Ruling:
    """A promotion, held back for reasons that may pass; or a HOLD with why it is no promotion yet."""
    if ruling.verdict is Verdict.PROMOTE:
        why = on_trust(report, gate)
        reasons = [*why, *ruling.reasons]
        return _Ruling(Verdict.HOLD, reasons, closes=False) if why else ruling
    return ruling._replace(reasons=[*ruling.reasons, *_not_yet(report)])


def _significantly_worse(report: Report) -> list[str]:
    known = usable(report.difference)
    if known is None or known.high >= 0:
        return []
    return [f"the candidate is significantly worse: its gain is {format_estimate(known)}"]


def _rule_challenge(
    challenge: Challenge, fresh: FreshOutcomes, evidence: float, gate: Gate
) -> _Ruling:
    needed, before = 1 / challenge.alpha, taken_over(challenge)
    taken = f"; it judges by the labels of {before} too" if before else ""
    shown = (
        f"e-value {evidence:.3g} of {needed:.3g} needed, on {len(fresh.gains)} fresh labels "
        f"(challenge {challenge.number} of {gate.challenges} of this test set{taken})"
    )
    if evidence >= needed:
        gain = f"a gain above {gate.min_gain:g} in production is shown: {shown}"
        chance = (
            f"one without it would ever get here with a chance of {challenge.alpha:.2g}, if the "
            "labels are right"
        )
        return _Ruling(Verdict.PROMOTE, [f"{gain}; {chance}"], closes=True)
    used = len(fresh.gains)
    left = min(gate.challenge_samples - used, _FARTHEST)
    ahead = forecast(fresh, gate.min_gain, challenge.alpha, left)
    why = gives_up(used, ahead, evidence, gate)
    not_shown = f"no gain above {gate.min_gain:g} is shown yet: {shown}"
    if why:
        closed = f"{not_shown}; the challenge is given up: {why}"
        return _Ruling(Verdict.HOLD, [closed], closes=True)
    return _Ruling(Verdict.HOLD, [f"{not_shown}; {_outlook(ahead)}"], closes=False)


def _rule_first(report: Report, gate: Gate) -> _Ruling:
    """The ruling while nothing serves: any model that beats a scripted rule and is fast enough will do."""
    candidate = measured(report.start_entries, "candidate")
    scripted = measured(report.start_entries, "scripted", is_kind=True)
    broken = vetoes(report, gate)
    if broken:
        return _Ruling(Verdict.REJECT, broken, closes=False)
    if candidate is None or scripted is None:
        first = "the first model: nothing serves yet"
        return _Ruling(Verdict.PROMOTE, [first], closes=False)
    gain = above(candidate.value, scripted.value, higher_is_better=report.higher_is_better)
    comparison = (
        f"{report.metric} on the held-out start data is {format_estimate(candidate)}, "
        f"the scripted baseline's is {format_estimate(scripted)}"
    )
    if gain < 0:
        worse = f"the first model is worse than a scripted baseline: {comparison}"
        return _Ruling(Verdict.REJECT, [worse], closes=False)
    first = f"the first model: nothing serves yet; {comparison}"
    return _Ruling(Verdict.PROMOTE, [first], closes=False)


def _outlook(ahead: Forecast) -> str:
    """How many more labels would settle an open challenge."""
    if ahead.low is None and ahead.chance == 1:  # see `plan.forecast`
        return (
            "no forecast yet: the models have differed on too few fresh labels to say what it takes"
        )
    if ahead.low is None:
        number = "is not likely to be shown"
    elif ahead.high is None:
        number = f"takes at least {ahead.low} more labels of the probability share"
    else:
        number = f"takes {ahead.low} to {ahead.high} more labels of the probability share"
    return (
        f"forecast: it {number}; the chance that it is shown within {ahead.ahead} more is "
        f"{ahead.chance:.0%}"
    )


def _not_yet(report: Report) -> list[str]:
    """Why an interval that excludes 0 is not yet a promotion."""
    known = usable(report.difference)
    if known is None or known.low <= 0:
        return []
    shown = f"the interval of the gain, {format_estimate(known)}, excludes 0"
    why = (
        "it holds for one look on one night, the evidence must hold for every night that one looks"
    )
    return [f"{shown}, which is not yet a promotion: {why}"]


def _remarks(report: Report, metric: Metric) -> list[str]:
    """Remarks that do not change the verdict."""
    if metric.requirement is None:
        return []
    name = "champion" if report.candidate_digest is None else "candidate"
    known = measured(report.entries, name)
    if known is None:
        return [f"requirement {metric.requirement:g}: the {name} could not be measured against it"]
    beyond = [
        above(one, metric.requirement, higher_is_better=metric.higher_is_better) >= 0
        for one in (known.low, known.high)
    ]
    verb = "meets" if all(beyond) else "may meet" if any(beyond) else "misses"
    number = f"{report.metric} is {format_estimate(known)}"
    return [f"the {name} {verb} the requirement {metric.requirement:g}: {number}"]
