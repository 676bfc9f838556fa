"""Names of flow runs that read well in a list."""

from __future__ import annotations

from pathlib import Path

from prefect.runtime import flow_run

from flywheel.errors import SettingsError
from flywheel.project import load_project


def run_name() -> str:
    """The project, the flow and the time that it was meant for: digits nightly 2026-11-23 02:00."""
    start = flow_run.scheduled_start_time
    return f"{project_name()} {flow_run.flow_name} {start:%Y-%m-%d %H:%M}"


def project_name() -> str:
    """Of the run's project; where its settings cannot be read, the name of its folder."""
    directory = Path(str(flow_run.parameters["directory"]))
    try:
        return load_project(directory).name
    except SettingsError:  # the flow itself says what is wrong; here the run would stay pending
        return directory.name
