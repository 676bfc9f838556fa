"""Nights whose input is poor: each ends, and says what it did without."""

import numpy as np
import pytest

from flywheel.records import FeedbackKind, Sample
from flywheel.testing import draw_points, open_memory, toy_task

SETTINGS = {
    "train": {"device": "cpu", "learning_rate": 0.1, "batch_size": 8, "steps": 20},
    "labeling": {"samples_per_night": 16, "probability_share": 0.5},
    "annotators": {"domain_experts": ["ann"]},
    "collect": {"low_confidence": 1.0},
    "dataset": {"window_nights": 1},
}


@pytest.fixture
def begun(tmp_path):
    with open_memory(toy_task(), tmp_path, **SETTINGS) as project:
        project.night()
        yield project


def test_outcomes_without_any_label_train_at_the_trust_they_begin_with(begun):
    for one in begun.serve(draw_points(30, 1)[0]):
        begun.give_feedback(one, FeedbackKind.OUTCOME, True)
    night = begun.night()
    assert "train with weight 0.8, no label to compare with" in night["ingest"].outcomes
    assert "24 start, 22 worked" in night["retrain"].note
    assert "0 fresh labels are too few" in night["decide"].reasons[0]


def test_a_class_without_a_label_stops_no_night(begun):
    begun.serve(draw_points(30, 1)[0])
    begun.night()
    begun.annotate(lambda _: "left")
    night = begun.night()
    assert night["ingest"].num_labels == 16
    assert "24 start, 8 targeted" in night["retrain"].note
    assert "fresh labels are too few" in night["decide"].reasons[0]


def test_production_that_is_all_alike_is_drawn_and_chosen_from_like_any_other(begun):
    alike = [np.array([1.0, 1.0 + 1e-6 * row], dtype="<f4") for row in range(30)]
    begun.serve(Sample.of(point.tobytes(), "application/octet-stream") for point in alike)
    routed = begun.night()["route"]
    assert min(routed.num_probability, routed.num_targeted) > 4
    assert routed.num_probability + routed.num_targeted == 16
    begun.annotate(lambda _: "right")
    assert begun.night()["ingest"].num_labels == 16
