"""Registers a project's deployments with Prefect's server and runs the worker that serves them.

What is registered stands in deployments/prefect.yaml; this only fills in the project's name,
directory and schedule. Doing it again changes nothing but the settings that changed. Each
project has a work pool of its own, so that its runs get its worker's environment and secrets.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files

from flywheel import stack
from flywheel.cli.running import prepare
from flywheel.errors import RefusedError
from flywheel.project import Project

_SAID_LINES = 15


def register(project: Project, *, progress: Callable[[str], None]) -> None:
    """Register the nightly run and the triggers between nights, and start a worker for them.

    Raises:
        SettingsError: the cron line means no time, or another folder has this project's name.
        UnavailableError: Prefect's server does not answer, or the worker does not start.
        RefusedError: Prefect refuses the deployments.
    """
    prepare(project)
    from flows.registry import check_registrable, remove  # Prefect reads the environment at import

    check_registrable(project)
    for name in remove(project, but_named=project.name):
        progress(f"{name}: removed, the project has another name now")
    stack.up(project, ["worker"], pool=_pool(project), progress=progress)  # it makes its pool
    _deploy(project)
    progress(f"nightly            at {project.schedule.cron} {project.schedule.timezone}")
    progress(f"label-hard-cases   when {project.collect.hard_samples} hard samples are waiting")
    progress("ingest-labels     when Label Studio tells of annotations")
    progress(f"deployments        {project.prefect.url}/deployments?tags={project.name}")
    progress(f"undo               flywheel unschedule {project.directory}")


def unregister(project: Project, *, progress: Callable[[str], None]) -> None:
    """Stop the project's worker and remove what is registered for it; other projects stay.

    A night that the worker is running ends with it; flywheel night goes on where it was.

    Raises:
        UnavailableError: Prefect's server does not answer; the worker is stopped already.
    """
    stopped = stack.down(project, only="worker", progress=progress)
    prepare(project)
    from flows.registry import remove  # as above

    removed = remove(project)
    for name in removed:
        progress(f"{name}: removed")
    if not stopped and not removed:
        progress(f"nothing was scheduled for {project.directory}")


def resume(project: Project, *, progress: Callable[[str], None]) -> bool:
    """Start the worker of a project that is scheduled; False for one that is not.

    Raises:
        UnavailableError: Prefect's server does not answer, or the worker does not start.
    """
    prepare(project)
    from flows.registry import registered  # as above

    if not registered(project):
        return False
    stack.up(project, ["worker"], pool=_pool(project), progress=progress)
    return True


def _pool(project: Project) -> str:
    return f"flywheel-{project.name}"


def _deploy(project: Project) -> None:
    values = {
        "FLYWHEEL_PROJECT": project.name,
        "FLYWHEEL_DIRECTORY": str(project.directory),
        "FLYWHEEL_CRON": project.schedule.cron,
        "FLYWHEEL_TIMEZONE": project.schedule.timezone,
        "FLYWHEEL_POOL": _pool(project),
    }
    file = files("deployments") / "prefect.yaml"
    arguments = ("--no-prompt", "deploy", "--all", "--prefect-file", str(file))
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *arguments],
        env={**os.environ, **values},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines()[-_SAID_LINES:]
        raise RefusedError(
            f"prefect deploy of {file} for {project.name!r} failed; mend what it names and run "
            "flywheel schedule again:\n" + "\n".join(said)
        )
