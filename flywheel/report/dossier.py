"""Writes the dossier of a decision: a self-contained page, and the records behind it.

Beside the page lie the records and per-sample scores, from which `flywheel replay` derives the
verdict again. Nothing is measured or decided here.
"""

from __future__ import annotations

from pathlib import Path

from flywheel.ledger.judged import get_decision
from flywheel.loop import Loop
from flywheel.loop.approval import describe_approval
from flywheel.loop.replay import RECORD_FILE, SCORES_FILE, Exhibit, find_exhibit, write_exhibit
from flywheel.project import Project
from flywheel.records import Approval, Checkpoint, Decision, Report
from flywheel.report.kit import text
from flywheel.report.kit.challenge import budget_sheet, error_sheet
from flywheel.report.kit.classes import class_sheets, draw_classes, read_classes
from flywheel.report.kit.evidence import draw_loss, draw_report
from flywheel.report.kit.measured import annotators_sheet, measured_sheets, production_line
from flywheel.report.kit.pages import address, dossier_place, put, render
from flywheel.report.kit.tables import Sheet, facts_sheet
from flywheel.report.night.facts import checkpoint_of, versions_of
from flywheel.report.night.steps import advice

_PAGE_FILE = "index.html"


def write_dossier(loop: Loop, exhibit: Exhibit, folder: Path) -> Path:
    """Write page, records and scores of a decision into a folder; return the page's path.

    The page is written last: a folder with a page is complete.
    """
    report, decision = exhibit.report, exhibit.decision
    with loop.ledger.read() as connection:
        newest = get_decision(connection, decision.night)
        candidate = checkpoint_of(connection, report.candidate_digest)
        champion = checkpoint_of(connection, report.champion_digest)
        versions = versions_of(connection, report.dataset_id)
    classes = read_classes(loop, report)
    is_overridden = newest is not None and newest.overrides == decision.id
    page = render(
        "dossier.html",
        project=loop.project,
        report=report,
        decision=decision,
        override=newest if is_overridden else None,
        production_line=production_line(report),
        next_step=advice(loop, report),
        measured=(*measured_sheets(report), *class_sheets(classes), annotators_sheet(loop, report)),
        weighed=(budget_sheet(report, decision), error_sheet(report)),
        versions=versions,
        origins=(_origin("candidate", candidate), _origin("champion", champion)),
        digests=_digests(report, decision),
        settings=_settings(report, decision),
        charts=draw_report(report, decision) | draw_loss(candidate) | draw_classes(classes),
        files=(RECORD_FILE, SCORES_FILE),
    )
    write_exhibit(exhibit, folder)
    return put(folder / _PAGE_FILE, page)


def _origin(name: str, checkpoint: Checkpoint | None) -> Sheet:
    """Return how a model was trained."""
    title = f"Training of the {name}"
    if checkpoint is None:
        nothing = f"The ledger has no training record of a {name}."
        return facts_sheet(f"{name}_origin", title, [], nothing)
    rows = [
        ("checkpoint", checkpoint.digest),
        ("warm-started from", checkpoint.parent_digest or "none, trained from fresh weights"),
        ("dataset version", checkpoint.dataset_id),
        ("made", f"{checkpoint.created_at:%Y-%m-%d %H:%M} UTC"),
        ("trained", f"{text.duration(checkpoint.train_seconds)} on {checkpoint.device}"),
        ("seed", str(checkpoint.seed)),
    ]
    rows += [(f"train.{key}", text.answer(value)) for key, value in checkpoint.settings.items()]
    return facts_sheet(f"{name}_origin", title, rows)


def _digests(report: Report, decision: Decision) -> Sheet:
    rows = [
        ("decision", decision.id),
        ("report", report.id),
        ("candidate", report.candidate_digest or "none"),
        ("champion", report.champion_digest or "none"),
        ("dataset version", report.dataset_id),
        ("test set", report.test_set_digest),
        ("metric", report.metric_id or "none: the report is older than metric ids"),
        (f"SHA-256 of {SCORES_FILE}", report.scores_digest),
        ("seed of the resampling", f"{report.seed}, night {report.night}"),
    ]
    return facts_sheet("digests", "Digests", rows)


def _settings(report: Report, decision: Decision) -> Sheet:
    """Return the [metric] and [gate] settings that were applied."""
    sections = {"metric": report.metric_settings, "gate": decision.gate_settings}
    rows = [
        (f"{section}.{key}", "not set" if value is None else text.answer(value))
        for section, settings in sections.items()
        for key, value in settings.items()
    ]
    none = "" if rows else "Not stored: an older version of flywheel made this decision."
    return facts_sheet("settings", "Settings as applied", rows, none)


def asked_line(project: Project, asked: Approval) -> str:
    """Return one sentence: the state of an approval and the address of its dossier."""
    where = address(project, dossier_place(asked.decision_id))
    return f"{describe_approval(asked)}; dossier: {where}"


def write_asked_dossier(loop: Loop, asked: Approval) -> str:
    """Write the dossier of the decision to approve; return its address."""
    return file_dossier(loop, asked.decision_id)


def file_dossier(loop: Loop, decision_id: str) -> str:
    """Write a decision's dossier into the folder that the model server shows; return its address."""
    page = loop.project.state / "reports" / dossier_place(decision_id)
    write_dossier(loop, find_exhibit(loop, decision_id), page.parent)
    return address(loop.project, dossier_place(decision_id))
