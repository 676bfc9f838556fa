"""Events for Prefect: the model server emits that something waits, each step emits its result.

An event is a hint. A flow that an event starts asks the ledger first, so an event that is lost or
sent twice does no harm. No step fails because Prefect did not accept its event.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
from prefect.client.orchestration import get_client
from prefect.events import Event, emit_event
from prefect.exceptions import MissingContextError
from prefect.logging import get_logger, get_run_logger

from flywheel.collect import Collected
from flywheel.handover import describe_handover
from flywheel.ledger.releases import current_release, get_handover
from flywheel.loop import Loop, NightRun
from flywheel.loop.results import Decided, Deployed, PulledLabels, Released, Routed
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
RELEASE_OVERDUE = "flywheel.release-overdue"
DRIFT = "flywheel.drift"
BUDGET_SPENT = "flywheel.budget-spent"


class Emitted(NamedTuple):
    """One event before it is sent."""

    event: str
    payload: dict[str, Any]
    labels: dict[str, str] = {}  # noqa: RUF012 - a constant
    """of the resource, besides its id"""


def emit(run: NightRun, result: Any) -> None:
    """Send Prefect the events that follow from the result of a step; many results have none."""
    _send(run.loop.project.name, list(_emitted(run, result)))


def release_changed(project_name: str, release: Release) -> None:
    """Send Prefect the event that another model serves, when no step of a night released it."""
    payload = {"release": release.number, "why": release.reason}
    _send(project_name, [Emitted(RELEASE_CHANGED, payload)])


def hard_samples_wait(project_name: str, num_samples: int) -> None:
    """Send Prefect the event that starts a label-hard-cases run."""
    emit_event(
        event=HARD_SAMPLES_WAITING,
        resource=_resource(project_name),
        payload={"num_samples": num_samples},
    )


def annotations_wait(project_name: str, num_events: int) -> None:
    """Send Prefect the event that starts an ingest-labels run.

    Returns when Prefect has the event and raises when it has not, so that the model server
    sends it again: after the last annotation of the day no other event follows.
    """
    _post(project_name, [Emitted(ANNOTATIONS_WAITING, {"num_events": num_events})])


def _emitted(run: NightRun, result: Any) -> Iterator[Emitted]:
    """The events of a step. A night never emits "enough labels": it trains on them itself."""
    night = {"night": run.number}
    if isinstance(result, Collected) and result.num_predictions:
        counts = {"num_predictions": result.num_predictions, "num_failures": result.num_failures}
        yield Emitted(SAMPLES_COLLECTED, night | counts)
    if isinstance(result, Collected) and result.drift is not None and result.drift.is_alarm:
        found = result.drift
        distance = {"feature": found.feature, "distance": found.distance, "low": found.low}
        yield Emitted(DRIFT, night | distance)
    if isinstance(result, Routed):
        for budget in spent_budgets(run):
            yield Emitted(BUDGET_SPENT, night | {"budget": budget}, {"flywheel.budget": budget})
    if isinstance(result, PulledLabels) and result.num_labels:
        yield Emitted(LABELS_COMPLETED, night | {"num_labels": result.num_labels})
    if type(result) is PulledLabels and not why_not_early(run.loop):
        yield Emitted(ENOUGH_LABELS, {"enough": run.loop.project.train.enough_labels})
    if isinstance(result, Decided):
        decided = {"decision": result.decision_id, "verdict": str(result.verdict)}
        yield Emitted(DECISION_MADE, night | decided)
    if isinstance(result, Deployed):
        yield from _deployed(run.loop, result)
    if isinstance(result, Released):
        yield from _released(result, night)


def _released(result: Released, night: dict[str, Any]) -> Iterator[Emitted]:
    if result.release_number is not None:
        why = f"night {night['night']}: {result.note}"
        yield Emitted(RELEASE_CHANGED, {"release": result.release_number, "why": why})
    if (waits := result.waits) is not None:
        deadline = f"{waits.deadline:%Y-%m-%d %H:%M} UTC"
        asked = {"decision": waits.decision_id, "deadline": deadline}
        yield Emitted(APPROVAL_WANTED, night | asked)


def _deployed(loop: Loop, result: Deployed) -> Iterator[Emitted]:
    if result.release_number is not None:
        yield Emitted(RELEASE_CHANGED, {"release": result.release_number, "why": result.note})
    if not loop.project.is_external:
        return
    with loop.ledger.read() as connection:
        release = current_release(connection)
        handover = get_handover(connection, release.number) if release is not None else None
    now = loop.now()
    if release is not None and handover is not None and handover.state(now) == "overdue":
        why = describe_handover(release, handover, now)
        yield Emitted(RELEASE_OVERDUE, {"release": release.number, "why": why})


def _send(project_name: str, emitted: list[Emitted]) -> None:
    if not emitted:
        return
    try:
        _post(project_name, emitted)
    except httpx.HTTPError as error:
        _log().warning(
            "Prefect did not accept %s (%r); nothing is lost, the next night finds the same in the "
            "ledger",
            ", ".join(entry.event for entry in emitted),
            error,
        )


def _post(project_name: str, emitted: list[Emitted]) -> None:
    events = [
        Event(
            event=entry.event,
            resource=_resource(project_name) | entry.labels,
            payload=entry.payload,
        )
        for entry in emitted
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
