"""Asks a person for approval: the dossier, the form, and a default answer at the deadline."""

from __future__ import annotations

from uuid import UUID

from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.states import Scheduled

from flows.registration.manifests import form_address
from flywheel.loop import Loop
from flywheel.loop.approval import DEADLINE
from flywheel.loop.results import Released
from flywheel.records import Approval
from flywheel.report.dossier import write_asked_dossier


def want_approval(loop: Loop, released: Released) -> None:
    """Publish the dossier with a link to the form, and plan the run at the deadline."""
    if released.waits is None:
        return
    waits, project = released.waits, loop.project
    dossier = write_asked_dossier(loop, waits)
    deployment = _plan_deadline(loop, waits)
    answer = (
        f"flywheel approve {project.directory} --name YOU --reason WHY"
        if deployment is None
        else f"[the form, with your name and why]({form_address(project, deployment)})"
    )
    create_markdown_artifact(
        key=f"{project.name}-approval",
        markdown=(
            f"# A decision waits for a person\n\nUntil {waits.deadline:%Y-%m-%d %H:%M} UTC, then: "
            f"{waits.at_deadline.value}.\n\n- Read: [the dossier of decision "
            f"{waits.decision_id[:12]}]({dossier})\n- Answer: {answer}\n"
        ),
        description="a decision waits for approval: its dossier, and the form that answers it",
    )


def _plan_deadline(loop: Loop, waits: Approval) -> UUID | None:
    """Plan a run of release, once; where nothing is scheduled, the next night checks the deadline.

    Returns:
        The deployment whose form answers; None when nothing is scheduled.
    """
    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(f"release/{loop.project.name}")
        except ObjectNotFound:
            return None
        client.create_flow_run_from_deployment(
            deployment.id,
            parameters={
                **deployment.parameters,
                "answer": waits.at_deadline.value,
                "decision": waits.decision_id,
                "name": DEADLINE,
                "reason": "no answer before the deadline",
            },
            state=Scheduled(scheduled_time=waits.deadline),
            idempotency_key=f"deadline of {waits.decision_id}",
        )
    return deployment.id
