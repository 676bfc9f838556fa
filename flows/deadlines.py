"""The run that applies the default when nobody has answered by the deadline of an approval."""

from __future__ import annotations

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.states import Scheduled

from flywheel.loop import Loop
from flywheel.loop.approval import DEADLINE
from flywheel.loop.results import Released


def plan_deadline(loop: Loop, released: Released) -> None:
    """Plan a run of release for the deadline, once; without that deployment the next night looks."""
    waits = released.waits
    if waits is None:
        return
    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(f"release/{loop.project.name}")
        except ObjectNotFound:
            return
        client.create_flow_run_from_deployment(
            deployment.id,
            parameters={
                **deployment.parameters,
                "answer": waits.at_deadline,
                "decision": waits.decision_id,
                "name": DEADLINE,
                "reason": "nobody had answered",
            },
            state=Scheduled(scheduled_time=waits.deadline),
            idempotency_key=f"deadline of {waits.decision_id}",
        )
