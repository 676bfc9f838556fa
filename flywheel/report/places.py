"""Where people find the pages: addresses on the model server.

A page is linked by the address that people's browsers reach the server by.
"""

from __future__ import annotations

from flywheel.project import Project


def address(project: Project, name: str) -> str:
    """The address of a file of the project's reports."""
    return f"{project.server_page}/reports/{name}"


def dossier_place(decision_id: str) -> str:
    """Where below the reports the dossier of a decision lies."""
    return f"dossiers/{decision_id[:12]}/index.html"
