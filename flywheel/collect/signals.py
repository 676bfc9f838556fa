"""Computes signals: reasons to suspect a prediction, each with a strength in 0..1.

A confident answer that feedback contradicts is the strongest signal; low confidence alone is the
weakest.
"""

from __future__ import annotations

from collections.abc import Callable

from flywheel.faults import UNREADABLE
from flywheel.records import FeedbackKind, Json, Signal, same_json

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
