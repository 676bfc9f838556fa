"""Boxes and cylinders are closed, face outwards, and have the size that was asked for."""

import numpy as np
import pytest
import trimesh

from flywheel.examples.pose.render.scene import Clutter, box, cylinder
from flywheel.examples.pose.render.texture import Surface

GREY = Surface(colour=(0.5, 0.5, 0.5))
SOLIDS = {"box": box((0.03, 0.02, 0.05), GREY), "cylinder": cylinder(0.01, 0.04, GREY, sides=10)}


@pytest.mark.parametrize("name", SOLIDS)
def test_a_solid_is_closed_and_its_faces_look_outwards(name):
    solid = SOLIDS[name]
    mesh = trimesh.Trimesh(solid.vertices, solid.faces, process=False)
    volume = {"box": 0.03 * 0.02 * 0.05, "cylinder": 5 * 0.01**2 * np.sin(np.pi / 5) * 0.04}[name]
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(volume)


@pytest.mark.parametrize("name", SOLIDS)
def test_a_solid_stands_on_the_origin(name):
    low, high = SOLIDS[name].vertices.min(axis=0), SOLIDS[name].vertices.max(axis=0)
    assert low[2] == 0
    np.testing.assert_allclose((low + high)[:2], 0, atol=1e-12)


def test_solids_together_keep_their_places_and_surfaces():
    red = Surface(colour=(1.0, 0.0, 0.0))
    moved = box((0.01, 0.01, 0.01), red).moved(np.eye(3), np.array([0.0, 0.0, 0.2]))
    both = Clutter.of([SOLIDS["cylinder"], moved])
    own = both.faces[both.surface_of == 1]
    assert both.surfaces == (GREY, red)
    assert both.vertices[own][..., 2].min() == pytest.approx(0.2)
    assert both.faces.dtype == both.surface_of.dtype == np.int32


def test_no_solids_are_an_empty_mesh():
    empty = Clutter.of([])
    assert empty.vertices.shape == empty.faces.shape == (0, 3)
