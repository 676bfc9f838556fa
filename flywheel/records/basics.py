"""What every record is made of: JSON, arrays, ids by content, and the few words with fixed values."""

from __future__ import annotations

import enum
import hashlib
import json
import sys
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import numpy.typing as npt

Json = Any
"""What the json module reads and writes; answers and metadata are of this kind."""

Array = npt.NDArray[Any]

SENSOR = "sensor"
"""source of a label and origin of a row that no person gave: it only trains"""

WORKED, FAILED = "worked", "failed"
"""origins of rows with a model's own answer and its outcome: it worked, or this is not the answer"""

TRAIN_ONLY = frozenset({SENSOR, WORKED, FAILED})
"""origins of rows that no annotator has labeled"""

IMPORTED = "imported"
"""source of a label from a file, and origin of its row where it trains; where it is held out, its row
is one of the start data"""

ANNOTATORS = "annotators"
"""source of a label that annotators gave"""


def content_id(payload: bytes) -> str:
    """The id of a payload: the SHA-256 of its bytes, in hexadecimal."""
    return hashlib.sha256(payload).hexdigest()


def canonical(value: Json) -> str:
    """The one JSON text of a value: keys sorted, no spaces; equal values give equal texts.

    Raises:
        ValueError: the value holds a NaN or an infinity, which JSON cannot say.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def same_json(one: Json, other: Json) -> bool:
    """Whether two values are equal JSON: 1 and 1.0 are not, and the order of keys is nothing."""
    return canonical(one) == canonical(other)


def is_storable(value: Json) -> bool:
    """Whether databases store a value as JSON: no NaN, no infinity, no NUL, nothing but JSON."""
    if isinstance(value, str):
        return "\0" not in value
    try:
        return "\\u0000" not in canonical(value)
    except (TypeError, ValueError, RecursionError):
        return False


def is_number(value: Json) -> TypeGuard[float]:
    """Whether a value is a finite number that fits a float; True and False are not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max  # math.isfinite fails on an int of hundreds of digits


@dataclass(frozen=True, kw_only=True, slots=True)
class Webhook:
    """Where a labeling server shall send its events."""

    url: str
    secret: str = field(repr=False)
    """value of the header X-Flywheel-Secret"""


class Consent(enum.StrEnum):
    """What became of a question whether a promoted candidate shall be released."""

    APPROVE = "approve"
    DECLINE = "decline"
    SUPERSEDED = "superseded"
    """a newer question took its place, or another model has been released since"""


class Share(enum.StrEnum):
    """Why a sample is in a batch: drawn with a known probability, or chosen because it is hard."""

    PROBABILITY = "probability"
    TARGETED = "targeted"


class Purpose(enum.StrEnum):
    """Why annotators are asked about a sample."""

    CHOICE = "choice"
    """it was chosen for labeling"""
    GOLD = "gold"
    """its answer is known: it measures annotators, and its label stays"""
    REVIEW = "review"
    """to the experts: annotators dispute it, or the model contradicts its label"""
    ADOPTED = "adopted"
    """by others, in a project that is not ours; the answers count"""


class Split(enum.StrEnum):
    """Where a sample may be used; fixed by its group before anyone has looked at it."""

    TRAIN = "train"
    TEST = "test"


class FailureState(enum.StrEnum):
    """The life of a failure, in order."""

    SEEN = "seen"
    QUEUED = "queued"
    LABELED = "labeled"
    TRAINED_ON = "trained on"
    FIXED = "fixed"
    GUARDED = "guarded"


class FeedbackKind(enum.StrEnum):
    """What the world can say back about a prediction."""

    OUTCOME = "outcome"
    """true: the answer worked; false: it failed"""
    CORRECTION = "correction"
    """the right answer"""
    RATING = "rating"
    """0..1"""


class Verdict(enum.StrEnum):
    """What the gate says of a candidate."""

    PROMOTE = "PROMOTE"
    HOLD = "HOLD"
    REJECT = "REJECT"
    NO_VERDICT = "NO-VERDICT"
