"""Writes a page on what the nights of a demo brought, measured by a world that knows the truth.

The product cannot measure this: the exam is on samples that it never saw, and the other arms train
on labels that it never had. Models are only read; nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flywheel.decide import condition
from flywheel.evaluate.scoring import score_one
from flywheel.evaluate.stats import Measured
from flywheel.examples.arms import Exam, School
from flywheel.examples.demos import Demo
from flywheel.ledger.datasets import read_manifest
from flywheel.ledger.history import reported_nights, reports_of
from flywheel.ledger.nights import last_night
from flywheel.ledger.releases import current_release, get_checkpoint, release_history
from flywheel.loop import Loop, open_loop
from flywheel.loop.steps import step_results
from flywheel.metrics.compiled import compile_condition, compile_formula
from flywheel.metrics.names import has_unit
from flywheel.model import cpu_threads
from flywheel.project import Project
from flywheel.records import Answer, Array, Estimate, Report, Share, Split, Watched
from flywheel.report.kit.charts import Line, history_chart
from flywheel.report.kit.pages import put, render
from flywheel.report.kit.samples import Part, show_sample
from flywheel.report.kit.tables import Sheet
from flywheel.report.kit.text import answer as said
from flywheel.report.kit.text import estimate as formatted
from flywheel.task import Task

_RARE = 0.1
"""a kind is rare that is less of the arrivals"""
_PAIRS = 12
_EDGE_PIXELS = 320

STORY_PAGE = "story.html"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """One sample with the answers of two models."""

    name: str
    before: tuple[Part, ...]
    """what it shows, with the first model's answer"""
    after: tuple[Part, ...]
    """the same with the newest model's; (): it looks the same"""
    change: str
    """the errors of both, in numbers, or the answers themselves"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Story:
    """Everything on the page."""

    lead: str
    lines: tuple[Line, ...]
    """the metric over the nights: of what served, of the candidates, and of the other arms"""
    label: str
    """of the metric's axis"""
    required: float | None
    sheets: tuple[Sheet, ...]
    pairs: tuple[Pair, ...]


def publish_story(demo: Demo, project: Project, progress: Callable[[int, int], None]) -> None:
    """Measure the models of all nights and the other arms, and write the page.

    Most of the time goes into the arms' training; `progress` gets the number of trained models and
    of all.
    """
    with open_loop(project.directory) as loop, cpu_threads(project.train.cpu_threads):
        with loop.ledger.read() as connection:
            last = last_night(connection)
            numbers = reported_nights(connection, last.number) if last else []
            reports = reports_of(connection, numbers)
        if len(reports) < 2:
            return
        write_story(loop, make_story(demo, loop, reports, progress))


def make_story(
    demo: Demo, loop: Loop, reports: Sequence[Report], progress: Callable[[int, int], None]
) -> Story:
    """Everything on the page of these nights, see `publish_story`."""
    world = demo.world(loop.project.project.seed)
    newest, metric = reports[-1].night, loop.project.metric
    exam = Exam(
        task=loop.task,
        arrivals=world.truth_set(newest - 2, demo.exam_samples),
        statistic=compile_formula(metric.optimize, loop.project.directory),
        device=loop.project.train.device,
    )
    nights = [world.traffic(night) for night in range(newest - 1)]
    school = School(
        task=loop.task,
        settings=loop.project.train,
        start=list(loop.task.start_data()) if loop.task.start_data else [],
        nights=nights,
        seed=loop.project.project.seed,
        first=_first(loop),
        sensors=loop.project.sensors,
        is_right=world.is_right,
    )
    trained = _trained(loop, reports)
    lines, drawn = _arms(trained, exam, school, progress)
    equal = _at_equal_labels(loop, exam, trained, drawn)
    direction = "higher" if metric.higher_is_better else "lower"
    return Story(
        lead=(
            f"Measured by the simulated world on {demo.exam_samples:,} samples like those of night "
            f"{newest}, which the product never sees. {equal.note if equal else ''}".strip()
        ),
        lines=(*_served(loop, reports, trained, exam), *lines),
        label=f"{metric.optimize} ({direction} is better)",
        required=metric.requirement,
        sheets=(*([equal] if equal else []), _numbers(reports)),
        pairs=tuple(_pairs(loop, exam)),
    )


