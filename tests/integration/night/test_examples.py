"""Each example from a first model to a second night: servers and answers are real.

Annotators are simulated: they sign up in Label Studio and submit there what they draw or choose, nearly
right. What they know is the world's truth; all else is what a user of the example gets.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import pytest
from small_project import SmallProject

from flywheel.blobs import Blobs
from flywheel.examples.annotators import Crowd, Person, Worked
from flywheel.examples.demos import DEMOS, Demo, find_demo
from flywheel.examples.traffic import Arrival, send
from flywheel.ledger.datasets import read_manifest
from flywheel.ledger.history import decisions_of, reports_of
from flywheel.records import Decision, Report, Split
from flywheel.task import load_task

pytestmark = pytest.mark.integration

_NUM_ARRIVALS = 60
_SETTINGS = {
    r"samples_per_night = \d+": "samples_per_night = 24",
    r"batch_size = 8": "batch_size = 16",
    r"\bsteps = \d+": "steps = 1",
    r"\[gate\]": "[gate]\nmin_fresh_samples = 5",
}
"""smaller than the demo's; ten epochs at least"""
_FEW_PICTURES = """
from flywheel.examples.pose.part import EXAMPLE_PART
from flywheel.examples.pose.task import pose_task

def task():
    return pose_task(EXAMPLE_PART, num_train=240, num_test=40)
"""
"""the example's own are rendered for a minute"""


class Story(NamedTuple):
    """What two nights left."""

    demo: Demo
    small: SmallProject
    worked: Worked
    report: Report
    decision: Decision


def configured(demo: Demo, small: SmallProject) -> None:
    """Write the example's own settings, with the session's servers in them."""
    text = (files("flywheel") / demo.settings).read_text(encoding="utf-8")
    servers = small.servers
    for old, new in _SETTINGS.items():
        text = re.sub(old, new, text)
    text = text.replace("[labeling]\n", f'[labeling]\nurl = "{servers.label_studio}"\n')
    port = servers.free_url().rpartition(":")[2]
    if demo.name == "pose":
        text = text.replace("flywheel.examples.pose:task", "few_pictures:task")
        text = text.replace("batch_size = 32", "batch_size = 8")
        (small.directory / "few_pictures.py").write_text(_FEW_PICTURES)
    places = f'\n[serve]\nport = {port}\n[prefect]\nurl = "{servers.prefect}"\n'
    (small.directory / "flywheel.toml").write_text(text + places)


_SHORT = ("messages", "shapes", "tumours")
"""text, pictures and rows; the others train or render for longer"""


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=() if name in _SHORT else pytest.mark.long) for name in DEMOS],
)
def story(request, servers, label_studio, new_project) -> Story:
    """The first model, a day of production, a night that asks, answers, and a night that learns."""
    demo, rng = find_demo(request.param), np.random.default_rng(0)
    small = new_project(request.param)
    configured(demo, small)
    small.serve()
    assert small.night().name == "PROMOTE"
    world = demo.world(0)
    if demo.name == "pose":  # a picture takes long to render
        world = replace(world, picks_per_night=_NUM_ARRIVALS)
    arrivals = world.traffic(0)[:_NUM_ARRIVALS]
    sent = send(arrivals, small.project.server_url, rng=rng, is_right=world.is_right)
    assert sent.num_sent == _NUM_ARRIVALS
    assert small.night().is_completed()
    worked = _annotate(demo, small, label_studio, arrivals, rng)
    assert small.night().is_completed()
    with small.ledger() as connection:
        [report], decisions = reports_of(connection, [3]), decisions_of(connection, [3])
    return Story(demo, small, worked, report, decisions[3])


def _annotate(demo, small, label_studio, arrivals, rng) -> Worked:
    """Two annotators answer all that Label Studio has."""
    annotators = [
        Person(email=f"{name}-{demo.name}@example.com", password="of-a-person", error_rate=0.05)
        for name in ("ada", "ben")
    ]
    [(project,)] = small.rows("select external_project from campaigns")
    crowd = Crowd(label_studio.url, label_studio.email, label_studio.password, annotators)
    task = load_task(small.project.project.task, small.directory)
    start = [Arrival.of_start(one) for one in task.start_data()]
    known = {arrival.sample.id: arrival for arrival in [*arrivals, *start]}
    return crowd.work(project, demo.hand(task, known.get), rng, lambda _: None)


