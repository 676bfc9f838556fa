"""Names of flow runs that read well in a list."""

from __future__ import annotations

from pathlib import Path

from prefect.runtime import flow_run

from flywheel.errors import SettingsError
from flywheel.project import load_project


def run_name() -> str:
    """The project, the flow and the time that it was meant for: digits nightly 2026-11-23 02:00."""
    directory = Path(str(flow_run.parameters["directory"]))
    try:
        name = load_project(directory).name
    except SettingsError:  # the flow itself says what is wrong; here the run would stay pending
        name = directory.name
    return f"{name} {flow_run.flow_name} {flow_run.scheduled_start_time:%Y-%m-%d %H:%M}"
