"""The result records of the steps of a night; stored in the ledger, shown on the night's pages."""

from __future__ import annotations

from dataclasses import dataclass

from flywheel.annotate.pull import sums
from flywheel.records import Approval, Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployed:
    """The released model and what serves."""

    released_digest: str | None
    """None before the first release"""
    serving_digest: str | None
    """as answered by the model server; None when it was not asked or did not answer"""
    swapped: bool
    """whether the server served another model before"""
    release_number: int | None = None
    """released in this step, because the deadline of an approval passed without an answer"""
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
    """labeling tasks created now, including those of earlier nights that had waited"""
    num_waiting: int
    """labeling tasks that could not be sent; they wait in the ledger"""
    num_gold: int = 0
    """gold questions: samples whose answer is known, asked to measure annotators"""
    num_second: int = 0
    """second opinions, each worth more than a new sample"""
    num_suspects: int = 0
    """labels that the model contradicts, asked again"""
    num_review: int = 0
    """disputed samples sent to experts for adjudication"""
    num_withdrawn: int = 0
    """open samples withdrawn because the serving model is no longer in doubt about them"""
    project_url: str | None
    """address of the labeling project's page"""
    pulled: PulledLabels | None = None
    """what came back before the batch was chosen; None: not read then"""
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PulledLabels:
    """The annotations that came back, and the labels made from them."""

    num_annotations: int
    """new or changed"""
    num_skipped: int
    num_deleted: int
    num_refused: int
    """annotations that are not valid answers of the task; logged with their reasons"""
    num_labels: int
    """new or changed"""
    num_disputed: int
    """samples whose annotators do not agree; they wait for more answers"""
    num_from_sensors: int = 0
    """labels from sensors, new or changed; these train but never test"""
    note: str

    def __add__(self, later: PulledLabels) -> PulledLabels:
        """Both together; what stood in the way of the first no longer does."""
        return PulledLabels(**sums(self, later) | {"note": later.note})


@dataclass(frozen=True, kw_only=True, slots=True)
class Ingested(PulledLabels):
    """What came back, and the dataset version made from it."""

    dataset_id: str
    is_new: bool
    num_train: int
    num_test: int
    num_dropped: int
    """rows left out to keep train and test apart"""
    num_copies_train: int = 0
    """training rows among them that are near-duplicates of test rows"""
    num_copies_test: int = 0
    """test rows among them that are near-duplicates of start data"""
    outcomes: str = ""
    """how many outcomes train, and how far they are trusted; "" without any"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Retrained:
    """The candidate of the night, if there is one."""

    candidate_digest: str | None
    """None: there was nothing new to train on"""
    device: str | None
    train_seconds: float
    losses: tuple[float, ...]
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """The report with the night's numbers."""

    report_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Decided:
    """The verdict of the gate."""

    decision_id: str
    verdict: Verdict
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Released:
    """What serves at the end of the night."""

    release_number: int | None
    """None: nothing was released"""
    serving_digest: str | None
    """None: nothing yet, or a server of the user's own has not reported the release yet"""
    num_fixed: int
    """failures that the released model now answers correctly"""
    waits: Approval | None = None
    """the approval that is needed before the candidate is released"""
    note: str
