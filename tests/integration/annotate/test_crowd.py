"""Simulated annotators label in the real Label Studio, and the labels come back."""

from datetime import UTC, datetime

import numpy as np
import pytest

from flywheel.annotate import make_labels
from flywheel.errors import RefusedError, UnavailableError
from flywheel.examples.annotators import Crowd, Person, Worked, choosing_hand
from flywheel.examples.traffic import Arrival

pytestmark = pytest.mark.integration

CLASSES = ("a", "b", "c")
ARRIVAL = Arrival(payload=b"x", media_type="text/plain", metadata={}, truth="b")


@pytest.fixture
def work(label_studio, letters, project_id):
    """Let annotators label all that waits, whose right answer is b."""

    def run(*annotators: Person, truth=lambda _: ARRIVAL, progress=lambda _: None) -> Worked:
        crowd = Crowd(label_studio.url, label_studio.email, label_studio.password, annotators)
        rng = np.random.default_rng(0)
        hand = choosing_hand(truth, letters.task.labeling, CLASSES)
        return crowd.work(project_id, hand, rng, progress)

    return run


def _nothing(*_):
    """No annotator can know."""


def _person(name: str, **habits: float) -> Person:
    return Person(email=f"{name}@example.com", password="password-of-a-person", **habits)


@pytest.fixture
def labels_now(letters, pull_now):
    def run(ids):
        pull_now()
        make_labels(
            letters.ledger, letters.task, letters.project, datetime(2026, 3, 2, tzinfo=UTC), 1
        )
        return [letters.labels(sample_id) for sample_id in ids]

    return run


def test_what_the_crowd_answers_becomes_labels(letters, send_now, work, labels_now):
    ids = letters.choose(*(b"crowd %d" % number for number in range(12)))
    send_now()
    counted = []
    done = work(*(_person(name, error_rate=0.0) for name in "de"), progress=counted.append)
    assert done == Worked(annotations=12, skipped=0, left=0)
    assert counted == list(range(1, 13))
    assert labels_now(ids) == [["b"]] * 12


def test_an_annotator_who_always_errs_is_always_wrong(letters, send_now, work, labels_now):
    ids = letters.choose(*(b"wrong %d" % number for number in range(6)))
    send_now()
    work(_person("wrong", error_rate=1.0))
    assert {answer for (answer,) in labels_now(ids)} <= {"a", "c"}


def test_what_is_put_off_gets_no_label(letters, send_now, work, labels_now):
    ids = letters.choose(*(b"tired %d" % number for number in range(4)))
    send_now()
    assert work(_person("leaver", leave_rate=1.0)) == Worked(annotations=0, skipped=0, left=4)
    assert labels_now(ids) == [[]] * 4


def test_what_no_annotator_could_know_is_skipped(letters, send_now, work):
    letters.choose(b"blurred")
    send_now()
    assert work(_person("honest"), truth=lambda _: None) == Worked(0, 1, 0)


def test_each_annotation_has_its_annotator_and_its_time(
    letters, send_now, work, annotators, project_id
):
    letters.choose(b"timed 1", b"timed 2")
    send_now()
    work(_person("timed", seconds_per_answer=30.0))
    given = [one for task in annotators.tasks(project_id) for one in task["annotations"]]
    assert all("timed@example.com" in one["created_username"] for one in given)
    assert all(8.0 < one["lead_time"] < 120.0 for one in given)
    assert all(one["parent_prediction"] for one in given)


def test_a_wrong_password_is_refused(label_studio, letters, project_id):
    crowd = Crowd(label_studio.url, label_studio.email, "wrong-password", [_person("new")])
    with pytest.raises(RefusedError, match=r"tests@example\.com"):
        crowd.work(project_id, _nothing, np.random.default_rng(0), lambda _: None)


def test_a_server_that_is_down_is_said_to_be(letters, free_url):
    crowd = Crowd(free_url(), "a@example.com", "password", [_person("alone")])
    with pytest.raises(UnavailableError, match="flywheel up"):
        crowd.work(1, _nothing, np.random.default_rng(0), print)
