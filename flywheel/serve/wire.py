"""The JSON that goes over the wire to and from the model server."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictStr, model_validator

from flywheel.records import FeedbackKind, Json, canonical

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 in hexadecimal; nothing else may become a part of a path"""

_MOST_SAMPLES = 1000


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FeedbackBody(_Body):
    """POST /feedback."""

    request_id: StrictStr
    kind: FeedbackKind
    value: Json
    """outcome: true or false; rating: a number in 0..1; correction: the right answer"""

    @model_validator(mode="after")
    def _value_fits_kind(self) -> FeedbackBody:
        if not _fits(self.kind, self.value):
            raise ValueError(
                f"{self.kind} has the value {self.value!r}; send true or false for an outcome, "
                "a number in 0..1 for a rating, the right answer as JSON for a correction"
            )
        return self


class ModelBody(_Body):
    """POST /model."""

    digest: Digest
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    """confidence below which its answers say defer; None: never"""


class CanaryBody(_Body):
    """POST /model/canary."""

    digest: Digest
    sample_ids: Annotated[list[Digest], Field(max_length=_MOST_SAMPLES)]


class CanaryAnswer(_Body):
    """What a candidate says about one stored sample."""

    sample_id: str
    answer: Json
    confidence: float
    """0..1"""
    latency_ms: float
    """of this sample alone"""


def _fits(kind: FeedbackKind, value: Json) -> bool:
    if kind is FeedbackKind.OUTCOME:
        return isinstance(value, bool)
    if kind is FeedbackKind.RATING:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and 0 <= value <= 1
    return value is not None and _is_json(value)


def _is_json(value: Json) -> bool:
    try:
        canonical(value)
    except ValueError:  # NaN and infinity, which Python's parser lets through
        return False
    return True
