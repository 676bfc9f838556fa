"""A decision that waits for approval: its dossier, where the model server shows it, and a line."""

from __future__ import annotations

from flywheel.loop import Loop
from flywheel.loop.approval import tell_approval
from flywheel.loop.replay import find_exhibit
from flywheel.project import Project
from flywheel.records import Approval
from flywheel.report.dossier import write_dossier
from flywheel.report.places import address, dossier_place


def asked_line(project: Project, asked: Approval) -> str:
    """How the question stands and where its dossier is; one sentence."""
    where = address(project, dossier_place(asked.decision_id))
    return f"{tell_approval(asked)}; dossier: {where}"


def write_asked_dossier(loop: Loop, asked: Approval) -> str:
    """Write the dossier beside the reports; its address."""
    return file_dossier(loop, asked.decision_id)


def file_dossier(loop: Loop, decision_id: str) -> str:
    """Write the dossier of a decision where the model server shows it; its address."""
    page = loop.project.state / "reports" / dossier_place(decision_id)
    write_dossier(loop, find_exhibit(loop, decision_id), page.parent)
    return address(loop.project, dossier_place(decision_id))
