"""What was measured on a candidate, and what was decided: estimates, the report, the decision."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from flywheel.records.basics import Json, Verdict


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
    is_same_metric: bool = True
    """False: a number of another metric, which has no place on this one's axis"""


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
class TierSlice:
    """How good annotators of one tier are on one slice."""

    tier: str
    """random person, ensemble of random people, domain expert, deep expert or mixture of experts"""
    name: str
    """of the slice"""
    metric: Estimate | None
    """None: not enough data to say"""
    num_samples: int
    """on which the tier can be measured"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """A formula beside the metric: one that must keep a bound, or one that is ignored for now."""

    formula: str
    bound: float | None
    """None: ignored for now, reported only"""
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
    took_over: int = 0
    """how many challenges just before this one it took the labels over from: it opened beside them,
    and is judged on what they had seen, too"""


@dataclass(frozen=True, kw_only=True, slots=True)
class FreshOutcomes:
    """Paired outcomes on labels that were sealed before this challenge's chain began."""

    gains: tuple[float, ...]
    """candidate minus champion on each sample, in the direction that is better"""
    scales: tuple[float, ...]
    """constant of its draw / inclusion probability, see `draw_scales`; makes the scaled gains speak
    of production. Above 1 only where both models answer alike, so that the gain is 0"""
    is_bounded: bool
    """all gains lie in -1..1 by what the score is, not by chance"""
    num_new: int
    """outcomes that came tonight, the last ones"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """Labels that rest on the word of one annotator who is not measured."""

    annotator: str
    num_gold: int
    """gold questions answered"""
    num_gold_right: int
    sample_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Unmeasured:
    """An annotator whom no gold question has shown to be right, and what rests on their word."""

    annotator: str
    num_gold: int
    """gold questions answered"""
    num_gold_right: int
    labels: tuple[int, ...]
    """places of the fresh outcomes whose label only this annotator gave, counted from 0"""


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
    unanswered: float = 0.0
    """0..1, share of production that drawn samples stand for which annotators could not label"""
    bounds: tuple[float, float] | None = None
    """the interval, whatever the labels of those samples are; None: all are labeled, or the
    metric has no bounds"""


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
    """why it is missing: no candidate, no champion, or too few fresh labels to open one"""
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
    people_slices: tuple[TierSlice, ...] = ()  # the name is stored in reports and hashed
    """per slice, of every tier of annotators that was measured; empty in reports of older versions"""
    watched: tuple[Watched, ...]
    fresh: FreshOutcomes | None
    unmeasured: tuple[Unmeasured, ...] = ()
    """annotators who are not measured and alone gave fresh labels, most labels first"""
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
    """evidence against "no gain" on fresh labels; None when no challenge is open or no
    fresh label can be compared"""
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
class Probe:
    """A model that was trained only to forecast from, and what it was measured at."""

    dataset_id: str
    """whose training rows it saw, or some of them"""
    night: int
    """the last one before"""
    rows: str
    """nested: a random part of them; random: those drawn by chance; all: it is the newest candidate"""
    num_train: int
    """labels that it was trained on"""
    num_fixed: int
    """of them start data, which every part has"""
    is_start: bool
    """whether it was measured on start data, since production had too few test labels"""
    values: dict[str, Estimate]
    """formula -> its value"""
    device: str
    train_seconds: float
    created_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Watch:
    """How often the answers of the model that serves fail, by what callers report."""

    name: str
    """of a slice; "": all of production"""
    num_reference: int = 0
    """outcomes when the model was new"""
    num_reference_failed: int = 0
    num_new: int = 0
    """outcomes of this night"""
    num_new_failed: int = 0
    stakes: tuple[float, ...] = ()
    """of the e-detector, one for each bet; (): the reference is not complete"""
    is_alarm: bool = False
    """whether they fail more often than when the model was new"""