def answers(small: SmallProject, query: str) -> dict[str, list]:
    """Sample -> its answers in rows of the ledger; marks that fit no pose are none."""
    found: dict[str, list] = {}
    for sample_id, answer in small.rows(f"select sample_id, answer from {query}"):
        if answer is None:
            continue
        found.setdefault(sample_id, []).append(json.loads(answer))
    return found


def test_what_two_annotators_submit_in_label_studio_becomes_a_label_where_they_agree(story):
    small, task = story.small, load_task(story.small.project.project.task, story.small.directory)
    sent = small.steps(2)["route"]["num_sent"]
    given = answers(small, "annotations order by updated_at")
    [(stored,)] = small.rows("select count(*) from annotations")
    assert story.worked.annotations == 2 * sent == stored
    assert len(small.rows("select distinct annotator from annotations")) == 2
    labels = answers(small, "labels where source = 'annotators'")
    assert len(labels) > sent / 2
    for sample_id, (label,) in labels.items():
        assert task.agree(*given[sample_id])
        assert task.agree(label, task.merge(given[sample_id]))


def test_the_second_night_trains_on_these_labels(story):
    small, labels = story.small, answers(story.small, "labels where source = 'annotators'")
    ingested, retrained = (small.steps(3)[name] for name in ("ingest", "retrain"))
    given = answers(story.small, "annotations")
    assert ingested["num_annotations"] == sum(map(len, given.values()))
    assert ingested["num_labels"] == len(labels)
    rows = read_manifest(Blobs.open(small.project.blobs_url), ingested["dataset_id"])
    learned = [
        row.sample_id for row in rows if row.split is Split.TRAIN and row.origin == "targeted"
    ]
    assert 0 < len(learned) == len(set(learned) & labels.keys())
    assert f"{len(learned)} targeted" in retrained["note"]
    assert retrained["candidate_digest"] == story.report.candidate_digest
    assert story.report.candidate_digest != story.report.champion_digest


def test_metric_and_requirements_are_in_the_report_of_the_verdict(story):
    metric, required, formula, bound = {
        "tumours": ("f1", 0.95, "recall", 0.95),
        "details": ("f1", 0.95, "latency_ms.p95", 50.0),
        "digits": ("correct", 0.95, "latency_ms.p95", 50.0),
        "messages": ("correct", 0.95, "latency_ms.p95", 50.0),
        "pose": ("error_deg.median", 5.0, "error_cm.p90", 1.0),
        "shapes": ("map", 0.8, "latency_ms.p95", 50.0),
    }[story.demo.name]
    report = story.report
    assert story.decision.report_id == report.id
    entries = {entry.kind: entry for entry in report.entries}
    assert report.metric == metric
    candidate = entries["candidate"]
    # of eight labels drawn at random none may be of the class that f1 and recall are about
    if candidate.metric is None:
        assert "not defined on these" in candidate.note
    else:
        assert 0 <= candidate.metric.value <= (180 if "deg" in metric else 1)
    assert entries["requirement"].metric.value == required
    [watched] = [one for one in report.watched if one.bound is not None]
    assert (watched.formula, watched.bound) == (formula, bound)
    assert watched.candidate is not None or "not defined on these" in watched.note
    page = (story.small.directory / ".flywheel/reports/night-0003.html").read_text("utf-8")
    assert all(text in page for text in (story.decision.verdict, metric, formula))


@pytest.mark.parametrize("story", ["shapes"], indirect=True)
def test_a_label_of_boxes_is_where_both_annotators_drew_them(story):
    given = answers(story.small, "annotations")
    labels = answers(story.small, "labels where source = 'annotators'")
    pairs = [
        (box, sorted(drawn, key=lambda one: one["x"]))
        for sample_id, (label,) in labels.items()
        for box in label
        if len(drawn := _same(box, given[sample_id])) == 2
    ]
    assert len(pairs) > len(labels)
    for box, (one, other) in pairs:
        assert one["x"] <= box["x"] <= other["x"]
        for side in ("x", "y", "width", "height"):
            assert box[side] == pytest.approx((one[side] + other[side]) / 2)


def _same(box, given) -> list[dict]:
    """The boxes of all annotators that are about where this one is, with its label."""
    return [
        one
        for answer in given
        for one in answer
        if one["label"] == box["label"]
        and max(abs(one[side] - box[side]) for side in ("x", "y", "width", "height")) < 4
    ]
