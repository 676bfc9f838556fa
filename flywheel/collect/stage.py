"""The collect stage: reads predictions and feedback after their watermarks and records failures.

It works in pieces. Each piece and its watermark are one transaction, so that a window of any size
needs little memory, and a killed run neither loses nor repeats anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from flywheel.collect.drift import Drift
from flywheel.collect.signals import Agree, signals_of
from flywheel.ledger import Ledger
from flywheel.ledger.failures import add_failures
from flywheel.ledger.windows import (
    Suspect,
    count_between,
    latest,
    low_confidence,
    move_watermark,
    watermark,
    with_feedback,
)
from flywheel.records import Failure, FailureState, same_json

_PIECE = 20_000


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
    ledger: Ledger, threshold: float, night: int, now: datetime, agree: Agree = same_json
) -> Collected:
    """Record the failures among the predictions and feedback since the watermarks.

    A prediction is suspect when its confidence is under the threshold, or when feedback
    contradicts it, however late the feedback comes. `agree` is the task's: whether a correction
    and an answer are the same.
    """
    num_predictions = num_feedback = num_failures = 0
    for connection, after, upto in _pieces(ledger, "predictions"):
        suspects = low_confidence(connection, after, upto, threshold)
        failures = _failures(suspects, threshold, agree, now)
        num_failures += add_failures(connection, failures, night, now)
        num_predictions += count_between(connection, "predictions", after, upto)
    for connection, after, upto in _pieces(ledger, "feedback"):
        suspects = with_feedback(connection, after, upto)
        failures = _failures(suspects, threshold, agree, now)
        num_failures += add_failures(connection, failures, night, now)
        num_feedback += count_between(connection, "feedback", after, upto)
    return Collected(
        num_predictions=num_predictions, num_feedback=num_feedback, num_failures=num_failures
    )


def _pieces(ledger: Ledger, log: str) -> Iterator[tuple[Connection, int, int]]:
    """Yield windows (after, upto] of a log, each in a transaction that also moves the watermark."""
    with ledger.read() as connection:
        end = latest(connection, log)
    mark = f"{log} collected"
    while True:
        with ledger.begin() as connection:
            after = watermark(connection, mark)
            if after >= end:
                return
            upto = min(after + _PIECE, end)
            yield connection, after, upto
            move_watermark(connection, mark, upto)


def _failures(
    suspects: Iterable[Suspect], threshold: float, agree: Agree, now: datetime
) -> list[Failure]:
    found = []
    for suspect in suspects:
        answer, confidence = suspect.answer, suspect.confidence
        signals = signals_of(answer, confidence, suspect.feedback, threshold, agree)
        if signals:
            failure = Failure(
                sample_id=suspect.sample_id,
                prediction_id=suspect.prediction_id,
                signals=signals,
                state=FailureState.SEEN,
                created_at=now,
            )
            found.append(failure)
    return found
