"""The records that pass between the stages of the loop, all frozen.

A stage is a function from records to records. Nothing here knows where records are stored,
how a model is trained or who draws the labels.
"""

from __future__ import annotations

import enum
import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

Json = Any
"""What the json module reads and writes; answers and metadata are of this kind."""

Array = npt.NDArray[Any]


def content_id(payload: bytes) -> str:
    """The id of a payload: the SHA-256 of its bytes, in hexadecimal."""
    return hashlib.sha256(payload).hexdigest()


def canonical(value: Json) -> str:
    """The one JSON text of a value: keys sorted, no spaces; equal values give equal texts.

    Raises:
        ValueError: the value holds a NaN or an infinity, which JSON cannot say.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


class Share(enum.StrEnum):
    """Why a sample is in a batch: drawn with a known probability, or chosen because it is hard."""

    PROBABILITY = "probability"
    TARGETED = "targeted"


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
    """A sample that the model seems to get wrong, and how far its mending has come."""

    sample_id: str
    prediction_id: str
    signals: tuple[Signal, ...]
    state: FailureState
    created_at: datetime

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """The samples chosen for labeling at one time."""

    id: str
    choices: tuple[Choice, ...]
    night: int
    """whose labeling budget it spends"""
    population: int
    """samples from which the probability share was drawn"""
    mean_confidence: float | None = None
    """of the predictions of that population; None when it is empty"""
    least_probability: float | None = None
    """least inclusion probability that any of that population had; None when it is empty"""
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """The consensus answer for one sample."""

    sample_id: str
    answer: Json
    reliability: float
    """0..1, the share of annotators who gave this answer"""
    num_annotations: int
    source: str
    """annotators, or start for the data that the project began with"""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetRow:
    """One labeled sample of a dataset version."""

    sample_id: str
    split: Split
    origin: str
    """start, probability or targeted"""
    answer: Json
    weight: float
    """1 / inclusion probability for the probability share, else 1"""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetVersion:
    """An immutable manifest of labeled samples."""

    id: str
    """SHA-256 of the manifest"""
    parent_id: str | None
    num_train: int
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
    train_seconds: float
    created_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A number with its interval."""

    value: float
    low: float
    high: float
    num_samples: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One line of a report's table: who was measured, and what came out."""

    name: str
    kind: str
    """candidate, champion, scripted, simple ML, published, human or requirement"""
    metric: Estimate | None
    """None: not enough data to say"""
    note: str = ""
    is_fair: bool = True
    """False: shown, but no bound for the model: other data, split, metric, input or compute"""


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceComparison:
    """Candidate minus champion on one slice of the test set."""

    name: str
    difference: Estimate | None
    num_samples: int
    candidate: Estimate | None = None
    """the metric of the candidate on the slice"""
    champion: Estimate | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """A formula beside the metric: one that must keep a bound, or one that is ignored for now."""

    formula: str
    bound: float | None
    """None: ignored for now, told only"""
    is_upper: bool
    """True: the value must lie below the bound; lower is better"""
    candidate: Estimate | None
    champion: Estimate | None
    difference: Estimate | None
    """candidate minus champion, paired, in the direction that is better"""
    note: str = ""
    """why there is no number"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Challenge:
    """One candidate against one champion, on fresh labels, until it is decided or given up."""

    generation: int
    """of the test set, counted from 1; a spent one is renewed by fresh labels"""
    number: int
    """of this generation's challenges, counted from 1"""
    challenger_digest: str
    champion_digest: str
    alpha: float
    """its share of the lifetime error budget"""
    opened_night: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FreshOutcomes:
    """Paired outcomes on labels that no decision had seen before this challenge, in order."""

    gains: tuple[float, ...]
    """candidate minus champion on each sample, in the direction that is better"""
    scales: tuple[float, ...]
    """in (0, 1]: least inclusion probability that its draw could give / its own; makes the
    scaled gains speak of production"""
    is_bounded: bool
    """all gains lie in -1..1 by what the score is, not by chance"""
    num_new: int
    """outcomes that came tonight, the last ones"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Guarded:
    """Production failures that were fixed once, as regression cases."""

    num_cases: int
    num_kept: int
    """cases that the candidate answers right"""
    num_kept_by_champion: int
    num_lost: int
    """cases that the champion answers right and the candidate does not"""
    lost: tuple[str, ...]
    """their sample ids, 20 at most"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reuse:
    """How much the test set has been looked at."""

    num_test: int
    """labels that decisions have seen, tonight's included"""
    num_sealed: int
    """labels that no decision has seen; they wait for the next challenge"""
    mean_uses: float
    """decisions that saw a label, on average, tonight's included"""
    num_challenges: int
    """of this generation, tonight's included"""
    most_challenges: int
    """after which the test set is spent"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProductionEstimate:
    """The single metric in production, from the logged predictions of the probability share."""

    estimate: Estimate
    """Hajek's mean with Wilson's interval, or the weighted aggregate with a bootstrap"""
    assisted: Estimate | None
    """the same, tightened by the confidences of the unlabeled predictions"""
    naive: Estimate | None
    """what averaging all labels, the hard cases among them, would have claimed"""
    num_population: int
    """predictions that the share was drawn from"""
    first_night: int
    last_night: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RiskPoint:
    """One point of a risk-coverage curve: answer when the confidence is at least the threshold."""

    threshold: float
    coverage: float
    """0..1, share of production that is answered"""
    failure_rate: float
    """0..1, of what is answered"""
    failure_bound: float
    """its upper bound at the stated confidence"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Abstention:
    """When the candidate should defer to the fallback."""

    curve: tuple[RiskPoint, ...]
    """by falling threshold, 50 points at most"""
    max_failure_rate: float | None
    """what the product allows; None: nothing was asked for"""
    confidence: float
    """chance that the failure rate stays under it, 0.95 for one"""
    threshold: float | None
    """defer below it; None: no threshold keeps the failure rate, or nothing was asked for"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Every number measured on one candidate."""

    id: str
    night: int
    metric: str
    """the formula"""
    higher_is_better: bool
    metric_id: str
    """hash of all that defines the metric"""
    metric_settings: dict[str, Json]
    """the [metric] section that was measured"""
    candidate_digest: str | None
    """None when nothing new was trained"""
    champion_digest: str | None
    """None before the first release"""
    dataset_id: str
    test_set_digest: str
    challenge: Challenge | None
    no_challenge: str = ""
    """why there is none: no candidate, no champion, or too few fresh labels to open one"""
    entries: tuple[Entry, ...]
    """on the frozen test set"""
    start_entries: tuple[Entry, ...]
    """on the held-out start data"""
    parts: tuple[Entry, ...]
    """the judged model on train, start, seen (labels of earlier decisions) and fresh"""
    difference: Estimate | None
    """candidate minus champion on the frozen test set, paired, in the direction that is better"""
    start_difference: Estimate | None = None
    """the same on the held-out start data"""
    slices: tuple[SliceComparison, ...]
    watched: tuple[Watched, ...]
    fresh: FreshOutcomes | None
    guarded: Guarded | None
    reuse: Reuse
    production: ProductionEstimate | None
    abstention: Abstention | None
    latency_p95_ms: float | None
    """of the candidate, one sample at a time through the serving code"""
    seed: int
    """of the resampling, together with the night"""
    scores_digest: str
    """blob with the per-sample scores behind every number"""
    created_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What to do with a candidate, and every reason."""

    id: str
    night: int
    report_id: str
    verdict: Verdict
    reasons: tuple[str, ...]
    """the one that decided comes first"""
    e_value: float | None
    """evidence against "no gain" on fresh labels; None when no challenge is open"""
    needed_e_value: float | None
    """1 / alpha of the challenge"""
    closes_challenge: bool
    """promoted, rejected or given up: the next candidate may challenge"""
    gate_settings: dict[str, Json]
    """the [gate] section that was applied"""
    overrides: str | None = None
    """id of the gate's own decision, when a person decided otherwise"""
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
