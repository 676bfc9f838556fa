"""The collect stage: reads predictions and feedback after their watermarks and records failures.

It works in pieces. Each piece and its watermark are one transaction, so that a window of any size
needs little memory, and a killed run neither loses nor repeats anything.

A signal is a reason to suspect a prediction, with a strength in 0..1. A confident answer that feedback
contradicts is the strongest; low confidence alone is the weakest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from flywheel.collect.drift import Drift
from flywheel.faults import UNREADABLE
from flywheel.ledger import Ledger
from flywheel.ledger.failures import add_failures
from flywheel.ledger.windows import (
    Suspect,
    count_between,
    disputed,
    low_confidence,
    pieces,
    with_feedback,
)
from flywheel.records import Failure, FeedbackKind, Json, Signal, same_json

Agree = Callable[[Json, Json], bool]
"""whether two answers are the same to an annotator"""


def signals_of(
    answer: Json,
    confidence: float,
    feedback: tuple[str, Json] | None,
    low_confidence: float,
    agree: Agree = same_json,
) -> tuple[Signal, ...]:
    """Return all signals of one prediction and one piece of feedback on it.

    low_confidence: (threshold - confidence) / threshold below the threshold.
    outcome_contradiction: 1/2 + confidence / 2 when the outcome was a failure.
    correction: the same when a correction disagrees with the answer, or is not a valid answer.
    low_rating: 1 - rating when the rating is under 1/2.

    A confidence that rounding has moved outside 0..1 is clipped.
    """
    confidence = min(max(confidence, 0.0), 1.0)
    found = low_confidence_signals(confidence, low_confidence)
    if feedback is not None:
        kind, value = FeedbackKind(feedback[0]), feedback[1]
        if kind is FeedbackKind.CORRECTION:
            value = _same(value, answer, agree)
        found += _contradictions(confidence, kind, value)
    return tuple(found)


def low_confidence_signals(confidence: float, threshold: float) -> list[Signal]:
    """Return the low_confidence signal, if the confidence is low; see `signals_of`."""
    confidence = min(max(confidence, 0.0), 1.0)
    if confidence >= threshold:
        return []
    return [Signal(name="low_confidence", strength=(threshold - confidence) / threshold)]


def _contradictions(confidence: float, kind: FeedbackKind, value: Json) -> list[Signal]:
    """Return the signal of feedback; the value of a correction is whether it agrees."""
    surprise = 0.5 + 0.5 * confidence
    if kind is FeedbackKind.OUTCOME and value is False:
        return [Signal(name="outcome_contradiction", strength=surprise)]
    if kind is FeedbackKind.CORRECTION and not value:
        return [Signal(name="correction", strength=surprise)]
    if kind is FeedbackKind.RATING and value < 0.5:
        return [Signal(name="low_rating", strength=1.0 - float(value))]
    return []


def _same(correction: Json, answer: Json, agree: Agree) -> bool:
    try:
        # Some JSON writers write 1 for 1.0: these differ as text but are equal as numbers.
        return correction == answer or agree(correction, answer)
    except UNREADABLE:  # the correction is not a valid answer, so it differs from the given one
        return False


@dataclass(frozen=True, kw_only=True, slots=True)
class Collected:
    """Counts of one collection."""

    num_predictions: int
    """read for the first time"""
    num_feedback: int
    """read for the first time"""
    num_failures: int
    """new failures"""
    drift: Drift | None = None
    """how far production has moved since the model was new; None between nights"""


def collect(
    ledger: Ledger,
    threshold: float,
    night: int,
    now: datetime,
    agree: Agree = same_json,
    *,
    shadows_upto: int | None = None,
) -> Collected:
    """Record the failures among the predictions and feedback since the watermarks.

    A prediction is suspect when its confidence is under the threshold, or when feedback
    contradicts it, however late the feedback comes. `agree` is the task's: whether a correction
    and an answer are the same. Answers of the shadow are read up to `shadows_upto`, whose predictions
    the ledger has by then.
    """
    num_read, num_failures = Counter[str](), 0
    finders: dict[str, Callable[[Connection, int, int], Iterable[Suspect]]] = {
        "predictions": partial(low_confidence, threshold=threshold),
        "feedback": with_feedback,
    }
    for log, find in finders.items():
        for connection, after, upto in pieces(ledger, log, f"{log} collected"):
            failures = _failures(find(connection, after, upto), threshold, agree, now)
            num_failures += add_failures(connection, failures, night, now)
            num_read[log] += count_between(connection, log, after, upto)
    for connection, after, upto in pieces(ledger, "shadows", "shadows collected", shadows_upto):
        failures = _disputed(connection, after, upto, now)
        num_failures += add_failures(connection, failures, night, now)
    return Collected(
        num_predictions=num_read["predictions"],
        num_feedback=num_read["feedback"],
        num_failures=num_failures,
    )


def _disputed(connection: Connection, after: int, upto: int, now: datetime) -> list[Failure]:
    """Failures where a candidate in the shadow answered otherwise than the champion.

    shadow_disagreement: the confidence of the surer of the two; both cannot be right.
    """
    found = []
    for one in disputed(connection, after, upto):
        strength = min(max(one.confidence, 0.0), 1.0)
        signals = [Signal(name="shadow_disagreement", strength=strength)]
        found.append(Failure.seen(one.sample_id, one.prediction_id, signals, now))
    return found


def _failures(
    suspects: Iterable[Suspect], threshold: float, agree: Agree, now: datetime
) -> list[Failure]:
    found = []
    for suspect in suspects:
        answer, confidence = suspect.answer, suspect.confidence
        signals = signals_of(answer, confidence, suspect.feedback, threshold, agree)
        if signals:
            found.append(Failure.seen(suspect.sample_id, suspect.prediction_id, signals, now))
    return found
