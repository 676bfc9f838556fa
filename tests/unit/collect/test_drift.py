"""Drift: no alarm without one however large the window, and an alarm for a real shift."""

import dataclasses

import numpy as np
import pytest

from flywheel.collect.drift import (
    LEAST_EFFECT,
    Drift,
    Features,
    _places,
    compare,
    ks_distance,
    measure_drift,
)
from flywheel.ledger.codec import from_json, to_json
from flywheel.records import Answer, Sample

WIDTH = 16
ALPHA = 0.005
MOST = 5_000


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def drawn(rng, number, shift=0.0):
    """Predictions of a model; a shift of the first direction by so many standard deviations."""
    embeddings = rng.normal(size=(number, WIDTH)) * np.linspace(2, 0.5, WIDTH)
    embeddings[:, 0] += 2 * shift
    return Features(rng.beta(5, 2, number), embeddings)


def alarms(rng, number, shift, rounds):
    """Share of rounds with an alarm; a window that is larger is read in part."""
    rows = min(number, MOST)
    found = [compare(drawn(rng, MOST), drawn(rng, rows, shift), ALPHA) for _ in range(rounds)]
    return np.mean([one.low > LEAST_EFFECT for one in found])


@pytest.mark.parametrize("number", [100, 1_000, 100_000])
def test_without_drift_a_window_of_any_size_alarms_no_more_often_than_alpha(rng, number):
    assert alarms(rng, number, shift=0.0, rounds=20) <= 0.01


@pytest.mark.parametrize("number", [100, 1_000, 100_000])
def test_a_small_shift_never_alarms_with_rows_enough_to_make_it_significant(rng, number):
    """A p-value would: the trap that verdicts depend on how much was logged."""
    assert alarms(rng, number, shift=0.1, rounds=10) == 0


@pytest.mark.parametrize(("number", "shift"), [(100, 2.5), (1_000, 1.0), (100_000, 0.6)])
def test_a_real_shift_is_found(rng, number, shift):
    assert alarms(rng, number, shift, rounds=10) == 1


def test_a_shift_of_confidence_is_named(rng):
    new = drawn(rng, 1_000)
    moved = compare(drawn(rng, 1_000), new._replace(confidences=new.confidences / 2), ALPHA)
    assert moved.feature == "confidence"
    assert 0 < moved.low < moved.distance


def test_directions_are_not_compared_on_the_rows_they_were_fitted_to(rng):
    """With few rows and many dimensions the fitted rows lie along the direction by choice."""
    few = [
        compare(
            Features(rng.random(120), rng.normal(size=(120, 200))),
            Features(rng.random(120), rng.normal(size=(120, 200))),
            ALPHA,
        )
        for _ in range(40)
    ]
    assert np.mean([one.low > 0 for one in few]) <= 0.025


def test_the_distance_is_that_of_the_definition(rng):
    one, other = rng.integers(0, 5, 40).astype(float), rng.integers(1, 6, 30).astype(float)
    slow = max(abs(np.mean(one <= x) - np.mean(other <= x)) for x in range(6))
    distance, edge = ks_distance(one, other)
    assert distance == pytest.approx(slow)
    assert abs(np.mean(one <= edge) - np.mean(other <= edge)) == distance


def test_no_more_is_read_than_a_bound_and_every_place_may_be(rng):
    places = _places(1_000, 1_001_000, rng)
    assert len(set(places)) == MOST
    assert places == sorted(places)
    assert 1_000 < places[0] < 3_000
    assert 998_000 < places[-1] <= 1_001_000
    assert _places(3, 6, rng) == [4, 5, 6]


class Windows:
    """Appends windows of predictions, and measures each as a night does."""

    def __init__(self, production):
        self.ledger, self.past = production.ledger, production
        self.upto, self.rng = 0, np.random.default_rng(0)

    def window(self, number, model="a" * 64, shift=0.0, group=None):
        features = drawn(self.rng, number, shift)
        samples = [Sample.of(self.rng.bytes(8), "image/png") for _ in range(number)]
        answers = [
            Answer(value="a", confidence=float(value), embedding=place.astype(np.float32))
            for value, place in zip(features.confidences, features.embeddings, strict=True)
        ]
        self.past.serve(samples, answers, group=group, model_digest=model)
        found = measure_drift(self.ledger, self.upto, self.upto + number, seed=0, alpha=ALPHA)
        self.upto = found.upto
        return found


@pytest.fixture
def windows(production):
    return Windows(production)


