"""The summary sentence and the Markdown page of each step.

Pages show stored numbers and reasons, and stay below Prefect's event limit of 1.5 MB: pictures are
few and small, and long lists are cut, with a note. Reads the ledger and the step's result; changes
nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flywheel.collect import Collected
from flywheel.decide import next_step
from flywheel.ledger.failures import chosen_of_batch, count_signals, failures_of_night
from flywheel.ledger.judged import get_decision, get_report, report_of_night
from flywheel.ledger.nights import skips_of
from flywheel.ledger.releases import current_release
from flywheel.loop import Loop, NightRun
from flywheel.loop.results import (
    Decided,
    Deployed,
    Evaluated,
    Ingested,
    PulledLabels,
    Released,
    Retrained,
    Routed,
)
from flywheel.records import Decision, FailureState, Report, Share
from flywheel.report.kit import markdown, tables, text
from flywheel.report.kit.challenge import budget_sheet, error_sheet, evidence_of
from flywheel.report.kit.charts import loss_picture
from flywheel.report.kit.classes import MODELS, class_sheets, read_classes
from flywheel.report.kit.evidence import evidence_picture
from flywheel.report.kit.measured import (
    annotators_sheet,
    drift_line,
    measured_sheets,
    models_sheet,
    production_line,
)
from flywheel.report.kit.samples import data_uri, show_cases


def evaluate_page(run: NightRun, result: Evaluated) -> str:
    """Return the production estimate, all models and baselines, requirements and slices."""
    with run.loop.ledger.read() as connection:
        report = get_report(connection, result.report_id)
    sheets = [models_sheet(report), *measured_sheets(report)]
    sheets += class_sheets(read_classes(run.loop, report))
    sheets.append(annotators_sheet(run.loop, report))
    number = f"**{markdown.plain(production_line(report))}**"
    return "\n\n".join([number, *map(tables.sheet, sheets)])


def decide_page(run: NightRun, result: Decided) -> str:
    """Return the verdict, every reason, the evidence and its budget, and the next step."""
    with run.loop.ledger.read() as connection:
        report = report_of_night(connection, run.number)
        decision = get_decision(connection, run.number)
    reasons = markdown.bullets(result.reasons)
    page = f"# {result.verdict.value}\n\n{reasons}"
    if report is None:
        return page
    parts = [
        page,
        tables.sheet(budget_sheet(report, decision)),
        *_picture(report, decision),
        tables.sheet(error_sheet(report)),
        f"**To improve:** {markdown.plain(advice(run.loop, report))}",
    ]
    return "\n\n".join(parts)


def advice(loop: Loop, report: Report) -> str:
    """Return the suggested next step, in one sentence."""
    return next_step(report, loop.project.metric, loop.project.gate)


def _picture(report: Report, decision: Decision | None) -> list[str]:
    """Return the path of the e-value as a picture, if there is one."""
    evidence = evidence_of(report, decision)
    if evidence is None:
        return []
    uri = data_uri(evidence_picture(evidence.values, evidence.needed))
    return [f"![e-value after each fresh label, dashed: the e-value needed]({uri})"]


_CASES = 12
_EDGE_PIXELS = 96
_SKIPS = 20


def step_page(run: NightRun, name: str, result: Any) -> str:
    """Return the Markdown page of a finished step."""
    body = _SHOWN[name].page(run, result)
    site = f"{run.loop.project.server_page}/pages/nights/{run.number}"
    night = markdown.link(f"night {run.number}", site)
    return f"# {markdown.plain(name)} · {night}\n\n{body}\n"


def summarize(name: str, result: Any, report: Report | None) -> str:
    """Return the result of a step in one sentence; that of evaluate is in the night's report."""
    if isinstance(result, Evaluated) and report is not None:
        return _measured(report)
    return _SHOWN[name].sentence(result)


def falls_short(result: Any) -> bool:
    """Whether a step finished in part: a server did not answer, or a canary failed."""
    match result:
        case Deployed():
            return result.released_digest is not None and result.serving_digest is None
        case Ingested():
            return result.note != "" or result.num_refused > 0
        case Routed():
            return result.note != ""
        case Released():
            return result.release_number is None and "canary failed" in result.note
    return False


def _deploy_page(_run: NightRun, result: Deployed) -> str:
    pairs = [
        ("serves", text.digest(result.serving_digest)),
        ("released", text.digest(result.released_digest)),
        ("swapped", "yes" if result.swapped else "no"),
        ("note", result.note),
    ]
    return markdown.facts(pairs)


