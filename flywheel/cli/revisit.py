"""The metric chosen anew in the middle of a project, and all its history under the new one."""

from __future__ import annotations

import re

from rich.console import Console

from flywheel.cli.printing import rescored_table
from flywheel.cli.shows import Revisit
from flywheel.loop import open_loop
from flywheel.loop.rescore import rescore
from flywheel.project import FILE_NAME, Project, load_project

_SECTION = re.compile(r"^\[metric\]\n.*?(?=^\[|\Z)", re.MULTILINE | re.DOTALL)


def revisit_metric(project: Project, revisit: Revisit, console: Console) -> Project:
    """Write the new [metric] section, measure the history under it, and show both.

    What a person would do with an editor and `flywheel metric rescore`.
    """
    path = project.directory / FILE_NAME
    section = f"[metric]\n{revisit.section.strip()}\n\n"
    text = _SECTION.sub(lambda _: section, path.read_text(encoding="utf-8"), count=1)
    path.write_text(text, encoding="utf-8")
    changed = load_project(project.directory)
    console.print(f"  {revisit.because}", highlight=False)
    console.print(section.strip(), highlight=False, markup=False)
    with open_loop(project.directory) as loop:
        console.print(rescored_table(list(rescore(loop)), changed.metric.optimize))
    return changed