def test_the_first_window_of_a_model_has_nothing_to_be_compared_with(windows):
    found = windows.window(100)
    assert (found.distance, found.is_alarm, found.num_new) == (None, False, 100)


def test_a_window_is_compared_with_the_first_ones_of_its_model(windows):
    calm = [windows.window(300) for _ in range(3)][1:]
    assert [one.is_alarm for one in calm] == [False, False]
    assert [one.num_reference for one in calm] == [300, 600]
    moved = windows.window(300, shift=2.0)
    assert moved.is_alarm
    assert moved.feature == "direction 1 of the embeddings"
    assert len(moved.where) == 200
    assert 0.5 < moved.excess <= 1


def test_samples_are_named_that_lie_where_production_has_moved_to(rng):
    """A fifth moves to the far end of the first direction."""
    new = drawn(rng, MOST)
    moves = rng.random(MOST) < 0.2
    new.embeddings[moves, 0] += 8.0
    moved = compare(drawn(rng, MOST), new, ALPHA)
    assert moves[moved.is_there].mean() > 0.85
    assert moved.excess == pytest.approx(moves[moved.is_there].mean(), abs=0.05)


def test_a_new_model_begins_a_reference_of_its_own(windows):
    for _ in range(2):
        windows.window(100)
    assert windows.window(100, model="b" * 64, shift=3.0).distance is None
    assert not windows.window(100, model="b" * 64, shift=3.0).is_alarm
    assert windows.window(400, model="a" * 64, shift=3.0).is_alarm


def test_a_night_that_is_run_again_finds_the_same(windows):
    windows.window(200)
    found = windows.window(200)
    assert measure_drift(windows.ledger, 200, 400, seed=0, alpha=ALPHA) == found


def test_samples_of_one_group_count_as_one(windows):
    windows.window(100)
    found = windows.window(100, shift=3.0, group="one camera")
    assert (found.num_new, found.distance) == (1, None)


@pytest.mark.parametrize("width", [0, 3])
def test_an_embedding_of_another_width_is_left_out(windows, width):
    """After one picture of another size every night ended in numpy's ValueError."""
    windows.window(100)
    odd = Answer(value="a", confidence=0.5, embedding=np.ones(width, dtype=np.float32))
    windows.past.serve([Sample.of(b"odd", "image/png")], [odd], model_digest="a" * 64)
    windows.window(100)
    found = windows.window(100)
    assert (found.num_new, found.num_reference) == (100, 199)  # less the odd one


def test_nothing_new_and_an_unknown_start_are_no_drift(windows):
    assert measure_drift(windows.ledger, 5, 5, seed=0, alpha=ALPHA) == Drift(upto=5)
    assert measure_drift(windows.ledger, None, 5, seed=0, alpha=ALPHA) == Drift(upto=5)


def test_drift_is_stored_and_read(windows):
    found = dataclasses.replace(windows.window(100), distance=0.25, low=0.0, feature="x")
    assert from_json(Drift, to_json(found)) == found


def test_a_class_that_grows_is_named_though_nothing_else_moves(rng):
    before, now = drawn(rng, 2_000), drawn(rng, 2_000)
    usual = tuple(rng.choice(["a", "b", "c"], 2_000, p=[0.6, 0.3, 0.1]).tolist())
    grown = tuple(rng.choice(["a", "b", "c"], 2_000, p=[0.3, 0.3, 0.4]).tolist())
    moved = compare(before._replace(answers=usual), now._replace(answers=grown), ALPHA)
    assert (moved.feature, moved.low > LEAST_EFFECT) in {
        ('the share of answer "a"', True),
        ('the share of answer "c"', True),
    }
    assert compare(before._replace(answers=usual), now._replace(answers=usual), ALPHA).low == 0


def test_numbers_are_compared_by_their_distribution(rng):
    before, now = drawn(rng, 1_000), drawn(rng, 1_000)
    angles, turned = rng.normal(0, 1, 1_000), rng.normal(2, 1, 1_000)
    moved = compare(
        before._replace(answers=tuple(angles.tolist())),
        now._replace(answers=tuple(turned.tolist())),
        ALPHA,
    )
    assert (moved.feature, moved.low > LEAST_EFFECT) == ("answer", True)


def test_a_shift_along_a_small_component_is_found(rng):
    """It lies along none of the first principal components."""
    new = drawn(rng, MOST)
    new.embeddings[:, -3:] += 2.0  # four standard deviations, in three of sixteen numbers
    moved = compare(drawn(rng, MOST), new, ALPHA)
    assert moved.low > LEAST_EFFECT
