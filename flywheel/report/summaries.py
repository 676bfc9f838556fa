"""What a step came to in one sentence, and the stored result of every step of a night.

Shared by all pages, so that they say the same. Knows the results, not how they came about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection

from flywheel.collect import Collected, Drift
from flywheel.ledger.codec import from_json
from flywheel.ledger.nights import finished_steps
from flywheel.loop.results import (
    Decided,
    Deployed,
    Evaluated,
    Ingested,
    Released,
    Retrained,
    Routed,
)
from flywheel.report import text

STEP_NAMES = (
    "deploy",
    "collect",
    "route",
    "ingest",
    "retrain",
    "evaluate",
    "decide",
    "release",
)

_KINDS: Mapping[str, type[Any]] = dict(
    zip(
        STEP_NAMES,
        (Deployed, Collected, Routed, Ingested, Retrained, Evaluated, Decided, Released),
        strict=True,
    )
)


def step_results(connection: Connection, night: int) -> dict[str, tuple[Any, float]]:
    """The result and the seconds of each finished step that is known by name."""
    return {
        name: (from_json(_KINDS[name], step.result), step.seconds)
        for name, step in finished_steps(connection, night).items()
        if name in _KINDS
    }


def summarize(name: str, result: Any) -> str:
    """One sentence; what it means is on the step's own page."""
    return _SENTENCES[name](result)


def drift_line(drift: Drift | None) -> str:
    """Whether production looks otherwise than when the model was new; one sentence."""
    if drift is None or drift.distance is None or drift.low is None:
        return f"{text.NOT_ENOUGH}; it takes two nights of one model with predictions enough"
    distance = f"{drift.distance:.2f} (surely by {drift.low:.2f})"
    if drift.is_alarm:
        return (
            f"production drifts: {drift.feature} has moved by {distance} from when the model was "
            "new; new labels would tell whether it matters"
        )
    return f"no drift that matters: {drift.feature} has moved most, by {distance}"


def falls_short(result: Any) -> bool:
    """Whether a step did without something: a server did not answer, or a canary failed."""
    match result:
        case Deployed():
            return result.released_digest is not None and result.serving_digest is None
        case Routed() | Ingested():
            return result.note != ""
        case Released():
            return result.release_number is None and "canary failed" in result.note
    return False


def _deploy(result: Deployed) -> str:
    if result.serving_digest is None:
        return result.note
    return f"{text.digest(result.serving_digest)} serves; {result.note}"


def _collect(result: Collected) -> str:
    said = (
        f"{result.num_failures:,} new failures in {result.num_predictions:,} predictions "
        f"and {result.num_feedback:,} feedback"
    )
    is_alarm = result.drift is not None and result.drift.is_alarm
    return f"{said}; {drift_line(result.drift)}" if is_alarm else said


def _route(result: Routed) -> str:
    besides = (
        (result.num_gold, "gold"),
        (result.num_second, "second opinions"),
        (result.num_suspects, "labels in doubt"),
        (result.num_review, "to the experts"),
        (result.num_withdrawn, "withdrawn"),
    )
    said = (
        f"{result.num_probability} drawn from {result.population:,} samples, "
        f"{result.num_targeted} targeted"
        + "".join(f", {number} {what}" for number, what in besides if number)
        + f"; {result.num_sent} sent, {result.num_waiting} wait"
    )
    return f"{said}; {result.note}" if result.note else said


def _ingest(result: Ingested) -> str:
    sensors = f", {result.num_from_sensors} from sensors" if result.num_from_sensors else ""
    said = (
        f"{result.num_annotations} annotations, {result.num_labels} labels{sensors}; dataset version "
        f"{text.digest(result.dataset_id)}: {result.num_train:,} train, {result.num_test:,} test"
    )
    return f"{said}; {result.note}" if result.note else said


def _retrain(result: Retrained) -> str:
    if result.device is None:
        return result.note
    took = text.duration(result.train_seconds)
    return f"candidate {text.digest(result.candidate_digest)}, {result.note}, {took} on {result.device}"


def _evaluate(result: Evaluated) -> str:
    return f"report {text.digest(result.report_id)}"


def _decide(result: Decided) -> str:
    return f"{result.verdict.value}: {result.reasons[0]}"


def _release(result: Released) -> str:
    if result.release_number is None:
        return result.note
    return f"release {result.release_number}; {result.num_fixed} failures now answered right"


_SENTENCES: Mapping[str, Callable[[Any], str]] = {
    "deploy": _deploy,
    "collect": _collect,
    "route": _route,
    "ingest": _ingest,
    "retrain": _retrain,
    "evaluate": _evaluate,
    "decide": _decide,
    "release": _release,
}
