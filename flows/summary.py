"""The night's report: a page that the model server shows, and its link in the dashboard."""

from __future__ import annotations

from prefect.artifacts import create_link_artifact, create_markdown_artifact

from flywheel.loop import NightRun
from flywheel.report import night_page, write_report


def publish_report(night: NightRun) -> None:
    """Write the night's page and put its summary and link where a person looks in the morning."""
    project = night.loop.project
    path = write_report(night.loop, night.number)
    create_markdown_artifact(
        key=f"{project.name}-night",
        markdown=night_page(night.loop, night.number),
        description=f"{project.name}, night {night.number}: what happened",
    )
    create_link_artifact(
        link=f"{project.server_url}/reports/{path.name}",
        link_text=f"report of night {night.number}",
        key=f"{project.name}-report",
    )
