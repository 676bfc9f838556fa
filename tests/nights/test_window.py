"""The test window over many nights: a label tests first and trains later, and no model meets it twice."""

from dataclasses import replace

import numpy as np
import pytest

from flywheel.ledger.batches import origins
from flywheel.ledger.datasets import add_trained, latest_version, read_manifest, trained_groups
from flywheel.ledger.judged import report_of_night
from flywheel.ledger.releases import current_release, latest_checkpoint
from flywheel.ledger.samples import groups_of
from flywheel.loop.measuring import estimate_production
from flywheel.loop.release import roll_back
from flywheel.records import FeedbackKind, Share, Split
from flywheel.testing import draw_points, open_memory, side_of, toy_task

SETTINGS = {
    "train": {"device": "cpu", "learning_rate": 0.1, "batch_size": 8, "steps": 20},
    "labeling": {"samples_per_night": 16, "probability_share": 0.5},
    "quality": {"blind_share": 0.0, "gold_share": 0.0},
    "annotators": {"domain_experts": ["ann"]},
    "collect": {"low_confidence": 1.0},
    "gate": {"min_fresh_samples": 10, "alpha": 0.001},
}

TWICE = {"samples_per_night": 16, "probability_share": 0.5, "annotations_per_sample": 2}
OTHER = {"left": "right", "right": "left"}


class Nights:
    """A project whose nights are looked at: what tested, what trained, and when."""

    def __init__(self, project):
        self.project, self.tested, self.trained, self.roles = project, [], [], {}

    @property
    def loop(self):
        return self.project.loop

    def serve(self, number, seed, camera=None):
        samples = draw_points(number, seed)[0]
        if camera:
            samples = [
                replace(one, metadata={"camera": camera(n)}) for n, one in enumerate(samples)
            ]
        return self.project.serve(samples)

    def night(self):
        number = self.project.night()["retrain"] and self._number()
        with self.loop.ledger.read() as connection:
            version, newest = latest_version(connection), latest_checkpoint(connection)
        rows = read_manifest(self.loop.blobs, version.id)
        self.tested.append({row.sample_id for row in rows if is_drawn(row)})
        trained = read_manifest(self.loop.blobs, newest.dataset_id)
        self.trained.append({row.sample_id for row in trained if row.split is Split.TRAIN})
        for row in rows:
            self.roles.setdefault(row.sample_id, []).append(row.split)
        return number

    def _number(self):
        return len(self.tested)

    def groups(self, ids):
        with self.loop.ledger.read() as connection:
            return set(groups_of(connection, sorted(ids)).values())

    def drawn(self):
        with self.loop.ledger.read() as connection:
            chosen = origins(connection).items()
        return {key for key, origin in chosen if origin.share is Share.PROBABILITY}


def is_drawn(row):
    return row.split is Split.TEST and row.origin == "probability"


@pytest.fixture
def open_nights(tmp_path):
    opened = []

    def run(**changes):
        manager = open_memory(toy_task(), tmp_path, **(SETTINGS | changes))
        opened.append(manager)
        nights = Nights(manager.__enter__())
        nights.night()
        return nights

    yield run
    for manager in opened:
        manager.__exit__(None, None, None)


def test_a_label_tests_for_the_nights_of_the_window_and_trains_ever_after(open_nights):
    short = {"min_fresh_samples": 10, "challenge_samples": 10, "challenges": 100}
    nights = open_nights(dataset={"window_nights": 2, "near_duplicate": 0.0}, gate=short)
    for day in range(1, 7):
        nights.serve(40, day)
        nights.night()
        nights.project.annotate(side_of)
    nights.night()
    roles = [
        [split.value for split in role] for role in nights.roles.values() if Split.TEST in role
    ]
    both = [role for role in roles if "train" in role]
    assert len(both) > 10
    assert all(role == sorted(role, key="test train".index) for role in both)  # and never back


