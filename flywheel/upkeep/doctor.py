"""flywheel doctor: runs every check of a project; a check that fails does not stop the others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from flywheel.errors import SettingsError
from flywheel.project import Project, load_project
from flywheel.stack import environment
from flywheel.task import load_task
from flywheel.upkeep import machine, reached
from flywheel.upkeep.finding import Finding, fail, look, ok

Check = Callable[[Project], Iterable[Finding]]


def examine(directory: Path, prefect: Sequence[tuple[str, Check]] = ()) -> list[Finding]:
    """Check settings, task, storage, servers and machine; nothing of the project is changed.

    Args:
        directory: the folder with flywheel.toml.
        prefect: checks of Prefect's server, with their names; they need its client.

    Returns:
        The findings, in the order of the checks. Without valid settings only the versions are checked.
    """
    try:
        project = load_project(directory)
    except SettingsError as error:
        faults = [fail("settings", line) for line in str(error).splitlines()]
        return [*faults, *look("versions", lambda: machine.versions(None))]
    found = [ok("settings", f"{project.directory}/flywheel.toml, project {project.name!r}")]
    for name, check in _checks(project, prefect):
        found += look(name, lambda check=check: check(project))  # type: ignore[misc]
    return found


def _checks(project: Project, prefect: Sequence[tuple[str, Check]]) -> Iterator[tuple[str, Check]]:
    known = {**os.environ, **environment(project)}
    yield "task", _task
    yield "versions", machine.versions
    yield "ledger", machine.ledger
    yield "blobs", machine.blobs
    yield "disk", machine.disk
    yield "secrets", machine.secrets
    yield "GPU", machine.gpu
    yield from prefect
    yield "Label Studio", lambda checked: reached.label_studio(checked, known)
    yield "model server", lambda checked: reached.model_server(checked, known)
    yield "clock", reached.clocks
    yield "notices", machine.notices


def _task(project: Project) -> Iterator[Finding]:
    load_task(project.project.task, project.directory)
    yield ok("task", f"{project.project.task} loads; flywheel check looks closer")
