"""The records of the loop: samples, predictions, failures, batches, labels, versions, weights, releases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from flywheel.records.basics import (
    Array,
    Consent,
    FailureState,
    FeedbackKind,
    Json,
    Purpose,
    Share,
    Split,
    content_id,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One production input."""

    id: str
    """SHA-256 of the payload"""
    payload: bytes = field(repr=False)
    media_type: str
    """as in Content-Type, image/png for one"""
    metadata: dict[str, Json] = field(default_factory=dict)
    """what the sender said about it: scene, session, device"""

    @classmethod
    def of(cls, payload: bytes, media_type: str, metadata: dict[str, Json] | None = None) -> Sample:
        """A sample from its bytes, with the id that they have."""
        return cls(
            id=content_id(payload), payload=payload, media_type=media_type, metadata=metadata or {}
        )


@dataclass(frozen=True, slots=True)
class Media:
    """A file that annotators see: a picture, a sound, a video, a document."""

    payload: bytes = field(repr=False)
    media_type: str
    """as in Content-Type, image/png for one"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Answer:
    """What a model says about one sample."""

    value: Json
    """the answer itself: a class name, a pose"""
    confidence: float
    """0..1, the model's own estimate of being right"""
    embedding: Array
    """(D,) float32, where the sample lies among the others"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Prediction:
    """What one model said about one sample, at one time."""

    id: str
    """the request id that the caller got"""
    sample_id: str
    answer: Json
    confidence: float
    """0..1"""
    embedding: Array = field(repr=False)
    """(D,) float32"""
    latency_ms: float
    """from the decoded request to the answer, in the serving process"""
    model_digest: str
    """digest of the checkpoint that answered"""
    created_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Feedback:
    """What the world said back about one prediction."""

    id: str
    prediction_id: str
    kind: FeedbackKind
    value: Json
    source: str = ""
    """the device, service or person that it comes from, as the caller names it"""
    created_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Signal:
    """One reason to suspect a prediction."""

    name: str
    """low_confidence, outcome_contradiction"""
    strength: float
    """0..1, 1 is the strongest suspicion"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A sample that the model seems to get wrong, and how far its fix has come."""

    sample_id: str
    prediction_id: str
    signals: tuple[Signal, ...]
    state: FailureState
    created_at: datetime

    @classmethod
    def seen(
        cls, sample_id: str, prediction_id: str, signals: Sequence[Signal], now: datetime
    ) -> Failure:
        """A failure that is suspected now."""
        return cls(
            sample_id=sample_id,
            prediction_id=prediction_id,
            signals=tuple(signals),
            state=FailureState.SEEN,
            created_at=now,
        )

    @property
    def strength(self) -> float:
        """0..1, of all signals together: 1 - prod(1 - strength)."""
        return 1.0 - float(np.prod([1.0 - signal.strength for signal in self.signals]))


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One sample of a batch, with the reason it was chosen."""

    sample_id: str
    prediction_id: str
    share: Share
    reason: str
    priority: float
    """0..1, 1 is labeled first"""
    inclusion_probability: float | None
    """of the Poisson draw, in (0, 1]; None for a targeted sample, which has none"""
    num_annotators: int = 1
    """annotators asked about it"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """The samples chosen for labeling at one time."""

    id: str
    choices: tuple[Choice, ...]
    night: int
    """whose labeling budget it spends"""
    population: int
    """new samples from which the probability share was drawn; 0: drawn from what earlier batches left"""
    mean_confidence: float | None = None
    """of the predictions of that population; None when it is empty"""
    least_probability: float | None = None
    """least inclusion probability that any of that population had; None when it is empty"""
    challengers: tuple[str, ...] = ()
    """the draw leant towards samples that one of these models answers otherwise than the champion;
    none: it did not lean"""
    champion_digest: str | None = None
    least_differing: float | None = None
    """least inclusion probability that any such sample had"""
    created_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotation:
    """One person's answer to one labeling task, as it stands now."""

    id: str
    sample_id: str
    annotator: str
    answer: Json
    """None when the person skipped the labeling task"""
    skipped: bool
    lead_time_seconds: float | None
    updated_at: datetime
    purpose: Purpose = Purpose.CHOICE


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """The consensus answer for one sample."""

    sample_id: str
    answer: Json
    reliability: float
    """0..1, the chance that the answer is right, given who gave it and how reliable they are; what
    the project trusts a sensor"""
    num_annotations: int
    source: str
    """annotators, sensor, imported, or start for the data that the project began with"""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetRow:
    """One labeled sample of a dataset version."""

    sample_id: str
    split: Split
    origin: str
    """start, imported, probability, targeted, sensor, worked or failed"""
    answer: Json
    """the label; the answer that the sample does not have, if its origin is failed"""
    weight: float
    """1 / inclusion probability for the probability share; the reliability of a sensor or of
    outcomes; else 1"""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetVersion:
    """An immutable manifest of labeled samples."""

    id: str
    """SHA-256 of the manifest"""
    parent_id: str | None
    num_train: int
    """rows that train and have a label; rows of outcomes are not counted"""
    num_test: int
    """rows of the frozen test set, all of the probability share"""
    num_start_test: int
    """held-out rows of the start data"""
    train_set_digest: str
    """SHA-256 of the rows that train"""
    test_set_digest: str
    """SHA-256 of the rows that test, the start data's included"""
    created_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """Weights and the record of what made them."""

    digest: str
    """SHA-256 of the weights file"""
    parent_digest: str | None
    """the checkpoint it was warm-started from"""
    dataset_id: str
    seed: int
    settings: dict[str, Json]
    """the [train] section that made it"""
    device: str
    """the device that trained it: cpu, or the GPU's name"""
    losses: tuple[float, ...]
    """mean training loss of each epoch"""
    recipe: str = ""
    """rows, steps and the choice of the best one, in a sentence; "" in old records"""
    train_seconds: float
    card_digest: str | None = None
    """SHA-256 of its card: code, versions, and answers to stored inputs; None: made without"""
    created_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """The pointer to the model that serves."""

    number: int
    checkpoint_digest: str
    previous_digest: str | None
    reason: str
    """the decision's id, or the name and reason of the person who rolled back"""
    threshold: float | None = None
    """confidence below which the server defers to the fallback; None: it always answers"""
    created_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Night:
    """One run of the loop."""

    number: int
    """counts from 0, the night that trains the first model"""
    started_at: datetime
    finished_at: datetime | None
    slot: datetime | None = None
    """the time of the schedule that it belongs to; None: begun by hand, or early"""
    is_early: bool = False
    """begun before its time, since enough labels were there"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Approval:
    """A person is asked whether a promoted candidate shall be released."""

    decision_id: str
    night: int
    asked_at: datetime
    deadline: datetime
    at_deadline: Consent
    """what counts when no answer has come by then"""
    answer: Consent | None = None
    """None: it waits"""
    answered_by: str | None = None
    reason: str | None = None
    answered_at: datetime | None = None
