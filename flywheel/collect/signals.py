"""Reasons to suspect a prediction, each with a strength in 0..1.

Pure: numbers and answers in, signals out. A confident answer that the world contradicts is
the strongest reason there is; a low confidence alone is the weakest.
"""

from __future__ import annotations

from flywheel.records import FeedbackKind, Json, Signal, canonical


def signals_of(
    answer: Json, confidence: float, feedback: tuple[str, Json] | None, low_confidence: float
) -> tuple[Signal, ...]:
    """All signals of one prediction and one piece of feedback on it.

    low_confidence: (threshold - confidence) / threshold below the threshold.
    outcome_contradiction: 1/2 + confidence / 2 when the outcome was a failure.
    correction: the same when a correction differs from the answer.
    low_rating: 1 - rating when the rating is under 1/2.

    A confidence outside 0..1, as rounding makes them, counts as the nearer end.
    """
    confidence = min(max(confidence, 0.0), 1.0)
    found = []
    if confidence < low_confidence:
        strength = (low_confidence - confidence) / low_confidence
        found.append(Signal(name="low_confidence", strength=strength))
    if feedback is not None:
        found += _contradictions(answer, confidence, FeedbackKind(feedback[0]), feedback[1])
    return tuple(found)


def _contradictions(
    answer: Json, confidence: float, kind: FeedbackKind, value: Json
) -> list[Signal]:
    surprise = 0.5 + 0.5 * confidence
    if kind is FeedbackKind.OUTCOME and value is False:
        return [Signal(name="outcome_contradiction", strength=surprise)]
    if kind is FeedbackKind.CORRECTION and not _same(value, answer):
        return [Signal(name="correction", strength=surprise)]
    if kind is FeedbackKind.RATING and value < 0.5:
        return [Signal(name="low_rating", strength=1.0 - float(value))]
    return []


def _same(one: Json, other: Json) -> bool:
    # Many a JSON writer says 1 for 1.0: these differ as texts and are equal as numbers.
    return one == other or canonical(one) == canonical(other)
