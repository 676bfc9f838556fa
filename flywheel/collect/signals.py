"""Reasons to suspect a prediction, each with a strength in 0..1.

Pure: numbers and answers in, signals out. A confident answer that the world contradicts is
the strongest reason there is; a low confidence alone is the weakest.
"""

from __future__ import annotations

from collections.abc import Callable

from flywheel.faults import UNREADABLE
from flywheel.records import FeedbackKind, Json, Signal, same_json

Agree = Callable[[Json, Json], bool]
"""whether two answers are the same for all that people can tell"""


def signals_of(
    answer: Json,
    confidence: float,
    feedback: tuple[str, Json] | None,
    low_confidence: float,
    agree: Agree = same_json,
) -> tuple[Signal, ...]:
    """All signals of one prediction and one piece of feedback on it.

    low_confidence: (threshold - confidence) / threshold below the threshold.
    outcome_contradiction: 1/2 + confidence / 2 when the outcome was a failure.
    correction: the same when a correction does not agree with the answer, or is none of the task.
    low_rating: 1 - rating when the rating is under 1/2.

    A confidence outside 0..1, as rounding makes them, counts as the nearer end.
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
    """The signal of a confidence alone, if it is one: see `signals_of`."""
    confidence = min(max(confidence, 0.0), 1.0)
    if confidence >= threshold:
        return []
    return [Signal(name="low_confidence", strength=(threshold - confidence) / threshold)]


def _contradictions(confidence: float, kind: FeedbackKind, value: Json) -> list[Signal]:
    """The value of a correction is whether it agrees with the answer."""
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
        # Many a JSON writer says 1 for 1.0: these differ as texts and are equal as numbers.
        return correction == answer or agree(correction, answer)
    except UNREADABLE:  # no answer of the task, and so not the one that was given
        return False
