"""Traffic is fixed by seed and night, comes from scans of its own, and drifts."""

import io
from functools import cache

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from flywheel.examples.digits import task as digits
from flywheel.examples.digits.world import DriftingScans, LongTail
from flywheel.records import Sample


@pytest.fixture(scope="module")
def world() -> DriftingScans:
    """Each of its nights is drawn once; those that are to be the same come from worlds of their own."""
    world = DriftingScans(3)
    object.__setattr__(world, "traffic", cache(world.traffic))
    return world


def _pixels(arrival) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(arrival.payload)), dtype=np.float64)


def _scans(arrivals) -> list[int]:
    return [arrival.metadata["scan"] for arrival in arrivals]


def test_a_night_is_the_same_at_every_call(world):
    assert world.traffic(2) == DriftingScans(3).traffic(2)
    assert world.truth_set(2, 50) == DriftingScans(3).truth_set(2, 50)


def test_nights_and_seeds_differ(world):
    first = world.traffic(0)
    assert first != world.traffic(1)
    assert first != DriftingScans(4).traffic(0)


def test_traffic_never_holds_a_scan_of_the_start_data(world):
    start = {scan for part in digits.start_scans() for scan in part}
    assert not any(start & set(_scans(world.traffic(night))) for night in (0, 1, 2, 4, 6, 9, 15))


def test_every_scan_outside_the_start_data_arrives_one_night():
    world = DriftingScans(0, arrivals_per_night=1377)
    start = {scan for part in digits.start_scans() for scan in part}
    assert set(_scans(world.traffic(0))) == set(range(1797)) - start


def test_a_scan_comes_once_a_night_and_again_on_other_nights(world):
    first, second = _scans(world.traffic(0)), _scans(world.traffic(1))
    assert len(set(first)) == len(first) == 400
    assert set(first) & set(second)


def test_a_scan_that_comes_again_has_drifted_differently(world):
    payloads = {a.metadata["scan"]: a.payload for a in world.traffic(0)}
    again = [a for a in world.traffic(1) if a.metadata["scan"] in payloads]
    assert all(a.payload != payloads[a.metadata["scan"]] for a in again)


def test_the_truth_is_the_scans_own_digit(world):
    targets = load_digits().target
    arrivals = world.traffic(4) + world.truth_set(4, 100)
    assert all(a.truth == str(targets[a.metadata["scan"]]) for a in arrivals)


def test_a_truth_set_is_made_from_held_scans_alone(world):
    _, held = digits.start_scans()
    arrivals = world.truth_set(5, 1000)
    assert len(arrivals) == 1000
    assert set(_scans(arrivals)) <= set(held)


def test_one_digit_becomes_common(world):
    shares = [np.mean([a.truth == "4" for a in world.traffic(n)]) for n in (0, 6)]
    assert shares[0] < 0.15
    assert shares[1] > 0.22


def test_phones_become_common_and_drift_most(world):
    phones = [np.mean([a.metadata["site"] == "phone" for a in world.traffic(n)]) for n in (0, 9)]
    assert phones[1] > phones[0] + 0.1


def test_ink_fades_and_paper_darkens_over_the_nights(world):
    ranges = [np.mean([np.ptp(_pixels(a)) for a in world.traffic(n)]) for n in (0, 15)]
    assert ranges[1] < ranges[0] - 5


def test_arrivals_are_samples_that_the_task_reads(world):
    samples = [Sample.of(a.payload, a.media_type, a.metadata) for a in world.traffic(0)]
    assert digits.task().inputs(samples).shape == (400, 1, 32, 32)


def test_every_slice_of_the_task_occurs_and_none_is_everything(world):
    samples = [Sample.of(a.payload, a.media_type, a.metadata) for a in world.traffic(1)]
    for belongs in digits.task().slices.values():
        assert 0.03 < np.mean([belongs(sample) for sample in samples]) < 0.8


def test_drift_costs_a_simple_model_much_of_its_accuracy(world):
    task = digits.task()
    start = list(task.start_data())
    train, held = start[:120], start[120:]
    predict = task.baselines["nearest neighbour"].fit(
        [e.sample for e in train], [e.answer for e in train]
    )
    clean = np.mean(np.array(predict([e.sample for e in held])) == [e.answer for e in held])
    arrivals = world.truth_set(0, 300)
    found = predict([Sample.of(a.payload, a.media_type) for a in arrivals])
    assert np.mean(np.array(found) == [a.truth for a in arrivals]) < clean - 0.15


def test_in_the_long_tail_nine_of_ten_arrivals_are_as_the_start_data():
    arrivals = [one for night in range(5) for one in LongTail(1).traffic(night)]
    kinds = [one.kind for one in arrivals]
    shares = {kind: kinds.count(kind) / len(kinds) for kind in set(kinds)}
    assert shares["desk"] == pytest.approx(0.87, abs=0.03)
    assert set(shares) == {"desk", "kiosk", "lamp", "far", "leaning"}
    assert min(shares.values()) > 0.008
    assert all((one.metadata["site"] == "kiosk") == (one.kind == "kiosk") for one in arrivals)


def test_what_is_rare_is_what_a_simple_model_gets_wrong():
    task = digits.task()
    start = list(task.start_data())[:120]
    predict = task.baselines["nearest neighbour"].fit(
        [one.sample for one in start], [one.answer for one in start]
    )
    arrivals = LongTail(0).truth_set(0, 400)
    answers = predict([one.sample for one in arrivals])
    right = {"usual": [], "rare": []}
    for answer, one in zip(answers, arrivals, strict=True):
        right["usual" if one.kind == "desk" else "rare"].append(answer == one.truth)
    assert np.mean(right["usual"]) > 0.8
    assert np.mean(right["rare"]) < 0.5
