"""Replays a decision from the stored scores, and plans the next challenge from stored reports.

The scores give the report and the report gives the verdict, without a model, a server or a
network; both must equal the stored ones byte for byte. A dossier holds all three in one folder.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flywheel.decide import Planned, decide, plan_gains, share_of_alpha
from flywheel.errors import UserError
from flywheel.evaluate import Context, Rules, measure, unpack_book
from flywheel.ledger.codec import from_json, to_json
from flywheel.ledger.decisions import find_decision, last_challenge
from flywheel.ledger.history import reported_nights, reports_of
from flywheel.ledger.nights import last_night
from flywheel.ledger.reports import get_report
from flywheel.loop.context import Loop
from flywheel.records import Decision, FreshOutcomes, Report, canonical
from flywheel.settings.judging import Abstain, Gate, Metric

RECORD_FILE = "decision.json"
SCORES_FILE = "scores.npz"
_GAINS = (0.01, 0.02, 0.05, 0.1, 0.2)
_USUAL_DISCORDANCE = 0.1
_REPORTS = 10


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


def plan_challenge(loop: Loop, discordance: float | None) -> ChallengePlan:
    """The plan of the next challenge, or of the open one.

    Args:
        loop: the project.
        discordance: share of samples on which exactly one model is right; None: as measured.
    """
    project = loop.project
    with loop.ledger.read() as connection:
        last = last_challenge(connection)
        night = last_night(connection)
        nights = reported_nights(connection, night.number) if night else []
        reports = reports_of(connection, nights[-_REPORTS:])
    number = 1
    if last is not None:
        challenge, is_closed = last
        number = challenge.number + is_closed
        number = 1 if number > project.gate.challenges else number
    measured = [report.fresh for report in reports if report.fresh and report.fresh.is_bounded]
    source = "as you said"
    if discordance is None:
        discordance, source = _discordance(measured[-1] if measured else None)
    alpha = share_of_alpha(project.gate.alpha, number, project.gate.challenges)
    per_night = project.labeling.samples_per_night * project.labeling.probability_share
    return ChallengePlan(
        rows=plan_gains(_GAINS, discordance, alpha, per_night),
        number=number,
        alpha=alpha,
        discordance=discordance,
        discordance_from=source,
        labels_per_night=per_night,
    )


def _discordance(fresh: FreshOutcomes | None) -> tuple[float, str]:
    if fresh is None or not any(fresh.gains):
        return _USUAL_DISCORDANCE, "assumed, no challenge has measured it yet"
    differs = np.array(fresh.gains) != 0
    share = float(np.average(differs, weights=fresh.scales))
    return share, f"as on the {len(fresh.gains)} fresh labels of the last challenge"
