"""Everything that the page of labeling shows, read from the ledger in one transaction.

Bounded however long there has been labeling: the newest 20,000 annotations, slices of the newest
2,000 samples, 60 reports. How it looks is not known here.

How well people label and who stands out: what the label stage finds, brought to the page of labeling.

The one place where findings on people come to that page. Nothing is decided here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from flywheel.annotate.budget import Budget, read_budget
from flywheel.annotate.cost import Costed, Costs, read_costs
from flywheel.annotate.evidence import read_compared, slices_of, weigh_evidence, where_biased
from flywheel.annotate.expense import (
    Expense,
    Gain,
    Point,
    expected_gain,
    expense,
    expenses_by,
    trend,
)
from flywheel.annotators import biased_annotators, measure_anchoring
from flywheel.annotators.anchoring import Anchoring
from flywheel.ledger.annotations import newest_labels
from flywheel.ledger.annotators import Measured, annotator_labels, read_annotators
from flywheel.ledger.campaigns import Campaign, all_campaigns
from flywheel.ledger.datasets import get_version
from flywheel.ledger.history import reported_nights
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
from flywheel.ledger.reports import report_of_night
from flywheel.ledger.reviews import reviewed
from flywheel.loop import Loop
from flywheel.records import Estimate, Purpose, Report, Split
from flywheel.report.facts import comparable_reports, thin_out
from flywheel.report.kit.measured import tier_of, tier_prices

_SLICED = 2_000
_GOLD = 5_000
_POINTS = 60
_NIGHTS = 60
_DISPUTED = 10
_DAYS = 30
_FEWEST_A_DAY = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """One of those who label."""

    name: str
    tier: str
    """random person, domain expert or deep expert"""
    count: AnnotatorCount
    expense: Expense | None
    """of the newest annotations; None when none of theirs is among them"""
    measured: Measured | None
    """None: no label was made since they began"""
    num_gold: int
    """answers on gold samples, of the newest"""
    num_gold_right: int
    pace: tuple[tuple[date, float], ...]
    """day and mean minutes per answer, of the last 30 days with 3 answers or more"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Disputed:
    """A sample on which people do not agree."""

    sample_id: str
    num_answers: int
    is_reviewed: bool
    """the experts have it, or had"""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelingFacts:
    """How labeling stands."""

    annotators: tuple[Person, ...]
    """the busiest first"""
    whole: Expense
    """of the newest annotations"""
    nights: Mapping[int, Expense]
    """by the night that asked, the last 60"""
    trend: Estimate | None
    slices: Mapping[str, Expense]
    num_sliced: int
    """samples whose slices were looked at"""
    by_campaign: Mapping[int, Expense]
    campaigns: tuple[Campaign, ...]
    states: Mapping[int, Mapping[str, int]]
    """campaign -> state -> labeling tasks"""
    queue: Queue
    reviews: Mapping[str, int]
    """state -> samples that went to the experts"""
    disputed: tuple[Disputed, ...]
    """newest first"""
    num_disputed: int
    """among the newest annotations"""
    budget: Budget
    gain: Gain
    tiers: Mapping[str, Estimate]
    """tier of people -> what an answer of one of them costs"""
    report: Report | None
    """the newest one"""
    written_at: datetime


def read_labeling(loop: Loop) -> LabelingFacts:
    """How labeling stands now."""
    with loop.ledger.read() as connection:
        return _facts(_read(loop, connection))


def _read(loop: Loop, connection: Connection) -> _Read:
    costs = read_costs(connection, loop.project)
    samples = sorted({one.work.sample_id for one in costs.rows})
    nights = thin_out(reported_nights(connection, current_night_number(connection)), _POINTS)
    newest = report_of_night(connection, nights[-1]) if nights else None
    reports = comparable_reports(connection, newest, nights)
    return _Read(
        loop=loop,
        connection=connection,
        costs=costs,
        labels=annotator_labels(connection, samples),
        reports=tuple(one for one in reports if newest and one.metric_id == newest.metric_id),
    )


def _facts(read: _Read) -> LabelingFacts:
    connection, rows, now = read.connection, read.costs.rows, read.loop.now()
    project, night = read.loop.project, current_night_number(read.connection)
    nights = dict(list(expenses_by(rows, read.labels, _night).items())[-_NIGHTS:])
    newest = list(dict.fromkeys(one.work.sample_id for one in reversed(rows)))[:_SLICED]
    sliced = slices_of(connection, read.loop.blobs, read.loop.task, newest)
    whole, disputed = expense(rows, read.labels), _disputed(read)
    return LabelingFacts(
        annotators=tuple(_annotators(read)),
        whole=whole,
        nights=nights,
        trend=trend(nights),
        slices=expenses_by(rows, read.labels, lambda one: sliced.get(one.work.sample_id, ())),
        num_sliced=len(sliced),
        by_campaign=expenses_by(rows, read.labels, _campaign),
        campaigns=tuple(all_campaigns(connection)),
        states=count_by_campaign(connection),
        queue=measure_queue(connection),
        reviews=count_reviews(connection),
        disputed=tuple(disputed[:_DISPUTED]),
        num_disputed=len(disputed),
        budget=read_budget(connection, project, read.costs, night, now),
        gain=_gain(read, whole),
        tiers=tier_prices(read.costs, project.annotators),
        report=read.reports[-1] if read.reports else None,
        written_at=now,
    )


