"""Names of flow runs that read well in a list."""

from __future__ import annotations

from pathlib import Path

from prefect.runtime import flow_run

from flywheel.project import load_project


def run_name() -> str:
    """The project, the flow and the time that it was meant for: digits nightly 2026-11-23 02:00."""
    project = load_project(Path(str(flow_run.parameters["directory"])))
    start = flow_run.scheduled_start_time
    return f"{project.name} {flow_run.flow_name} {start:%Y-%m-%d %H:%M}"
