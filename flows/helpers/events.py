"""What Prefect is told: by the model server that something waits, by each step what it came to.

An event is a hint. Whoever acts on one asks the ledger first, so an event that is lost or told
twice does no harm; and no step fails because Prefect did not take its event.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import httpx
from prefect.client.orchestration import get_client
from prefect.events import Event, emit_event
from prefect.exceptions import MissingContextError
from prefect.logging import get_logger, get_run_logger

from flywheel.collect import Collected
from flywheel.loop import NightRun
from flywheel.loop.results import Decided, Deployed, Ingested, Released, Routed, TakenIn
from flywheel.loop.retrain import why_not_early
from flywheel.loop.routing import spent_budgets
from flywheel.records import Release

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

Told = tuple[str, dict[str, Any], dict[str, str]]
"""event, payload, labels of the resource beside its id"""


def tell(run: NightRun, result: Any) -> None:
    """Tell Prefect what a step came to, as far as others may wait for it."""
    _send(run.loop.project.name, list(_told(run, result)))


def release_changed(project_name: str, release: Release) -> None:
    """Tell Prefect that another model serves, when no step of a night made it so."""
    payload = {"release": release.number, "why": release.reason}
    _send(project_name, [(RELEASE_CHANGED, payload, {})])


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
    """A callable for the model server; the event starts an ingest-labels run.

    It returns when Prefect has the event and raises when it has not, so that the model server
    tells it again: the last annotation of the day has no other one behind it.
    """

    def post(num_events: int) -> None:
        _post(project_name, [(ANNOTATIONS_WAITING, {"num_events": num_events}, {})])

    return post


def _told(run: NightRun, result: Any) -> Iterator[Told]:
    """The events of a step. A night never tells of enough labels: it trains on them itself."""
    night = {"night": run.number}
    if isinstance(result, Collected) and result.num_predictions:
        counts = {"num_predictions": result.num_predictions, "num_failures": result.num_failures}
        yield SAMPLES_COLLECTED, night | counts, {}
    if isinstance(result, Collected) and result.drift is not None and result.drift.is_alarm:
        found = result.drift
        distance = {"feature": found.feature, "distance": found.distance, "low": found.low}
        yield DRIFT, night | distance, {}
    if isinstance(result, Routed):
        for budget in spent_budgets(run):
            yield BUDGET_SPENT, night | {"budget": budget}, {"flywheel.budget": budget}
    if isinstance(result, TakenIn | Ingested) and result.num_labels:
        yield LABELS_COMPLETED, night | {"num_labels": result.num_labels}, {}
    if isinstance(result, TakenIn) and not why_not_early(run.loop):
        yield ENOUGH_LABELS, {"enough": run.loop.project.train.enough_labels}, {}
    if isinstance(result, Decided):
        decided = {"decision": result.decision_id, "verdict": str(result.verdict)}
        yield DECISION_MADE, night | decided, {}
    if isinstance(result, Deployed) and result.release_number is not None:
        yield RELEASE_CHANGED, {"release": result.release_number, "why": result.note}, {}
    if isinstance(result, Released):
        yield from _released(result, night)


def _released(result: Released, night: dict[str, Any]) -> Iterator[Told]:
    if result.release_number is not None:
        why = f"night {night['night']}: {result.note}"
        yield RELEASE_CHANGED, {"release": result.release_number, "why": why}, {}
    if (waits := result.waits) is not None:
        deadline = f"{waits.deadline:%Y-%m-%d %H:%M} UTC"
        asked = {"decision": waits.decision_id, "deadline": deadline}
        yield APPROVAL_WANTED, night | asked, {}


def _send(project_name: str, told: list[Told]) -> None:
    if not told:
        return
    try:
        _post(project_name, told)
    except httpx.HTTPError as error:
        names = ", ".join(event for event, _, _ in told)
        _log().warning(
            "Prefect did not take %s (%r); nothing is lost, whoever waits for it looks in the "
            "ledger at the next night",
            names,
            error,
        )


def _post(project_name: str, told: list[Told]) -> None:
    events = [
        Event(event=event, resource=_resource(project_name) | labels, payload=payload)
        for event, payload, labels in told
    ]
    with get_client(sync_client=True) as client:
        body = [event.model_dump(mode="json") for event in events]
        client.request("POST", "/events", json=body).raise_for_status()


def _log() -> logging.Logger | logging.LoggerAdapter[Any]:
    try:
        return get_run_logger()
    except MissingContextError:
        return get_logger(__name__)


def _resource(project_name: str) -> dict[str, str]:
    return {"prefect.resource.id": f"flywheel.project.{project_name}"}
