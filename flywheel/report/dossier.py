"""Writes the dossier of a decision: one page to file, and what the decision was made of.

The page needs nothing from anywhere and no script; beside it lie the records and the scores
from which anyone derives the verdict again. Nothing is measured or decided here.
"""

from __future__ import annotations

from pathlib import Path

from flywheel.ledger.decisions import get_decision
from flywheel.loop import Loop
from flywheel.loop.replay import RECORD_FILE, SCORES_FILE, Exhibit, write_exhibit
from flywheel.records import Checkpoint, Decision, Report
from flywheel.report import text
from flywheel.report.drawings import draw_loss, draw_report
from flywheel.report.judged import advice
from flywheel.report.lineage import checkpoint_of, versions_of
from flywheel.report.measured import measured_sheets, production_line
from flywheel.report.rendering import put, render
from flywheel.report.sheets import Sheet, facts_sheet
from flywheel.report.tiers import people_sheet
from flywheel.report.weighed import budget_sheet, error_sheet

_PAGE_FILE = "index.html"


def write_dossier(loop: Loop, exhibit: Exhibit, folder: Path) -> Path:
    """Write page, records and scores of a decision into a folder; the path of the page.

    The page comes last, so that a folder that has it is whole.
    """
    report, decision = exhibit.report, exhibit.decision
    with loop.ledger.read() as connection:
        newest = get_decision(connection, decision.night)
        candidate = checkpoint_of(connection, report.candidate_digest)
        champion = checkpoint_of(connection, report.champion_digest)
        versions = versions_of(connection, report.dataset_id)
    is_overridden = newest is not None and newest.overrides == decision.id
    page = render(
        "dossier.html",
        project=loop.project,
        report=report,
        decision=decision,
        override=newest if is_overridden else None,
        production_line=production_line(report),
        next_step=advice(loop, report),
        measured=(*measured_sheets(report), people_sheet(loop, report)),
        weighed=(budget_sheet(report, decision), error_sheet(report)),
        versions=versions,
        origins=(_origin("candidate", candidate), _origin("champion", champion)),
        digests=_digests(report, decision),
        settings=_settings(report, decision),
        charts=draw_report(report, decision) | draw_loss(candidate),
        files=(RECORD_FILE, SCORES_FILE),
    )
    write_exhibit(exhibit, folder)
    return put(folder / _PAGE_FILE, page)


def _origin(name: str, checkpoint: Checkpoint | None) -> Sheet:
    """What made a model."""
    title = f"What made the {name}"
    if checkpoint is None:
        nothing = f"The ledger holds no training of a {name}."
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
        ("metric", report.metric_id or "none, the report is older than such ids"),
        (f"SHA-256 of {SCORES_FILE}", report.scores_digest),
        ("seed of the resampling", f"{report.seed}, night {report.night}"),
    ]
    return facts_sheet("digests", "Digests", rows)


def _settings(report: Report, decision: Decision) -> Sheet:
    """What was applied, as it stood in flywheel.toml."""
    sections = {"metric": report.metric_settings, "gate": decision.gate_settings}
    rows = [
        (f"{section}.{key}", "not set" if value is None else text.answer(value))
        for section, settings in sections.items()
        for key, value in settings.items()
    ]
    none = "" if rows else "Not stored: the decision is of a version that did not keep them."
    return facts_sheet("settings", "As they stood in flywheel.toml", rows, none)
