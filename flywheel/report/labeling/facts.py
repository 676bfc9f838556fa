"""Reads everything that the labeling page shows: work, cost, queue, and quality of annotators.

The cost is bounded however long labeling has been running: the newest 20,000 annotations, slices
of the newest 2,000 samples. Quality findings come from the annotate stage; nothing is
decided here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from flywheel.annotate.cost import WINDOW, Budget, Costed, Costs, read_budget, read_costs
from flywheel.annotate.evidence import read_compared, slices_of, weigh_evidence, where_biased
from flywheel.annotate.expense import (
    Expense,
    expense,
    expenses_by,
    trend,
)
from flywheel.annotators import biased_annotators, measure_anchoring
from flywheel.annotators.anchoring import Anchoring
from flywheel.ledger.annotations import newest_labels
from flywheel.ledger.annotators import Measured, annotator_labels, read_annotators
from flywheel.ledger.campaigns import Campaign, all_campaigns
from flywheel.ledger.history import reported_nights
from flywheel.ledger.judged import report_of_night
from flywheel.ledger.nights import current_night_number
from flywheel.ledger.progress import (
    AnnotatorCount,
    Queue,
    count_annotators,
    count_by_campaign,
    count_reviews,
    gold_answers,
    measure_queue,
)
from flywheel.ledger.reviews import reviewed
from flywheel.loop import Loop
from flywheel.records import Estimate, Purpose, Report
from flywheel.report.kit.measured import tier_of, tier_prices

_SLICED = 2_000
_GOLD = 5_000
_NIGHTS = 60
_DISPUTED = 10
_DAYS = 30
_FEWEST_A_DAY = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotator:
    """An annotator: work, cost and quality."""

    name: str
    tier: str
    """random person, domain expert or deep expert"""
    count: AnnotatorCount
    expense: Expense | None
    """of the newest annotations; None: none of them is theirs"""
    measured: Measured | None
    """None: no label was made since their first answer"""
    num_gold: int
    """answers to gold samples, among the newest"""
    num_gold_right: int
    pace: tuple[tuple[date, float], ...]
    """day and mean minutes per answer, for those of the last 30 days with at least 3 answers"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Disputed:
    """A sample on which annotators disagree."""

    sample_id: str
    num_answers: int
    is_reviewed: bool
    """whether it went to the experts"""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelingFacts:
    """All that the labeling page shows, except quality."""

    annotators: tuple[Annotator, ...]
    """most answers first"""
    whole: Expense
    """of the newest annotations"""
    nights: Mapping[int, Expense]
    """by the night that requested the answers, the last 60"""
    trend: Estimate | None
    slices: Mapping[str, Expense]
    num_sliced: int
    """samples in `slices`"""
    by_campaign: Mapping[int, Expense]
    campaigns: tuple[Campaign, ...]
    states: Mapping[int, Mapping[str, int]]
    """campaign -> state -> labeling tasks"""
    queue: Queue
    reviews: Mapping[str, int]
    """state -> samples sent to the experts"""
    disputed: tuple[Disputed, ...]
    """newest first"""
    num_disputed: int
    """among the newest annotations"""
    budget: Budget
    tiers: Mapping[str, Estimate]
    """tier of annotators -> cost of an answer of one of them"""
    report: Report | None
    """the newest one"""
    written_at: datetime


def read_labeling(loop: Loop, window: int = WINDOW) -> LabelingFacts:
    """Read the labeling facts of now, from so many of the newest annotations."""
    with loop.ledger.read() as connection:
        costs = read_costs(connection, loop.project, window)
        samples = sorted({row.work.sample_id for row in costs.rows})
        labels = annotator_labels(connection, samples)
        return _facts(_Read(loop=loop, connection=connection, costs=costs, labels=labels))


def _facts(read: _Read) -> LabelingFacts:
    connection, rows, now = read.connection, read.costs.rows, read.loop.now()
    project, night = read.loop.project, current_night_number(read.connection)
    nights = expenses_by(_of_last_nights(rows), read.labels, _night)
    newest = list(dict.fromkeys(row.work.sample_id for row in reversed(rows)))[:_SLICED]
    reported = reported_nights(connection, night)
    sliced = slices_of(connection, read.loop.blobs, read.loop.task, newest)
    whole, disputed = expense(rows, read.labels), _disputed(read)
    return LabelingFacts(
        annotators=tuple(_annotators(read)),
        whole=whole,
        nights=nights,
        trend=trend(nights),
        slices=expenses_by(rows, read.labels, lambda row: sliced.get(row.work.sample_id, ())),
        num_sliced=len(sliced),
        by_campaign=expenses_by(rows, read.labels, _campaign),
        campaigns=tuple(all_campaigns(connection)),
        states=count_by_campaign(connection),
        queue=measure_queue(connection),
        reviews=count_reviews(connection),
        disputed=tuple(disputed[:_DISPUTED]),
        num_disputed=len(disputed),
        budget=read_budget(connection, project, read.costs, night, now),
        tiers=tier_prices(read.costs, project.annotators),
        report=report_of_night(connection, reported[-1]) if reported else None,
        written_at=now,
    )


