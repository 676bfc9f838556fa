"""Robot cells: fixed by seed and night; wider than the start data and drifting, or with a long tail."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from flywheel.examples.pose.part import EXAMPLE_PART, load_part
from flywheel.examples.pose.posing import Camera, angle_deg, decode, project, read_pose, write_pose
from flywheel.examples.pose.render import visibility
from flywheel.examples.pose.start import start_scene
from flywheel.examples.pose.world import RobotCell, _reaction
from flywheel.records import Sample


@pytest.fixture(scope="module")
def part():
    return load_part(EXAMPLE_PART)


@pytest.fixture(scope="module")
def world(part):
    return RobotCell(part=part, seed=3, picks_per_night=60)


@pytest.fixture(scope="module")
def nights(world):
    return {night: world.traffic(night) for night in (0, 12)}


def scenes_of(arrivals):
    return [arrival.metadata["scene"] for arrival in arrivals]


def scenes(world, night, number=150):
    drawn = world._scenes(night, "test", number, np.random.default_rng(night))
    return [scene for scene, _ in drawn]


def test_a_night_is_the_same_at_every_call(part, world, nights):
    assert nights[0] == RobotCell(part=part, seed=3, picks_per_night=60).traffic(0)
    assert world.truth_set(2, 20) == world.truth_set(2, 20)


def test_nights_seeds_and_truth_sets_differ(part, world, nights):
    ids = [
        {arrival.payload for arrival in arrivals}
        for arrivals in (
            nights[0],
            nights[12],
            RobotCell(part=part, seed=4, picks_per_night=60).traffic(0),
            world.truth_set(0, 20),
        )
    ]
    assert [len(one) for one in ids] == [60, 60, 60, 20]
    assert len(set.union(*ids)) == 200


def test_arrivals_are_samples_with_a_camera_and_the_truth_is_exact(nights):
    for arrival in nights[0]:
        sample = Sample.of(arrival.payload, arrival.media_type, arrival.metadata)
        pose = read_pose(arrival.truth)
        assert decode(sample).shape == (64, 64, 3)
        assert pose.camera == Camera.of(sample.metadata, "a sample")
        assert (pose.std_cm, pose.std_deg) == (0.0, 0.0)


def test_a_bin_is_photographed_up_to_three_times_and_bins_never_mix(world, nights):
    counts = np.unique(scenes_of(nights[0]), return_counts=True)[1]
    assert set(counts.tolist()) == {1, 2, 3}
    assert not set(scenes_of(nights[0])) & set(scenes_of(nights[12]))
    assert not set(scenes_of(nights[0])) & set(scenes_of(world.truth_set(0, 40)))


def test_pictures_of_one_bin_are_nearly_the_same_and_of_one_cell(nights):
    pairs = [
        (one, two)
        for one, two in zip(nights[0], nights[0][1:], strict=False)
        if one.metadata["scene"] == two.metadata["scene"]
    ]
    poses = [(read_pose(one.truth), read_pose(two.truth)) for one, two in pairs]
    assert max(angle_deg(one.rotation, two.rotation) for one, two in poses) < 12
    assert all(
        one.metadata[key] == two.metadata[key] for one, two in pairs for key in ("cell", "lamp")
    )


def test_every_cell_and_both_shifts_occur(nights):
    assert {a.metadata["cell"] for a in nights[0]} == {"north", "south", "west"}
    assert {a.metadata["lamp"] for a in nights[0]} == {"day", "night"}


def test_by_night_it_is_dark_and_the_sensor_noisy(world):
    drawn = world._scenes(12, "test", 300, np.random.default_rng(0))
    found = {"day": [], "night": []}
    for scene, metadata in drawn:
        light = scene.effects.exposure * scene.light.ambient[1]
        found[metadata["lamp"]].append((light, scene.effects.noise))
    day, night = (np.mean(found[lamp], axis=0) for lamp in ("day", "night"))
    assert night[0] < 0.7 * day[0]
    assert night[1] > 1.2 * day[1]


def test_the_part_is_seen_in_nearly_every_picture_and_hidden_in_many(part, world):
    shares = np.array([visibility(part, scene).part for scene in scenes(world, 12)])
    assert np.mean(shares < 0.95) > 0.05
    assert np.mean(shares < 0.3) < 0.05


def test_the_part_fills_much_of_the_picture_and_hardly_leaves_it(part, world):
    sizes = []
    for scene in scenes(world, 3):
        pixels = project(scene.pose.transform(part.vertices), scene.pose.camera)
        sizes.append(np.ptp(pixels, axis=0).max() / 64)
        assert pixels.min() > -10
        assert pixels.max() < 73
    assert 0.55 < np.mean(sizes) < 0.75


def test_parts_are_turned_in_every_way_and_tilted_up_to_40_degrees(world):
    turned = np.array([s.view.rotation.T @ s.pose.rotation for s in scenes(world, 3)])
    tilts = np.degrees(np.arccos(turned[:, 2, 2].clip(-1, 1)))
    yaws = np.degrees(np.arctan2(turned[:, 1, 0], turned[:, 0, 0]))
    assert np.ptp(yaws) > 340
    assert np.mean(tilts > 20) > 0.08
    assert np.quantile(tilts, 0.98) < 45


def spreads(drawn):
    """How far light, exposure and colours of the part vary, and how bad blur and noise are."""
    return [
        np.std([np.log(scene.effects.exposure) for scene in drawn]),
        np.std([np.arccos(scene.light.direction[2]) for scene in drawn]),
        np.std([scene.part.colour[0] for scene in drawn]),
        np.std([scene.light.colour[0] - scene.light.colour[2] for scene in drawn]),
        np.mean([scene.effects.defocus_px for scene in drawn]),
        np.mean([scene.effects.noise for scene in drawn]),
        np.mean([len(scene.clutter.surfaces) for scene in drawn]),
    ]


def test_production_is_wider_than_the_start_data_and_drifts_further(part, world):
    rng = np.random.default_rng(0)
    start = spreads([start_scene(part, rng) for _ in range(200)])
    first, later = spreads(scenes(world, 0, 250)), spreads(scenes(world, 15, 250))
    assert all(a < b for a, b in zip(start, first, strict=True))
    assert all(a < b for a, b in zip(first, later, strict=True))


def test_lenses_age_and_the_metadata_says_so(world):
    def focal(night):
        arrivals = world.truth_set(night, 40)
        return np.mean([a.metadata["camera"][0] for a in arrivals if a.metadata["cell"] == "north"])

    assert focal(30) > focal(0) * 1.03


def test_drift_levels_off(world):
    noise = [np.mean([s.effects.noise for s in scenes(world, n, 250)]) for n in (0, 10, 40, 50)]
    assert noise[1] - noise[0] > abs(noise[3] - noise[2])


@pytest.fixture(scope="module")
def reactions(world):
    scene, rng = scenes(world, 0, 1)[0], np.random.default_rng(0)
    return read_pose(write_pose(scene.pose)), [_reaction(scene, rng) for _ in range(1000)]


def test_most_picks_are_reported_and_a_few_are_measured(reactions):
    found = reactions[1]
    assert np.mean([r.gives_outcome for r in found]) == pytest.approx(0.8, abs=0.04)
    assert np.mean([r.misjudges for r in found]) == pytest.approx(0.02, abs=0.015)
    assert np.mean([r.measured is not None for r in found]) == pytest.approx(0.05, abs=0.02)
    assert not any(r.corrects for r in found)


def test_a_marker_is_right_to_a_millimetre_and_half_a_degree(reactions):
    true = reactions[0]
    found = [read_pose(r.measured) for r in reactions[1] if r.measured is not None]
    cm = [100 * np.linalg.norm(true.position_m - one.position_m) for one in found]
    deg = [angle_deg(true.rotation, one.rotation) for one in found]
    assert np.sqrt(np.mean(np.square(cm))) == pytest.approx(0.1, rel=0.3)
    assert np.sqrt(np.mean(np.square(deg))) == pytest.approx(0.5, rel=0.3)
    assert all((one.std_cm, one.std_deg) == (0.1, 0.5) for one in found)


def test_a_truth_set_brings_no_reactions(world):
    assert all(arrival.reaction is None for arrival in world.truth_set(0, 5))


def test_the_true_pose_grasps_and_one_far_off_does_not(world, nights):
    pose = read_pose(nights[0][0].truth)
    off = write_pose(replace(pose, position_m=pose.position_m + np.array([0.05, 0.0, 0.0])))
    assert world.is_right(nights[0][0].truth, nights[0][0].truth)
    assert not world.is_right(off, nights[0][0].truth)


@pytest.fixture(scope="module")
def tail(part):
    """What is drawn for many pictures of the long tail: by kind, scenes and what is sent with them."""
    world = RobotCell(part=part, seed=3, is_drifting=False)
    found = {}
    for scene, metadata, kind in world._drawn(0, "bin", 1_200, np.random.default_rng(0)):
        found.setdefault(kind, []).append((scene, metadata))
    return found


def test_in_the_long_tail_nine_of_ten_pictures_are_as_the_start_data(part, tail):
    shares = {kind: len(drawn) / 1_200 for kind, drawn in tail.items()}
    assert shares == pytest.approx(
        {"usual": 0.89, "new cell": 0.06, "lamp": 0.03, "bin": 0.02}, abs=0.02
    )
    start = start_scene(part, np.random.default_rng(0))
    for scene, _ in tail["usual"]:
        assert (scene.floor, scene.part) == (start.floor, start.part)


def test_what_is_rare_differs_in_what_it_is_named_for_alone(part, tail):
    start = start_scene(part, np.random.default_rng(0))
    assert min(scene.effects.noise for scene, _ in tail["lamp"]) > start.effects.noise
    assert all(scene.floor == start.floor for scene, _ in tail["lamp"])
    assert len({scene.floor.colour for scene, _ in tail["bin"]} - {start.floor.colour}) > 5
    assert all(scene.effects.noise == start.effects.noise for scene, _ in tail["bin"])
    focal = np.array([scene.pose.camera.fx for scene, _ in tail["new cell"]])
    assert np.abs(focal / 181.0 - 1.0).max() < 0.04


def test_metadata_gives_the_new_cell_and_the_lamp_away_and_nothing_else(tail):
    given = {
        kind: Counter((metadata["cell"], metadata["lamp"]) for _, metadata in drawn)
        for kind, drawn in tail.items()
    }
    assert {kind: list(one) for kind, one in given.items()} == {
        "usual": [("north", "day")],
        "new cell": [("west", "day")],
        "lamp": [("north", "night")],
        "bin": [("north", "day")],
    }


def test_a_night_of_the_long_tail_is_the_same_at_every_call(part):
    world = RobotCell(part=part, seed=3, is_drifting=False, picks_per_night=15)
    assert world.traffic(1) == world.traffic(1)
    assert {one.payload for one in world.traffic(1)}.isdisjoint(
        one.payload for one in world.truth_set(1, 15)
    )
