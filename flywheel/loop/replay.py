"""From the stored scores: replays a decision, and measures the history under the metric of today.

The scores give the report and the report gives the verdict, without a model, a server or a
network; both must equal the stored ones byte for byte. A dossier holds all three in one folder.

The formula of a metric changes over a project's life; rescoring keeps the curves over the nights
comparable. Past decisions stay as they are; this reports which of them would have differed. Stored
reports also give the plan of the next challenge.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flywheel.decide import Leaning, Planned, decide, plan_gains, share_of_alpha
from flywheel.errors import UserError
from flywheel.evaluate import Advice, Context, Rules, measure, suggest, unpack_book
from flywheel.ledger.batches import draws_since
from flywheel.ledger.codec import from_json, to_json
from flywheel.ledger.history import decisions_of, reported_nights, reports_of
from flywheel.ledger.judged import (
    add_rescored,
    find_decision,
    get_report,
    last_challenge,
    open_challenges,
)
from flywheel.ledger.nights import last_night
from flywheel.loop.context import Loop
from flywheel.loop.measuring import rules_of
from flywheel.metrics.compiled import compile_formula
from flywheel.records import Decision, FreshOutcomes, Report, canonical
from flywheel.select.sampling import AGREEING
from flywheel.settings.judging import Abstain, Gate, Metric

RECORD_FILE = "decision.json"
SCORES_FILE = "scores.npz"
_GAINS = (0.01, 0.02, 0.05, 0.1, 0.2)
_USUAL_DISCORDANCE = 0.1
_REPORTS = 10
_BOTH_WRONG = 0.2
"""samples on which two models differ and neither is right, for each on which one alone is; assumed"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exhibit:
    """A decision and the evidence behind it: report and scores."""

    report: Report
    decision: Decision
    """of the gate, not of an override"""
    scores: bytes
    """npz of all per-sample scores, see `evaluate.book`"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Replayed:
    """The report and the decision derived again, beside the stored ones."""

    exhibit: Exhibit
    report: Report
    decision: Decision

    @property
    def differences(self) -> tuple[str, ...]:
        """The fields that differ; empty when report and decision are the same byte for byte."""
        pairs = (
            ("report", self.exhibit.report, self.report),
            ("decision", self.exhibit.decision, self.decision),
        )
        return tuple(
            f"{kind}.{name}"
            for kind, stored, derived in pairs
            for name, value in to_json(stored).items()
            if canonical(value) != canonical(to_json(derived)[name])
        )


def find_exhibit(loop: Loop, start: str) -> Exhibit:
    """The exhibit of a decision, by the beginning of its id; for an override, of the gate's own.

    Raises:
        UnknownIdError: no decision's id begins so, or several do.
    """
    with loop.ledger.read() as connection:
        decision = find_decision(connection, start)
        if decision.overrides is not None:
            decision = find_decision(connection, decision.overrides)
        report = get_report(connection, decision.report_id)
    return Exhibit(report=report, decision=decision, scores=loop.blobs.get(report.scores_digest))


def read_exhibit(folder: Path) -> Exhibit:
    """The exhibit stored in the folder of a dossier.

    Raises:
        UserError: a file is missing or is not as `write_exhibit` wrote it.
    """
    try:
        record = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
        scores = (folder / SCORES_FILE).read_bytes()
        report = from_json(Report, record["report"])
        decision = from_json(Decision, record["decision"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} is not a dossier: {error}. Run flywheel dossier DECISION to write one with "
            f"{RECORD_FILE} and {SCORES_FILE}"
        ) from error
    return Exhibit(report=report, decision=decision, scores=scores)


def write_exhibit(exhibit: Exhibit, folder: Path) -> None:
    """Write the scores of an exhibit to a folder, and then its records."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SCORES_FILE).write_bytes(exhibit.scores)
    record = {"decision": to_json(exhibit.decision), "report": to_json(exhibit.report)}
    text = json.dumps(record, indent=2, sort_keys=True) + "\n"
    (folder / RECORD_FILE).write_text(text, encoding="utf-8")


def replay(exhibit: Exhibit, directory: Path) -> Replayed:
    """Report and decision derived again; the metric's functions are looked up in the directory.

    Raises:
        UserError: the scores are not the ones that the report was made from.
    """
    stored = exhibit.report
    book, written = unpack_book(exhibit.scores, stored.scores_digest)
    context = from_json(Context, written["context"])
    metric = Metric.model_validate_json(canonical(stored.metric_settings))
    abstain = Abstain.model_validate_json(canonical(written["abstain"]))
    rules = Rules(metric=metric, abstain=abstain, directory=directory)
    report = measure(book, context, rules, stored.scores_digest, now=stored.created_at)
    gate = Gate.model_validate_json(canonical(exhibit.decision.gate_settings))
    decision = decide(report, metric, gate, now=exhibit.decision.created_at)
    return Replayed(exhibit=exhibit, report=report, decision=decision)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChallengePlan:
    """Labels and nights for each gain, and the assumptions behind them."""

    rows: tuple[Planned, ...]
    number: int
    """of the planned challenge, within its test set"""
    alpha: float
    """its share of the error budget"""
    discordance: float
    """share of samples on which one model is right and the other is not"""
    discordance_from: str
    """source of the discordance, in words"""
    labels_per_night: float
    """of the probability share, if every question is answered"""
    leans: bool
    """whether the draw leans to where the two models differ, once the challenge is open"""