def _collect_page(run: NightRun, result: Collected) -> str:
    with run.loop.ledger.read() as connection:
        signals = count_signals(connection, run.number)
        cases = failures_of_night(connection, run.number, FailureState.SEEN, _CASES)
    rows = [[markdown.plain(key.replace("_", " ")), f"{count:,}"] for key, count in signals.items()]
    counts = markdown.facts(
        [
            ("predictions read", f"{result.num_predictions:,}"),
            ("feedback read", f"{result.num_feedback:,}"),
            ("new failures", f"{result.num_failures:,}"),
            ("drift", drift_line(result.drift)),
        ]
    )
    if not cases:
        return f"{counts}\n\nNo new failure was found this night."
    shown = tables.gallery(show_cases(run.loop, cases, _EDGE_PIXELS))
    return (
        f"{counts}\n\n## Signals of the night's failures\n\n"
        f"{markdown.table(('signal', 'failures'), rows)}\n\n"
        f"## The {len(cases)} strongest\n\n{shown}"
    )


def _route_page(run: NightRun, result: Routed) -> str:
    with run.loop.ledger.read() as connection:
        batch = [
            chosen_of_batch(connection, result.batch_id, share, _CASES // 2)
            for share in (Share.TARGETED, Share.PROBABILITY)
        ]
    counts = markdown.facts(
        [
            ("probability share", f"{result.num_probability} of {_source(result)}"),
            ("targeted share", result.num_targeted),
            ("gold samples", f"{result.num_gold}, with known answers, to measure annotators"),
            (
                "second opinions",
                f"{result.num_second}, each worth more than a label of a new sample",
            ),
            ("labels in doubt", f"{result.num_suspects}, which the model contradicts"),
            ("to the experts", f"{result.num_review}, on which annotators disagree"),
            ("withdrawn", f"{result.num_withdrawn}, no longer uncertain under the new model"),
            ("sent now", result.num_sent),
            (
                "waiting",
                f"{result.num_waiting}: {result.note}" if result.note else result.num_waiting,
            ),
        ]
    )
    parts = [counts, f"Label them: {markdown.link('the labeling project', result.project_url)}"]
    if result.project_url is None:
        parts[1] = "Nothing was sent this time, so there is no labeling project to link to."
    for share, cases in zip(("Targeted", "Drawn at random"), batch, strict=True):
        if cases:
            shown = tables.gallery(show_cases(run.loop, cases, _EDGE_PIXELS))
            parts.append(f"## {share}: the first {len(cases)}\n\n{shown}")
    return "\n\n".join(parts)


def dropped_line(result: Ingested) -> str:
    """Return how many rows were left out of the splits, and why."""
    others = result.num_dropped - result.num_copies_train - result.num_copies_test
    return (
        f"{result.num_dropped:,} rows, to keep the splits disjoint: near-duplicates in train "
        f"{result.num_copies_train:,}, in test {result.num_copies_test:,}, "
        f"group on the other side {others:,}"
    )


def _ingest_page(run: NightRun, result: Ingested) -> str:
    with run.loop.ledger.read() as connection:
        skips = skips_of(connection, run.number)
    is_new = "new" if result.is_new else "as before"
    pairs = [
        ("annotations", f"{result.num_annotations} new or changed"),
        ("skipped", result.num_skipped),
        ("deleted", result.num_deleted),
        ("refused", result.num_refused),
        ("labels", f"{result.num_labels} new or changed"),
        ("disputed", f"{result.num_disputed} samples without agreement"),
        ("dataset version", f"{text.digest(result.dataset_id)}, {is_new}"),
        ("train", f"{result.num_train:,} rows"),
        ("test", f"{result.num_test:,} rows of the frozen test set"),
        ("dropped", dropped_line(result)),
    ]
    if result.num_from_sensors:
        pairs.append(("from sensors", f"{result.num_from_sensors} labels new or changed"))
    if result.outcomes:
        pairs.append(("outcomes", result.outcomes))
    if result.note:
        pairs.append(("note", result.note))
    return markdown.facts(pairs) + _set_aside(skips)


def _retrain_page(_run: NightRun, result: Retrained) -> str:
    if result.device is None:
        pairs = [("candidate", text.digest(result.candidate_digest)), ("note", result.note)]
        return markdown.facts(pairs)
    pairs = [
        ("candidate", text.digest(result.candidate_digest)),
        ("device", result.device),
        ("time", text.duration(result.train_seconds)),
        ("last loss", text.number(result.losses[-1] if result.losses else None)),
        ("note", result.note),
    ]
    curve = data_uri(loss_picture(result.losses))
    return f"{markdown.facts(pairs)}\n\n![training loss of each epoch]({curve})"


def _release_page(run: NightRun, result: Released) -> str:
    with run.loop.ledger.read() as connection:
        release = current_release(connection)
        fixed = failures_of_night(connection, run.number, FailureState.FIXED, _CASES)
    pairs = [
        ("serves", text.digest(result.serving_digest)),
        ("release", "none yet" if release is None else release.number),
        ("released this night", "no" if result.release_number is None else "yes"),
        ("failures fixed", result.num_fixed),
        ("note", result.note),
    ]
    if not fixed:
        return markdown.facts(pairs)
    shown = tables.gallery(show_cases(run.loop, fixed, _EDGE_PIXELS))
    return f"{markdown.facts(pairs)}\n\n## Fixed failures, with the answer of the earlier model\n\n{shown}"


def _any_page(_run: NightRun, result: Any) -> str:
    """Return the fields of a result."""
    return markdown.facts(
        [(field.name, getattr(result, field.name)) for field in dataclasses.fields(result)]
    )


def _set_aside(skips: Sequence[tuple[str, str]]) -> str:
    if not skips:
        return ""
    rows = [[markdown.plain(subject), markdown.plain(why)] for subject, why in skips[:_SKIPS]]
    more = f"\n\n… and {len(skips) - _SKIPS} more." if len(skips) > _SKIPS else ""
    return f"\n\n## Set aside this night\n\n{markdown.table(('what', 'why'), rows)}{more}"


def _deploy_sentence(result: Deployed) -> str:
    if result.serving_digest is None:
        return result.note
    return f"{text.digest(result.serving_digest)} serves; {result.note}"


def _collect_sentence(result: Collected) -> str:
    said = (
        f"{result.num_failures:,} new suspects in {result.num_predictions:,} predictions "
        f"and {result.num_feedback:,} feedback"
    )
    is_alarm = result.drift is not None and result.drift.is_alarm
    return f"{said}; {drift_line(result.drift)}" if is_alarm else said


def _source(result: Routed) -> str:
    new = f"{result.population:,} samples"
    return new if result.num_probability <= result.population else f"{new} and earlier production"


def _route_sentence(result: Routed) -> str:
    others = (
        (result.num_gold, "gold"),
        (result.num_second, "second opinions"),
        (result.num_suspects, "labels in doubt"),
        (result.num_review, "to the experts"),
        (result.num_withdrawn, "withdrawn"),
    )
    said = (
        f"{result.num_probability} drawn from {_source(result)}, "
        f"{result.num_targeted} targeted"
        + "".join(f", {number} {what}" for number, what in others if number)
        + f"; {result.num_sent} sent, {result.num_waiting} wait"
    )
    return _with_note(said, result.note)


def _ingest_sentence(result: Ingested) -> str:
    version = (
        f"{text.digest(result.dataset_id)}: {result.num_train:,} train, {result.num_test:,} test"
    )
    return _with_note(f"{_pulled(result)}; dataset version {version}", result.note)


def _pulled_sentence(result: PulledLabels) -> str:
    return _with_note(_pulled(result), result.note)


def _pulled(result: PulledLabels) -> str:
    sensors = f", {result.num_from_sensors} from sensors" if result.num_from_sensors else ""
    refused = (
        f", {result.num_refused} refused (why is on its page in Prefect)"
        if result.num_refused
        else ""
    )
    return f"{result.num_annotations} annotations{refused}, {result.num_labels} labels{sensors}"


def _with_note(said: str, note: str) -> str:
    return f"{said}; {note}" if note else said


def _retrain_sentence(result: Retrained) -> str:
    if result.device is None:
        return result.note
    took = text.duration(result.train_seconds)
    return f"candidate {text.digest(result.candidate_digest)}, {result.note}, {took} on {result.device}"


def _evaluate_sentence(result: Evaluated) -> str:
    return f"report {text.digest(result.report_id)}"


def _measured(report: Report) -> str:
    """Return the metric of both models, with intervals."""
    places = {"frozen test set": report.entries, "held-out start data": report.start_entries}
    for place, entries in places.items():
        known = [one for one in entries if one.name in MODELS and one.metric is not None]
        if known:
            digests = {"candidate": f" {text.digest(report.candidate_digest)}"}
            said = ", ".join(
                f"{one.name}{digests.get(one.name, '')} {text.estimate(one.metric)}"
                for one in known
            )
            return f"{report.metric} on the {place}: {said}"
    return f"{report.metric}: {text.NOT_ENOUGH}"


def _decide_sentence(result: Decided) -> str:
    return f"{result.verdict.value}: {result.reasons[0]}"


def _release_sentence(result: Released) -> str:
    if result.release_number is None:
        return result.note
    return f"release {result.release_number}; {result.num_fixed} failures fixed"


@dataclasses.dataclass(frozen=True, slots=True)
class _Shown:
    """The summary and the page of a step."""

    sentence: Callable[[Any], str]
    page: Callable[[NightRun, Any], str]


_SHOWN: Mapping[str, _Shown] = {
    "deploy": _Shown(_deploy_sentence, _deploy_page),
    "collect": _Shown(_collect_sentence, _collect_page),
    "route": _Shown(_route_sentence, _route_page),
    "ingest": _Shown(_ingest_sentence, _ingest_page),
    "retrain": _Shown(_retrain_sentence, _retrain_page),
    "evaluate": _Shown(_evaluate_sentence, evaluate_page),
    "decide": _Shown(_decide_sentence, decide_page),
    "release": _Shown(_release_sentence, _release_page),
    "pull-labels": _Shown(_pulled_sentence, _any_page),
}
"""by step name, see flywheel.loop.steps.STEPS and PULL_LABELS"""
