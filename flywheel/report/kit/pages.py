"""Renders templates, writes pages atomically, and returns their addresses on the model server.

A template fails on an undefined name, and all values are escaped. Links use the address by which
a browser reaches the server.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from jinja2 import Environment, PackageLoader, StrictUndefined

from flywheel.project import Project
from flywheel.report.kit import tables, text


def render(template: str, **values: Any) -> str:
    """Return the page that a template of this package makes of the values."""
    page = _environment().get_template(template)
    return page.render(not_enough=text.NOT_ENOUGH, **values)


def compile_templates() -> None:
    """Compile every template now, so that no first page waits for it."""
    for name in _environment().list_templates(extensions=["html"]):
        _environment().get_template(name)


@cache  # compiled once: compiling a template takes longer than filling it in
def _environment() -> Environment:
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
    return environment


def put(path: Path, page: str) -> Path:
    """Write a page atomically, replacing an older one; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        draft.write_text(page, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def address(project: Project, name: str) -> str:
    """Return the URL of a file in the reports folder."""
    return f"{project.server_page}/reports/{name}"


def dossier_place(decision_id: str) -> str:
    """Return the path of a decision's dossier, relative to the reports folder."""
    return f"dossiers/{decision_id[:12]}/index.html"