def plan_challenge(loop: Loop, discordance: float | None) -> ChallengePlan:
    """The plan of the next challenge, or of the open one.

    Args:
        loop: the project.
        discordance: share of samples on which exactly one model is right; None: as measured.
    """
    project = loop.project
    with loop.ledger.read() as connection:
        last, still = last_challenge(connection), open_challenges(connection)
        night = last_night(connection)
        nights = reported_nights(connection, night.number) if night else []
        reports = reports_of(connection, nights[-_REPORTS:])
        draws = draws_since(connection, night.number - _REPORTS) if night else []
    number = 1
    if last is not None:
        number = last.number + (not still)
        number = 1 if number > project.gate.challenges else number
    measured = [report.fresh for report in reports if report.fresh and report.fresh.is_bounded]
    source = "as you said"
    if discordance is None:
        discordance, source = _discordance(measured[-1] if measured else None)
    formula = compile_formula(project.metric.optimize, project.directory)
    per_night = project.labeling.samples_per_night * project.labeling.probability_share

    def leaning(differs: float) -> Leaning | None:
        if formula.mean_of is None or not draws:
            return None  # answers of a regression differ nearly everywhere; before a draw nothing is known
        share = (1 - AGREEING) / (1 + _BOTH_WRONG)
        population = sum(draw.population for draw in draws) / len(draws)
        most = max(differs * population / per_night, differs)  # all of them, every night
        return Leaning(project.gate.min_fresh_samples, max(min(share, most), differs))

    alpha = share_of_alpha(project.gate.alpha, number, project.gate.challenges)
    return ChallengePlan(
        rows=plan_gains(_GAINS, discordance, alpha, per_night, leaning),
        number=number,
        alpha=alpha,
        discordance=discordance,
        discordance_from=source,
        labels_per_night=per_night,
        leans=leaning(discordance) is not None,
    )


def _discordance(fresh: FreshOutcomes | None) -> tuple[float, str]:
    if fresh is None or not any(fresh.gains):
        return _USUAL_DISCORDANCE, "assumed, no challenge has measured it yet"
    differs = np.array(fresh.gains) != 0
    share = float(np.average(differs, weights=fresh.scales))
    return share, f"as on the {len(fresh.gains)} fresh labels of the last challenge"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rescored:
    """One night under the metric of its time and under that of today."""

    before: Report
    decided: Decision | None
    """the gate's own decision of that night; None: there was none"""
    after: Report | None
    """None: the night cannot be measured again"""
    would_decide: Decision | None
    fault: str
    """why it cannot be measured again; "" when it can"""

    @property
    def differs(self) -> bool:
        """Whether the verdict would have been another one."""
        both = self.decided is not None and self.would_decide is not None
        return both and self.decided.verdict is not self.would_decide.verdict  # type: ignore[union-attr]


def rescore(loop: Loop) -> Iterator[Rescored]:
    """Every night's report under the current metric of flywheel.toml, oldest first.

    The new reports are stored beside the originals, for the curves over the nights.
    """
    with loop.ledger.read() as connection:
        last = last_night(connection)
        nights = reported_nights(connection, last.number) if last else []
    for night in nights:
        with loop.ledger.read() as connection:
            [before] = reports_of(connection, [night])
            decided = decisions_of(connection, [night], by_gate=True).get(night)
        rescored = _rescore(loop, before, decided, rules_of(loop))
        if rescored.after is not None:
            with loop.ledger.begin() as connection:
                add_rescored(connection, before.id, rescored.after)
        yield rescored


def advise(loop: Loop, number: int) -> tuple[Advice, ...]:
    """What to optimize, to threshold and to ignore, from the last `number` reports.

    Raises:
        UserError: no report has stored scores.
    """
    with loop.ledger.read() as connection:
        last = last_night(connection)
        nights = reported_nights(connection, last.number) if last else []
        reports = reports_of(connection, nights[-number:])
    history = []
    for report in reports:
        book, written = unpack_book(loop.blobs.get(report.scores_digest), report.scores_digest)
        if written is not None:
            history.append((book, from_json(Context, written["context"])))
    if not history:
        raise UserError(
            f"no night of {loop.project.directory} has stored scores yet. Run flywheel night"
        )
    return suggest(history, rules_of(loop))


def _rescore(loop: Loop, before: Report, decided: Decision | None, rules: Rules) -> Rescored:
    try:
        after = _measure_again(loop, before, rules)
    except UserError as error:
        return Rescored(
            before=before, decided=decided, after=None, would_decide=None, fault=str(error)
        )
    would = None
    if decided is not None and decided.gate_settings:
        gate = Gate.model_validate_json(canonical(decided.gate_settings))
        would = decide(after, rules.metric, gate, now=decided.created_at)
    return Rescored(before=before, decided=decided, after=after, would_decide=would, fault="")


def _measure_again(loop: Loop, before: Report, rules: Rules) -> Report:
    book, written = unpack_book(loop.blobs.get(before.scores_digest), before.scores_digest)
    if written is None:
        raise UserError(
            f"night {before.night}: its scores were stored by an older version without their "
            "context. It keeps its number under the old formula"
        )
    context = from_json(Context, written["context"])
    return measure(book, context, rules, before.scores_digest, now=before.created_at)
