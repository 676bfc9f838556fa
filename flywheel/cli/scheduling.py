"""Registers a project's deployments with Prefect's server and starts the worker that runs them.

What is registered stands in deployments/prefect.yaml; this only fills in the project's name,
directory and schedule. Doing it again changes nothing but the settings that changed.
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

POOL = "flywheel"


def register(project: Project, *, progress: Callable[[str], None]) -> None:
    """Register the nightly run and the label-hard-cases trigger, and start a worker for both.

    Raises:
        UnavailableError: Prefect's server does not answer.
        RefusedError: Prefect refuses the deployments.
    """
    prepare(project)
    env = {
        **os.environ,
        "FLYWHEEL_PROJECT": project.name,
        "FLYWHEEL_DIRECTORY": str(project.directory),
        "FLYWHEEL_CRON": project.schedule.cron,
        "FLYWHEEL_TIMEZONE": project.schedule.timezone,
        "FLYWHEEL_POOL": POOL,
    }
    _prefect(env, "work-pool", "create", POOL, "--type", "process", "--overwrite")
    file = files("deployments") / "prefect.yaml"
    _prefect(env, "deploy", "--all", "--prefect-file", str(file))
    progress(f"nightly            {project.schedule.cron} {project.schedule.timezone}")
    progress(f"label-hard-cases   when {project.collect.hard_samples} hard samples are waiting")
    stack.up(project, ["worker"], pool=POOL, progress=progress)
    progress(f"deployments        {project.prefect.url}/deployments")


def _prefect(env: dict[str, str], *arguments: str) -> None:
    command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines()[-15:]
        raise RefusedError(f"prefect {' '.join(arguments)} failed:\n" + "\n".join(said))