def _served(
    loop: Loop, reports: Sequence[Report], trained: Sequence[_Trained], exam: Exam
) -> Iterator[Line]:
    """What served after each night, and the newest candidate of each night."""
    known: dict[str, Estimate | None] = {}

    def grade(digest: str | None) -> Estimate | None:
        if digest is not None and digest not in known:
            known[digest] = exam.grade(loop.blobs.get(digest))
        return known.get(digest or "")

    with loop.ledger.read() as connection:
        release = current_release(connection)
    served = [report.champion_digest for report in reports[1:]]
    served.append(release.checkpoint_digest if release else None)
    numbers = [report.night for report in reports]
    yield _line("champion", zip(numbers, map(grade, served), strict=True))
    candidates = [grade(one.digest) for one in trained]
    yield _line("candidate", zip(numbers, candidates, strict=True))


def _first(loop: Loop) -> bytes | None:
    """The weights that were released first."""
    with loop.ledger.read() as connection:
        releases = release_history(connection)
    return loop.blobs.get(releases[0].checkpoint_digest) if releases else None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Trained:
    """The newest model that a night had trained."""

    night: int
    digest: str
    num_labels: int
    """by annotators, that it was trained on"""


def _trained(loop: Loop, reports: Sequence[Report]) -> list[_Trained]:
    """The newest model of each night, judged or not; one that trained none has that of the night before."""
    found: list[_Trained] = []
    for report in reports:
        with loop.ledger.read() as connection:
            made, _ = step_results(connection, report.night)["retrain"]
            digest = made.candidate_digest or (
                found[-1].digest if found else report.champion_digest or ""
            )
            version = get_checkpoint(connection, digest).dataset_id
        number = sum(
            row.split is Split.TRAIN and row.origin in {share.value for share in Share}
            for row in read_manifest(loop.blobs, version)
        )
        found.append(_Trained(night=report.night, digest=digest, num_labels=number))
    return found


def _arms(
    trained: Sequence[_Trained],
    exam: Exam,
    school: School,
    progress: Callable[[int, int], None],
) -> tuple[tuple[Line, Line], bytes]:
    """As many labels drawn at random, and all labels at once; and the last weights of the former."""
    numbers = [one.night for one in trained]
    drawn = []
    weights = b""
    progress(0, len(numbers))
    for weights in school.at_random([one.num_labels for one in trained[1:]]):
        drawn.append(exam.grade(weights))
        progress(len(drawn), len(numbers))
    best = exam.grade(school.everything())
    progress(len(numbers), len(numbers))
    lines = (
        _line("random labels", zip(numbers[1:], drawn, strict=True)),
        _line("all labels at once", [(night, best) for night in (numbers[0], numbers[-1])]),
    )
    return lines, weights


def _at_equal_labels(
    loop: Loop, exam: Exam, trained: Sequence[_Trained], drawn: bytes
) -> Sheet | None:
    """The newest model beside the first and that of as many random labels; None before labels."""
    last = trained[-1]
    if last.num_labels == 0:
        return None
    metric = loop.project.metric
    first, ours = (exam.measure(loop.blobs.get(one.digest)) for one in (trained[0], last))
    other = exam.measure(drawn)
    kinds = np.array([arrival.kind for arrival in exam.arrivals])
    parts: dict[str, Array] = {"all": np.ones(len(kinds), dtype=bool)}
    names, place, counts = np.unique(kinds, return_inverse=True, return_counts=True)
    is_rare: Array = (counts < _RARE * len(kinds))[place]
    if is_rare.any():
        parts["rare kinds"] = is_rare
    if len(names) > 1:
        parts |= {str(name): kinds == name for name in names}

    def gain(part: Array) -> Estimate | None:
        pair = (ours.where(part), other.where(part))
        return exam.difference(*(pair if metric.higher_is_better else pair[::-1]))

    def shown(measured: Measured, part: Array) -> str:
        return formatted(exam.estimate(measured.where(part)))

    rows = [
        (
            name,
            f"{part.sum()}",
            *(shown(one, part) for one in (first, ours, other)),
            formatted(gain(part)),
        )
        for name, part in parts.items()
    ]
    return Sheet(
        key="equal",
        title="At equal labels",
        headings=("arrivals", "samples", "first model", "ours", "random labels", "gain of ours"),
        rows=tuple(rows),
        values=(1, 2, 3, 4, 5),
        note=(
            f"Trained on {last.num_labels} labels each, those that the loop chose have "
            f"{metric.optimize} {rows[0][3]} and those drawn at random {rows[0][4]}: a gain of "
            f"{rows[0][5]}, with the 95 % interval over the samples.{_on_rare(rows)}"
        ),
    )