def test_nothing_that_trained_is_tested_on_with_groups_that_come_again_and_a_rollback(open_nights):
    """Ten nights of an open challenge, late labels, outcomes, and an older champion in between."""
    nights = open_nights(
        dataset={"window_nights": 2, "group": "camera", "near_duplicate": 0.0},
        gate={"min_fresh_samples": 5, "alpha": 0.3, "challenges": 20},
    )
    rng = np.random.default_rng(5)
    for day in range(1, 11):
        predictions = nights.serve(40, day, lambda n, day=day: f"camera {(n + 7 * day) % 60}")
        for prediction in predictions[::3]:
            nights.project.give_feedback(prediction, FeedbackKind.OUTCOME, True)
        nights.night()
        if rng.random() < 0.6:  # the others come late
            nights.project.annotate(side_of)
        with nights.loop.ledger.read() as connection:
            release = current_release(connection)
        if day == 6 and release.previous_digest:
            roll_back(nights.loop, "a test")
    seen = set()
    for tested, trained in zip(nights.tested, nights.trained, strict=True):
        seen |= trained
        assert not tested & seen
    assert sum(map(len, nights.tested)) > 20
    with nights.loop.ledger.read() as connection:
        last = nights.groups(nights.tested[-1])
        assert not trained_groups(connection, last)


def test_an_open_challenge_keeps_its_labels_in_the_window(open_nights):
    nights = open_nights(dataset={"window_nights": 1, "near_duplicate": 0.0})
    for day in range(1, 5):
        nights.serve(40, day)
        nights.night()
        nights.project.annotate(side_of)
    opened = 0
    for day in range(5, 9):
        nights.serve(40, day)
        nights.night()
        with nights.loop.ledger.read() as connection:
            report = report_of_night(connection, day)
        if report.challenge is not None and report.fresh is not None:
            opened = max(opened, len(report.fresh.gains))
            assert len(nights.tested[-1]) >= len(report.fresh.gains)
        nights.project.annotate(side_of)
    assert opened >= 10


def test_samples_of_a_drawn_group_are_not_targeted(open_nights):
    nights = open_nights(dataset={"group": "camera", "near_duplicate": 0.0})
    nights.serve(60, 1, lambda n: f"camera {n % 12}")
    nights.night()
    drawn = nights.drawn()
    asked = {kept.data["sample_id"] for kept in nights.project.backend.tasks.values()}
    assert drawn
    assert asked - drawn
    assert not nights.groups(asked - drawn) & nights.groups(drawn)


def test_without_new_traffic_what_was_never_drawn_can_still_be_drawn(open_nights):
    nights = open_nights()
    nights.serve(60, 1)
    nights.night()
    before = len(nights.drawn())
    nights.night()
    assert len(nights.drawn()) > before


def test_when_every_group_has_trained_the_night_says_so(open_nights):
    nights = open_nights(dataset={"group": "camera", "near_duplicate": 0.0})
    with nights.loop.ledger.begin() as connection:
        add_trained(connection, ["camera 0", "camera 1"], 0)
    nights.serve(30, 1, lambda n: f"camera {n % 2}")
    routed = nights.project.night()["route"]
    assert (routed.num_probability, routed.population, routed.num_targeted > 0) == (0, 0, True)
    assert 'set [dataset] holdout = "groups"' in routed.note


@pytest.mark.parametrize(("num_trained", "warns"), [(3, True), (2, False)])
def test_a_night_warns_when_most_of_what_arrives_can_test_no_more(open_nights, num_trained, warns):
    nights = open_nights(dataset={"group": "camera", "near_duplicate": 0.0})
    with nights.loop.ledger.begin() as connection:
        add_trained(connection, [f"camera {n}" for n in range(num_trained)], 0)
    nights.serve(40, 1, lambda n: f"camera {n % 4}")
    routed = nights.project.night()["route"]
    assert routed.num_probability > 0
    said = f"{10 * num_trained} of the newest 40 samples are of groups that a model was trained on"
    assert (said in routed.note) is warns


def test_what_is_drawn_again_from_a_backlog_does_not_count_as_production_twice(open_nights):
    """The hard ones were chosen before, so that the rest is no random part of production."""
    nights = open_nights(dataset={"near_duplicate": 0.0})
    nights.serve(60, 1)
    for _ in range(4):
        nights.night()
        nights.project.annotate(side_of)
    num_drawn = len(nights.drawn())
    estimate = estimate_production(nights.loop, 4)
    assert num_drawn > estimate.estimate.num_samples
    assert estimate.num_population == 60


def test_a_night_that_asks_an_expert_first_still_draws_from_the_backlog(open_nights):
    """Two annotators disagree, and the question to the expert is paid from the same budget."""
    nights = open_nights(labeling=TWICE, annotators={"domain_experts": ["ann"]})
    nights.serve(60, 1)
    nights.night()
    nights.project.annotate(side_of, "bob")
    nights.project.annotate(lambda sample: OTHER[side_of(sample)], "eve")
    before = len(nights.drawn())
    asked = nights.project.night()["route"]  # finds out that they disagree, too
    assert asked.num_review
    assert len(nights.drawn()) > before
