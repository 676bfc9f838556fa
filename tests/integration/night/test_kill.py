"""A night that is killed anywhere and run again comes to the end of one that ran undisturbed.

Every test begins from the same past, with traffic to collect, samples to send, annotations to
read, a candidate to train and to release: a night in which every step has something to do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from integration.night import killable

from flywheel.serve import ModelServer, command_token

pytestmark = pytest.mark.integration

PROGRAM = Path(killable.__file__)
KILLED = -9
TABLES = {
    "nights": "select number, finished_at is not null from nights order by number",
    "failures": "select sample_id, state from failures order by sample_id",
    "batches": "select id, night, population from batches order by id",
    "choices": "select sample_id, share, inclusion_probability from choices order by sample_id",
    "campaigns": "select id, audience, title, external_project, state from campaigns order by id",
    "outbox": "select sample_id, purpose, campaign, key, state, num_annotators, shown, night "
    "from labeling_tasks order by sample_id, purpose",
    "requests": "select sample_id, purpose, num_annotators, night, done_at is null from requests "
    "order by sample_id, purpose, night",
    "annotations": "select sample_id, purpose, annotator, answer from annotations "
    "order by sample_id, purpose, annotator",
    "annotators": "select annotator, num_answers, num_gold from annotators order by annotator",
    "labels": "select sample_id, answer, source from labels order by sample_id",
    "versions": "select id, parent_id from dataset_versions order by seq",
    "checkpoints": "select digest from checkpoints order by digest",
    "releases": "select number, checkpoint_digest from releases order by number",
    "challenges": "select number, challenger_digest, closed_night from challenges order by number",
    "openings": "select sample_id, number, night from openings order by sample_id",
    "skips": "select subject, reason, night from skips order by seq",
    "locks": "select name from locks",
}
"""what is compared row by row: all of it must be there once"""
MEASURED = {
    *("id", "created_at", "report_id", "decision_id"),
    *("train_seconds", "latency_p95_ms", "watched", "scores_digest"),  # a stopwatch is in them
}
"""fields that differ between two nights that are the same"""
TALLIES = {
    "collect": {"num_predictions", "num_feedback", "num_failures"},
    "route": {"pulled"},
    "ingest": {"num_annotations", "num_labels"},
}
"""what the last run of a step did; what an earlier run stored before it died is not counted"""


POINTS = killable.points()
BETWEEN = [point for point in POINTS if point.endswith("stored")]
"""the test of whole steps has these"""
ALONE = ["route: pushed", "release: swapped"]
"""the dangerous ones get a night of their own"""
ALSO_ALONE = ["ingest: pulled", "retrain: weights", "release: pointer", "finish"]
"""they do so in the long form, too"""
OTHERS = [point for point in POINTS if point not in {*BETWEEN, *ALONE}]


@pytest.fixture(scope="module")
def past(new_copy, annotators, tmp_path_factory):
    """A project before its third night, served; what it has stored, and what serves."""
    small = new_copy()
    small.serve()
    small.night()
    annotators.annotate_all(small.project.name)
    small.send(first=100)
    folder = tmp_path_factory.mktemp("past")
    small.save(folder)
    return small, folder, small.serving()


@pytest.fixture(scope="module")
def run_night(past) -> Iterator[Callable[[str], int]]:
    """Runs a night in a process of its own that dies at a point; its exit code."""
    small = past[0]
    with subprocess.Popen(
        [sys.executable, str(PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PREFECT_LOGGING_LEVEL": "ERROR"},
    ) as program:

        def run(point: str = "") -> int:
            program.stdin.write(f"{small.directory}\t{point}\n")
            program.stdin.flush()
            return int(program.stdout.readline())

        yield run
        program.stdin.close()


@pytest.fixture
def back(past, annotators):
    """The project as it was before its third night, on all servers."""
    small, folder, digest = past
    small.restore(folder)
    server = ModelServer(small.project.server_url, command_token(small.project))
    server.activate(digest)
    known = small.rows("select external_id from labeling_tasks where external_id is not null")
    annotators.keep_only(small.project.name, {row[0] for row in known})
    return small


def _facts(small, annotators):
    """All that a night leaves behind and that must not depend on how often it was killed."""
    facts = {name: small.rows(query) for name, query in TABLES.items()}
    reports = small.rows("select night, record from reports order by seq")
    verdicts = small.rows("select night, verdict, reasons from decisions order by seq")
    return facts | {
        # A night that was run again may have two; the later one counts.
        "reports": {night: _without(json.loads(record), MEASURED) for night, record in reports},
        "verdicts": {night: (verdict, reasons) for night, verdict, reasons in verdicts},
        "serving": small.serving(),
        "annotators": sorted(
            (task["data"]["sample_id"], len(task["annotations"]), len(task["predictions"]))
            for task in annotators.tasks(small.project.name)
        ),
        "pages": sorted(path.name for path in small.directory.glob(".flywheel/reports/*")),
        "steps": {name: _without(step, MEASURED) for name, step in small.steps().items()},
    }


def _without(fields, names):
    return {name: value for name, value in fields.items() if name not in names}


def _check(facts, undisturbed):
    for name, expected in undisturbed.items():
        if name == "steps":
            for step, result in expected.items():
                tallies = TALLIES.get(step, set())
                assert _without(facts[name][step], tallies) == _without(result, tallies), step
        else:
            assert facts[name] == expected, name


@pytest.fixture(scope="module")
def undisturbed(past, run_night, annotators):
    """What a night leaves behind that is not killed."""
    assert run_night() == 0
    return _facts(past[0], annotators)


def test_the_undisturbed_night_has_something_to_do_in_every_step(undisturbed):
    steps = undisturbed["steps"]
    assert steps["deploy"]["serving_digest"]
    assert steps["collect"]["num_failures"] > 0
    assert steps["route"]["num_sent"] == 20
    assert steps["ingest"]["num_annotations"] == 20
    assert steps["retrain"]["candidate_digest"]
    assert steps["decide"]["verdict"] == "PROMOTE"
    assert steps["release"]["release_number"] == 2


@pytest.mark.parametrize(
    "point", [*ALONE, *(pytest.param(point, marks=pytest.mark.long) for point in ALSO_ALONE)]
)
def test_killed_once_and_run_again_a_night_comes_to_the_same_end(
    point, undisturbed, back, run_night, annotators
):
    assert run_night(point) == KILLED
    assert run_night() == 0
    _check(_facts(back, annotators), undisturbed)


def test_killed_after_every_single_step_a_night_comes_to_the_same_end(
    undisturbed, back, run_night, annotators
):
    assert {run_night(point) for point in BETWEEN} == {KILLED}
    assert run_night() == 0
    assert _facts(back, annotators) == undisturbed


def test_killed_at_every_other_point_in_turn_a_night_comes_to_the_same_end(
    undisturbed, back, run_night, annotators
):
    assert {run_night(point) for point in OTHERS} == {KILLED}
    assert run_night() == 0
    _check(_facts(back, annotators), undisturbed)