def _on_rare(rows: Sequence[tuple[str, ...]]) -> str:
    """What the row of the rare kinds says, if there is one."""
    for name, number, _first, ours, drawn, gain in rows:
        if name == "rare kinds":
            return (
                f" On the kinds that are rare, {number} of these samples, it is {ours} against {drawn}: "
                f"a gain of {gain}."
            )
    return ""


def _line(name: str, points: Iterable[tuple[int, Estimate | None]]) -> Line:
    return Line(
        name=name, points=tuple((night, value) for night, value in points if value is not None)
    )


def _numbers(reports: Sequence[Report]) -> Sheet:
    """The values that the newest metric requires and ignores, a row for each night."""
    newest = reports[-1].watched
    rows = []
    for report in reports:
        known = {watched.formula: watched for watched in report.watched}
        values = [_of_the_night(known.get(watched.formula)) for watched in newest]
        rows.append((str(report.night), *values))
    return Sheet(
        key="numbers",
        title="The numbers beside the one number",
        headings=("night", *(condition(watched) for watched in newest)),
        rows=tuple(rows) if newest else (),
        values=tuple(range(1, len(newest) + 1)),
        note="On the frozen test set of each night: of its candidate, or of the champion without one.",
    )


def _of_the_night(watched: Watched | None) -> str:
    return "-" if watched is None else formatted(watched.candidate or watched.champion)


def _pairs(loop: Loop, exam: Exam) -> Iterator[Pair]:
    """The samples on which the first released model did worst, and what serves now."""
    with loop.ledger.read() as connection:
        releases = release_history(connection)
    if not releases:
        return
    digests = [releases[0].checkpoint_digest, releases[-1].checkpoint_digest]
    first, now = (exam.answers(loop.blobs.get(digest)) for digest in digests)
    columns = _columns(loop)
    for row in _worst(loop.task, columns, first, exam)[:_PAIRS]:
        arrival, answers = exam.arrivals[row], (first[row].value, now[row].value)
        before, after = (
            show_sample(loop.task, arrival.sample, answer, arrival.truth, _EDGE_PIXELS)
            for answer in answers
        )
        then, newest = (_scores(loop.task, one[row], arrival.truth) for one in (first, now))
        change = ", ".join(f"{name} {then[name]:.3g} → {newest[name]:.3g}" for name in columns)
        changed = f"{said(answers[0])} → {said(answers[1])}, right is {said(arrival.truth)}"
        yield Pair(
            name=arrival.sample.id[:12],
            before=before,
            after=after if after != before else (),
            change=change or changed,
        )


def _worst(task: Task, columns: Sequence[str], answers: Sequence[Answer], exam: Exam) -> list[int]:
    """Rows of the exam: those with the largest error first, else those whose answer is wrong."""
    truths = [arrival.truth for arrival in exam.arrivals]
    pairs = list(zip(answers, truths, strict=True))
    if not columns:
        return [row for row, (one, truth) in enumerate(pairs) if not task.agree(one.value, truth)]
    errors = [_scores(task, one, truth)[columns[0]] for one, truth in pairs]
    return sorted(range(len(pairs)), key=lambda row: -errors[row])


def _columns(loop: Loop) -> list[str]:
    """The errors that the metric measures in a unit."""
    metric, directory = loop.project.metric, loop.project.directory
    statistics = [compile_formula(text, directory) for text in (metric.optimize, *metric.ignore)]
    statistics += [compile_condition(text, directory).statistic for text in metric.require]
    names = dict.fromkeys(name for statistic in statistics for name in sorted(statistic.columns))
    return [name for name in names if has_unit(name) and not name.startswith("latency")]


def _scores(task: Task, answer: Answer, truth: object) -> dict[str, float]:
    return score_one(task, "exam", answer.value, truth)


def write_story(loop: Loop, story: Story) -> Path:
    """Write the page and return its path; an older one is replaced in one piece."""
    folder = loop.project.state / "reports"
    curve = history_chart(
        story.lines, story.required, story.label, f"{story.label} over the nights, by arm"
    )
    page = render(
        "story.html",
        project=loop.project,
        story=story,
        charts={"curve": curve} if any(line.points for line in story.lines) else {},
        reports=sorted(path.name for path in folder.glob("night-*.html")),
        written_at=loop.now(),
    )
    return put(folder / STORY_PAGE, page)
