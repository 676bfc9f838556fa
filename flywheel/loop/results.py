"""What each step of a night came to; stored in the ledger, shown on the night's pages."""

from __future__ import annotations

from dataclasses import dataclass

from flywheel.records import Approval, Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployed:
    """The released model and what serves."""

    released_digest: str | None
    """None before the first release"""
    serving_digest: str | None
    """what the model server answered; None when it was not asked or did not answer"""
    swapped: bool
    """the server served something else before"""
    release_number: int | None = None
    """released now, since nobody had answered until the deadline of an approval"""
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Routed:
    """The batch of the night, and how far it got."""

    batch_id: str
    num_probability: int
    num_targeted: int
    population: int
    """samples from which the probability share was drawn"""
    num_sent: int
    """labeling tasks created now, those of earlier nights that had waited included"""
    num_waiting: int
    """labeling tasks that could not be sent and wait in the ledger"""
    num_gold: int = 0
    """samples whose answer is known, asked to measure people"""
    num_second: int = 0
    """second opinions, each worth more than a new sample"""
    num_suspects: int = 0
    """labels that the model contradicts, asked once more"""
    num_review: int = 0
    """samples in dispute that went to the experts"""
    num_withdrawn: int = 0
    """samples that no longer matter to the model that serves now"""
    project_url: str | None
    """page of the labeling project"""
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PulledLabels:
    """The annotations that came back, and the labels made of them."""

    num_annotations: int
    """new or changed"""
    num_skipped: int
    num_deleted: int
    num_refused: int
    """annotations that are no answers of the task; set aside with their reasons"""
    num_labels: int
    """new or changed"""
    num_disputed: int
    """samples whose annotators do not agree; they wait"""
    num_from_sensors: int
    """labels that sensors gave, new or changed; they only train"""
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Ingested:
    """The annotations that came back, and the dataset version made of them."""

    num_annotations: int
    """new or changed"""
    num_skipped: int
    num_deleted: int
    num_refused: int
    """annotations that are no answers of the task; set aside with their reasons"""
    num_labels: int
    """new or changed"""
    num_disputed: int
    """samples whose annotators do not agree; they wait"""
    dataset_id: str
    is_new: bool
    num_train: int
    num_test: int
    num_dropped: int
    """rows left out so that nothing crosses a split"""
    num_from_sensors: int = 0
    """labels that sensors gave, new or changed; they only train"""
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Retrained:
    """The candidate, if there is one."""

    candidate_digest: str | None
    """None: nothing new to train on"""
    device: str | None
    train_seconds: float
    losses: tuple[float, ...]
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """Where the night's numbers are."""

    report_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Decided:
    """The verdict; its reasons are in the decision."""

    decision_id: str
    verdict: Verdict
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Released:
    """What serves at the end of the night."""

    release_number: int | None
    """None: nothing was released"""
    serving_digest: str | None
    num_fixed: int
    """failures that the released model now answers right"""
    waits: Approval | None = None
    """what a person is asked before the candidate is released"""
    note: str
