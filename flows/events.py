"""What the model server tells Prefect: an event when enough hard samples are waiting."""

from __future__ import annotations

from collections.abc import Callable

from prefect.events import emit_event

HARD_SAMPLES_WAITING = "flywheel.hard-samples-waiting"


def hard_samples_event(project_name: str) -> Callable[[int], None]:
    """A callable for the model server; the event starts a label-hard-cases run."""

    def emit(num_samples: int) -> None:
        emit_event(
            event=HARD_SAMPLES_WAITING,
            resource={"prefect.resource.id": f"flywheel.project.{project_name}"},
            payload={"num_samples": num_samples},
        )

    return emit
