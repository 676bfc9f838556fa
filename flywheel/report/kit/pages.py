"""Templates to pages, and pages into their place in one piece.

A template fails on a name that nobody gave it; whatever comes from outside is escaped.

Where people find the pages: addresses on the model server.

A page is linked by the address that people's browsers reach the server by.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

from jinja2 import Environment, PackageLoader, StrictUndefined

from flywheel.project import Project
from flywheel.report.kit import tables, text


def render(template: str, **values: Any) -> str:
    """The page that a template of this package makes of these values."""
    environment = Environment(
        loader=PackageLoader("flywheel.report.kit"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=text.number,
        estimate=text.estimate,
        answer=text.answer,
        digest=text.digest,
        duration=text.duration,
        why=tables.why,
    )
    return environment.get_template(template).render(not_enough=text.NOT_ENOUGH, **values)


def put(path: Path, page: str) -> Path:
    """Write a page whole or not at all; an older one is replaced in one piece."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        draft.write_text(page, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def address(project: Project, name: str) -> str:
    """The address of a file of the project's reports."""
    return f"{project.server_page}/reports/{name}"


def dossier_place(decision_id: str) -> str:
    """Where below the reports the dossier of a decision lies."""
    return f"dossiers/{decision_id[:12]}/index.html"