class _Read(NamedTuple):
    """What every part of the page is worked out from."""

    loop: Loop
    connection: Connection
    costs: Costs
    labels: Mapping[str, float]
    """sample -> reliability of its label, where people came to one"""
    reports: tuple[Report, ...]
    """of the nights so far, under the metric of the newest, oldest first"""


def _annotators(read: _Read) -> Iterator[Person]:
    annotators, agree = read.loop.project.annotators, read.loop.task.agree
    measured = {one.annotator: one for one in read_annotators(read.connection)}
    spent = expenses_by(read.costs.rows, read.labels, lambda one: (one.work.annotator,))
    gold: defaultdict[str, list[bool]] = defaultdict(list)
    for one in gold_answers(read.connection, _GOLD):
        gold[one.annotator].append(agree(one.answer, one.known))
    paces = _paces(read)
    for count in count_annotators(read.connection):
        name = count.annotator
        yield Person(
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
    """Each person's mean minutes per answer on the days on which they gave several."""
    zone = ZoneInfo(read.loop.project.schedule.timezone)
    since = read.loop.now() - timedelta(days=_DAYS)
    minutes: defaultdict[str, defaultdict[date, list[float]]]
    minutes = defaultdict(lambda: defaultdict(list))
    for one in read.costs.rows:
        if one.work.is_given and one.work.seconds is not None and one.work.at >= since:
            minutes[one.work.annotator][one.work.at.astimezone(zone).date()].append(one.minutes)
    return {
        person: tuple(
            (day, sum(given) / len(given))
            for day, given in sorted(days.items())
            if len(given) >= _FEWEST_A_DAY
        )
        for person, days in minutes.items()
    }


def _disputed(read: _Read) -> list[Disputed]:
    """Samples that people enough have answered and that have no label at all; newest first."""
    annotators: defaultdict[str, set[str]] = defaultdict(set)
    for one in reversed(read.costs.rows):
        if one.work.is_answer and one.work.purpose is not Purpose.GOLD:
            annotators[one.work.sample_id].add(one.work.annotator)
    enough = read.loop.project.labeling.annotations_per_sample
    doubtful = [
        key for key, of in annotators.items() if len(of) >= enough and key not in read.labels
    ]
    known = newest_labels(read.connection, doubtful)  # of the start data, or of sensors
    left = [key for key in doubtful if key not in known or known[key].answer is None]
    seen = reviewed(read.connection, left)
    return [
        Disputed(sample_id=key, num_answers=len(annotators[key]), is_reviewed=key in seen)
        for key in left
    ]


def _gain(read: _Read, whole: Expense) -> Gain:
    """What the next night's labels will bring, of which only a part trains."""
    labeled = {one.work.sample_id: one.work.split for one in read.costs.rows}
    splits = [split for key, split in labeled.items() if key in read.labels]
    share = splits.count(Split.TRAIN) / len(splits) if splits else 1.0
    number = max(round(read.loop.project.labeling.samples_per_night * share), 1)
    points = [
        Point(report.night, get_version(read.connection, report.dataset_id).num_train, entry.metric)
        for report in read.reports
        for entry in report.entries
        if entry.name == "candidate" and entry.metric is not None
    ]
    return expected_gain(
        points,
        number,
        whole.money_per_training_label,
        higher_is_better=not read.reports or read.reports[-1].higher_is_better,
    )


def _night(one: Costed) -> tuple[int, ...]:
    return () if one.work.night is None else (one.work.night,)


def _campaign(one: Costed) -> tuple[int, ...]:
    return () if one.work.campaign is None else (one.work.campaign,)


@dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """Findings on people; what was not looked for is empty."""

    overall: Anchoring | None = None
    """how much more often people give the model's answer when they see it"""
    annotators: Mapping[str, Anchoring] = field(default_factory=dict)
    """the same of each person"""
    slices: Mapping[str, Anchoring] = field(default_factory=dict)
    """the same on each slice"""
    anchored: Mapping[str, Anchoring] = field(default_factory=dict)
    """of people who surely take over more than [quality] max_anchoring"""
    blinded: frozenset[str] = frozenset()
    """slices in which nobody is shown the model's answer any longer, or EVERYWHERE"""
    guessing: frozenset[str] = frozenset()
    """people whose answers are hardly better than chance, see `Reliability.is_guessing`"""
    colluding: tuple[tuple[str, ...], ...] = ()
    """people who give one another's answers, right or wrong; they count as one"""


def read_quality(loop: Loop) -> Quality:
    """What the newest annotations say of the people."""
    most = loop.project.quality.max_anchoring
    with loop.ledger.read() as connection:
        compared = read_compared(connection, loop.blobs, loop.task)
        evidence = weigh_evidence(connection, loop.task, loop.project.annotators)
    measured = measure_anchoring(compared)
    return Quality(
        overall=measured.overall,
        annotators=measured.annotators,
        slices=measured.slices,
        anchored=biased_annotators(compared, most),
        blinded=where_biased(measured, most),
        guessing=frozenset(
            name
            for name, one in evidence.crowd.annotators.items()
            if one.num_answers and one.is_guessing()
        ),
        colluding=_together(evidence.crowd.voices),
    )


def _together(voices: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """People by the voice that they share."""
    groups: dict[str, list[str]] = {}
    for person, voice in sorted(voices.items()):
        groups.setdefault(voice, []).append(person)
    return tuple(tuple(annotators) for annotators in groups.values() if len(annotators) > 1)