class _Read(NamedTuple):
    """What all parts of the page are computed from."""

    loop: Loop
    connection: Connection
    costs: Costs
    labels: Mapping[str, float]
    """sample -> reliability of its consensus label, where there is one"""


def _annotators(read: _Read) -> Iterator[Annotator]:
    annotators, agree = read.loop.project.annotators, read.loop.task.agree
    measured = {found.annotator: found for found in read_annotators(read.connection)}
    spent = expenses_by(read.costs.rows, read.labels, lambda row: (row.work.annotator,))
    gold: defaultdict[str, list[bool]] = defaultdict(list)
    for gold_answer in gold_answers(read.connection, _GOLD):
        gold[gold_answer.annotator].append(agree(gold_answer.answer, gold_answer.known))
    paces = _paces(read)
    for count in count_annotators(read.connection):
        name = count.annotator
        yield Annotator(
            name=name,
            tier=tier_of(name, annotators),
            count=count,
            expense=spent.get(name),
            measured=measured.get(name),
            num_gold=len(gold[name]),
            num_gold_right=sum(gold[name]),
            pace=paces.get(name, ()),
        )


def _paces(read: _Read) -> dict[str, tuple[tuple[date, float], ...]]:
    """Return day and mean minutes per answer of each annotator, for days with several answers."""
    zone = ZoneInfo(read.loop.project.schedule.timezone)
    since = read.loop.now() - timedelta(days=_DAYS)
    minutes: defaultdict[str, defaultdict[date, list[float]]]
    minutes = defaultdict(lambda: defaultdict(list))
    for row in read.costs.rows:
        if row.work.is_given and row.work.seconds is not None and row.work.at >= since:
            minutes[row.work.annotator][row.work.at.astimezone(zone).date()].append(row.minutes)
    return {
        annotator: tuple(
            (day, sum(given) / len(given))
            for day, given in sorted(days.items())
            if len(given) >= _FEWEST_A_DAY
        )
        for annotator, days in minutes.items()
    }


def _disputed(read: _Read) -> list[Disputed]:
    """Return samples with enough answers and still no label, newest first."""
    annotators: defaultdict[str, set[str]] = defaultdict(set)
    for row in reversed(read.costs.rows):
        if row.work.is_answer and row.work.purpose is not Purpose.GOLD:
            annotators[row.work.sample_id].add(row.work.annotator)
    enough = read.loop.project.labeling.annotations_per_sample
    doubtful = [
        key for key, of in annotators.items() if len(of) >= enough and key not in read.labels
    ]
    known = newest_labels(read.connection, doubtful)  # from the start data or from sensors
    left = [key for key in doubtful if key not in known or known[key].answer is None]
    seen = reviewed(read.connection, left)
    return [
        Disputed(sample_id=key, num_answers=len(annotators[key]), is_reviewed=key in seen)
        for key in left
    ]


def _of_last_nights(rows: Sequence[Costed]) -> list[Costed]:
    nights = sorted({row.work.night for row in rows if row.work.night is not None})[-_NIGHTS:]
    return [row for row in rows if row.work.night in nights]


def _night(row: Costed) -> tuple[int, ...]:
    return () if row.work.night is None else (row.work.night,)


def _campaign(row: Costed) -> tuple[int, ...]:
    return () if row.work.campaign is None else (row.work.campaign,)


@dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """Findings on annotators; what was not measured is empty."""

    overall: Anchoring | None = None
    """how much more often annotators give the model's answer when they see it"""
    annotators: Mapping[str, Anchoring] = field(default_factory=dict)
    """the same for each annotator"""
    slices: Mapping[str, Anchoring] = field(default_factory=dict)
    """the same for each slice"""
    anchored: Mapping[str, Anchoring] = field(default_factory=dict)
    """annotators significantly above quality.max_anchoring"""
    blinded: frozenset[str] = frozenset()
    """slices where pre-annotation is off, or EVERYWHERE"""
    guessing: frozenset[str] = frozenset()
    """annotators hardly better than chance, see `Reliability.is_guessing`"""
    colluding: tuple[tuple[str, ...], ...] = ()
    """groups who copy one another's answers; each group counts as one annotator"""


def read_quality(loop: Loop, window: int = WINDOW) -> Quality:
    """Read the findings on annotators from so many of the newest annotations."""
    most = loop.project.quality.max_anchoring
    with loop.ledger.read() as connection:
        compared = read_compared(connection, loop.blobs, loop.task, window)
        evidence = weigh_evidence(connection, loop.task, loop.project.annotators, window=window)
    measured = measure_anchoring(compared)
    return Quality(
        overall=measured.overall,
        annotators=measured.annotators,
        slices=measured.slices,
        anchored=biased_annotators(compared, most),
        blinded=where_biased(measured, most),
        guessing=frozenset(
            name
            for name, reliability in evidence.crowd.annotators.items()
            if reliability.num_answers and reliability.is_guessing()
        ),
        colluding=_together(evidence.crowd.voices),
    )


def _together(voices: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """Group annotators who count as one."""
    groups: dict[str, list[str]] = {}
    for annotator, voice in sorted(voices.items()):
        groups.setdefault(voice, []).append(annotator)
    return tuple(tuple(annotators) for annotators in groups.values() if len(annotators) > 1)
