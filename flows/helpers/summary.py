"""Publishes a night in Prefect's dashboard: its summary, the baselines, links and tags."""

from __future__ import annotations

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from flywheel.ledger.decisions import get_decision
from flywheel.ledger.reports import report_of_night
from flywheel.loop import NightRun
from flywheel.report import address, baseline_rows, file_dossier, night_page, write_report


def publish_report(night: NightRun) -> None:
    """Write the night's pages and publish its summary as artifacts of the run."""
    loop, project = night.loop, night.loop.project
    with loop.ledger.read() as connection:
        decision = get_decision(connection, night.number)
        report = report_of_night(connection, night.number)
    path = write_report(loop, night.number)
    if decision is not None:
        file_dossier(loop, decision.id)
    create_markdown_artifact(
        key=f"{project.name}-night",
        markdown=night_page(loop, night.number),
        description=f"{project.name}, night {night.number}: what happened",
    )
    if report is not None:
        create_table_artifact(
            key=f"{project.name}-baselines",
            table=baseline_rows(report),
            description=f"{project.name}, night {night.number}: {report.metric} of all models",
        )
    create_link_artifact(
        link=address(project, path.name),
        link_text=f"report of night {night.number}",
        key=f"{project.name}-report",
        description=f"{project.name}, night {night.number}: the page with every number",
    )
    tag_run("flywheel", project.name, *([decision.verdict.value] if decision else []))


def tag_run(*tags: str) -> None:
    """Add tags to the current flow run, so that runs can be found by their verdict."""
    if flow_run.id is None:
        return
    with get_client(sync_client=True) as client:
        known = client.read_flow_run(flow_run.id).tags
        client.update_flow_run(
            flow_run.id, tags=[*known, *(tag for tag in tags if tag not in known)]
        )
