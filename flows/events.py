"""What the model server tells Prefect: hard samples are waiting, or annotations are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect.client.orchestration import get_client
from prefect.events import Event, emit_event

from flywheel.loop import NightRun

SAMPLES_COLLECTED = "flywheel.samples-collected"
HARD_SAMPLES_WAITING = "flywheel.hard-samples-waiting"
ANNOTATIONS_WAITING = "flywheel.annotations-waiting"
LABELS_COMPLETED = "flywheel.labels-completed"
ENOUGH_LABELS = "flywheel.enough-labels"
DECISION_MADE = "flywheel.decision-made"
APPROVAL_WANTED = "flywheel.approval-wanted"
RELEASE_CHANGED = "flywheel.release-changed"
DRIFT = "flywheel.drift"
BUDGET_SPENT = "flywheel.budget-spent"


def tell(run: NightRun, result: Any) -> None:
    """Tell Prefect what a step came to, as far as others may wait for it."""


def hard_samples_event(project_name: str) -> Callable[[int], None]:
    """A callable for the model server; the event starts a label-hard-cases run."""

    def emit(num_samples: int) -> None:
        emit_event(
            event=HARD_SAMPLES_WAITING,
            resource=_resource(project_name),
            payload={"num_samples": num_samples},
        )

    return emit


def annotations_event(project_name: str) -> Callable[[int], None]:
    """A callable for the model server; the event starts a ingest-labels run.

    It returns when Prefect has the event and raises when it has not, so that the model server
    tells it again: the last annotation of the day has no other one behind it.
    """

    def post(num_events: int) -> None:
        event = Event(
            event=ANNOTATIONS_WAITING,
            resource=_resource(project_name),
            payload={"num_events": num_events},
        )
        with get_client(sync_client=True) as client:
            body = [event.model_dump(mode="json")]
            client.request("POST", "/events", json=body).raise_for_status()

    return post


def _resource(project_name: str) -> dict[str, str]:
    return {"prefect.resource.id": f"flywheel.project.{project_name}"}
