"""A decision that waits for approval: its dossier, where the model server shows it, and a line."""

from __future__ import annotations

from flywheel.loop import Loop
from flywheel.loop.approval import tell_approval
from flywheel.loop.replay import find_exhibit
from flywheel.project import Project
from flywheel.records import Approval
from flywheel.report.dossier import write_dossier


def asked_line(project: Project, asked: Approval) -> str:
    """How the question stands and where its dossier is; one sentence."""
    return f"{tell_approval(asked)}; dossier: {_url(project, asked)}"


def write_asked_dossier(loop: Loop, asked: Approval) -> str:
    """Write the dossier beside the reports; its address."""
    folder = loop.project.state / "reports" / _place(asked)
    write_dossier(loop, find_exhibit(loop, asked.decision_id), folder)
    return _url(loop.project, asked)


def _url(project: Project, asked: Approval) -> str:
    return f"{project.server_url}/reports/{_place(asked)}/index.html"


def _place(asked: Approval) -> str:
    return f"dossiers/{asked.decision_id[:12]}"
