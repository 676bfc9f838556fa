"""What a person needs who is asked for approval: the dossier, and a default at the deadline."""

from __future__ import annotations

from prefect.artifacts import create_link_artifact
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.states import Scheduled

from flywheel.loop import Loop
from flywheel.loop.approval import DEADLINE
from flywheel.loop.results import Released
from flywheel.records import Approval
from flywheel.report.asked import write_asked_dossier


def want_approval(loop: Loop, released: Released) -> None:
    """Put the dossier where the form's reader finds it, and plan the run at the deadline."""
    if released.waits is None:
        return
    create_link_artifact(
        link=write_asked_dossier(loop, released.waits),
        link_text=f"dossier of decision {released.waits.decision_id[:12]}",
        key=f"{loop.project.name}-approval",
        description="a decision waits for approval: Quick run of the release deployment answers it",
    )
    _plan_deadline(loop, released.waits)


def _plan_deadline(loop: Loop, waits: Approval) -> None:
    """Plan a run of release, once; where nothing is scheduled the next night looks."""
    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(f"release/{loop.project.name}")
        except ObjectNotFound:
            return
        client.create_flow_run_from_deployment(
            deployment.id,
            parameters={
                **deployment.parameters,
                "answer": waits.at_deadline.value,
                "decision": waits.decision_id,
                "name": DEADLINE,
                "reason": "nobody had answered",
            },
            state=Scheduled(scheduled_time=waits.deadline),
            idempotency_key=f"deadline of {waits.decision_id}",
        )
