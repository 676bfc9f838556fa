"""A picture shows the part where its pose says, lit as the light says, hidden as things hide it."""

from dataclasses import replace

import numpy as np
import pytest

from flywheel.examples.pose.posing import project
from flywheel.examples.pose.render import render, visibility
from flywheel.examples.pose.render.effects import Effects
from flywheel.examples.pose.render.scene import Clutter, Light, box
from flywheel.examples.pose.render.texture import Surface

GREEN = Surface(colour=(0.05, 0.7, 0.05))
NO_SHADOW = Light(direction=np.array([0.6, 0.0, 0.8]), shadow=0.0)


def is_red(picture):
    return picture[..., 0] > 1.5 * picture[..., 1]


def bar(height_m, across_m=(0.3, 0.02, 0.004)):
    """A flat bar across the middle of the bin, so high above its floor."""
    return Clutter.of([box(across_m, GREEN).moved(np.eye(3), np.array([0, 0, height_m]))])


@pytest.mark.parametrize("pixels", [64, 96])
def test_a_picture_is_square_and_rgb_of_8_bits(part, make_scene, pixels):
    picture = render(part, make_scene(), pixels)
    assert picture.shape == (pixels, pixels, 3)
    assert picture.dtype == np.uint8


def test_a_scene_gives_the_same_bytes_at_every_call(part, make_scene):
    scene = make_scene(effects=Effects(noise=0.03, seed=5, defocus_px=0.7))
    again = make_scene(effects=Effects(noise=0.03, seed=5, defocus_px=0.7))
    assert render(part, scene).tobytes() == render(part, again).tobytes()


@pytest.mark.parametrize("eye", [(0.0, 0.0, 0.45), (0.1, -0.25, 0.4)])
@pytest.mark.parametrize("yaw", [10.0, 130.0, 250.0])
def test_the_part_is_where_its_vertices_project_to(part, make_scene, yaw, eye):
    scene = make_scene(yaw_deg=yaw, tilt_deg=25.0, eye_m=eye, light=NO_SHADOW)
    rows, columns = np.nonzero(is_red(render(part, scene, 256)))
    places = 4 * project(scene.pose.transform(part.vertices), scene.pose.camera) + 1.5
    found = [columns.min(), columns.max(), rows.min(), rows.max()]
    expected = [places[:, 0].min(), places[:, 0].max(), places[:, 1].min(), places[:, 1].max()]
    np.testing.assert_allclose(found, expected, atol=2.0)


def test_edges_are_smooth_to_a_quarter_of_a_pixel(part, make_scene):
    """Moving the part by a quarter of a pixel changes only what is at its edges, and does so."""
    step_m = 0.25 / 165 * 0.45
    one, two = (render(part, make_scene(place_m=(x, 0), light=NO_SHADOW)) for x in (0.0, step_m))
    changed = np.abs(one.astype(int) - two).max(axis=2)
    assert 5 < np.count_nonzero(changed > 10) < 400
    assert changed.max() < 200


def test_all_of_a_part_that_lies_alone_is_visible(part, make_scene):
    assert visibility(part, make_scene()).part == 1.0


def test_a_bar_in_front_hides_and_one_beneath_does_not(part, make_scene):
    over = make_scene(clutter=bar(0.15))
    under = make_scene(clutter=bar(-0.02))
    assert 0.3 < visibility(part, over).part < 0.9
    assert visibility(part, under).part == 1.0
    middle = render(part, over)[31, 31].astype(int)
    assert middle[1] > middle[0] + 50


def test_hidden_keypoints_are_those_under_the_cover(part, make_scene):
    whole = make_scene(clutter=bar(0.2, (0.5, 0.5, 0.01)))
    found = visibility(part, whole)
    assert found.part == 0.0
    assert not found.keypoints.any()


def test_a_keypoint_on_the_far_side_is_hidden_by_the_part_itself(part, make_scene):
    points = np.array(list(part.keypoints.values()))
    upright = visibility(part, make_scene()).keypoints
    top = points[:, 2] > points[:, 2].max() - 1e-4
    assert upright[top].all()
    assert upright.sum() >= 4


def test_a_part_outside_the_picture_is_not_visible(part, make_scene):
    found = visibility(part, make_scene(place_m=(0.5, 0.0)))
    assert found.part == 0.0
    assert not found.keypoints.any()


def test_more_light_is_brighter(part, make_scene):
    means = [
        render(part, make_scene(light=replace(NO_SHADOW, colour=(c, c, c)))).mean()
        for c in (0.2, 0.5, 0.9)
    ]
    assert means == sorted(means)
    assert means[2] > means[0] + 20


def test_the_colour_of_the_lamp_is_on_all_things(part, make_scene):
    light = replace(NO_SHADOW, colour=(0.9, 0.5, 0.2), ambient=(0.3, 0.3, 0.3))
    floor = render(part, make_scene(light=light))[2, 2].astype(int)
    assert floor[0] > floor[1] > floor[2]


def test_a_side_turned_to_the_lamp_is_brighter(part, make_scene):
    flat = Clutter.of([box((0.5, 0.5, 0.02), GREEN)])
    high, low = (
        render(part, make_scene(clutter=flat, light=replace(NO_SHADOW, direction=np.array(d))))
        for d in ((0.0, 0.0, 1.0), (0.95, 0.0, 0.31))
    )
    assert high[2, 2, 1] > low[2, 2, 1] + 30


def test_the_shadow_falls_away_from_the_lamp(part, make_scene):
    """Lamp in the bin's +x, so the shadow lies to the left of the part."""
    block = [box((0.02, 0.02, 0.05), GREEN).moved(np.eye(3), np.array([0.0, 0.07, 0.0]))]
    changes = {"clutter": Clutter.of(block), "place_m": (0.5, 0.0)}
    light, dark = (
        render(part, make_scene(**changes, light=replace(NO_SHADOW, shadow=s))).astype(int)
        for s in (0.0, 0.9)
    )
    rows, columns = np.nonzero((light - dark).max(axis=2) > 20)
    assert columns.mean() < 31.5 - 4
    assert len(rows) > 20


def test_a_finer_picture_shows_the_same_view(part, make_scene):
    fine = render(part, make_scene(), 128).astype(float)
    coarse = np.sqrt((fine**2).reshape(64, 2, 64, 2, 3).mean(axis=(1, 3)))
    assert np.abs(coarse - render(part, make_scene())).mean() < 2.0


def test_a_shiny_part_has_a_highlight(part, make_scene):
    light = replace(NO_SHADOW, direction=np.array([0.0, 0.0, 1.0]))
    dull, shiny = (
        render(part, make_scene(light=light, part=Surface(colour=(0.2, 0.2, 0.2), gloss=gloss)))
        for gloss in (0.0, 0.8)
    )
    assert shiny.max() > dull.max() + 40
