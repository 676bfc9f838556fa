"""Rotations after which a part looks the same: all that follow from the ones a person named.

Rotations are about the part's origin. A continuous symmetry counts as 36 steps of 10 degrees.
Refuses to guess symmetries: a mark that only people see may break one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from flywheel.errors import SettingsError
from flywheel.records import Array
from flywheel.tasks.pose.description import Symmetry
from flywheel.tasks.pose.rotation import angle_deg

_STEPS = 36
_MOST = 100
_SAME_DEG = 0.1
_MOST_GAP = 0.02


def symmetry_rotations(symmetries: Sequence[Symmetry], origin: str) -> Array:
    """(S, 3, 3), the smallest group that holds all of them, identity first.

    Args:
        symmetries: each names an axis and how many turns make a round.
        origin: the file that messages name.

    Raises:
        SettingsError: together they make more than 100 rotations.
    """
    steps = [_step(symmetry) for symmetry in symmetries]
    found = np.eye(3)[None]
    place = 0
    while place < len(found):
        for step in steps:
            turned = step @ found[place]
            if angle_deg(found, turned).min() > _SAME_DEG:
                found = np.concatenate([found, turned[None]])
        place += 1
        if len(found) > _MOST:
            raise SettingsError(
                f"{origin}: the {len(symmetries)} symmetries make more than {_MOST} rotations "
                "together; check that the angles between their axes are exact, or leave one out"
            )
    return found


def check_symmetries(
    symmetries: Sequence[Symmetry], surface: Array, diameter_m: float, origin: str
) -> None:
    """Nothing when each maps the surface, points (N, 3) drawn densely from it, to itself.

    Raises:
        SettingsError: a turned point is further than 2 % of the diameter from all others.
    """
    tree = cKDTree(surface)
    for number, symmetry in enumerate(symmetries):
        gap = float(tree.query(surface[::_STEPS] @ _step(symmetry).T)[0].max()) / diameter_m
        if gap > _MOST_GAP:
            raise SettingsError(
                f"{origin}: symmetry {number + 1} (axis {symmetry.axis}, fold {symmetry.fold}) "
                f"moves the surface by {gap:.0%} of the diameter, {_MOST_GAP:.0%} is allowed; "
                "it turns about the origin of the part: check axis, fold and origin"
            )


def _step(symmetry: Symmetry) -> Array:
    axis = np.array(symmetry.axis) / np.linalg.norm(symmetry.axis)
    turn: Array = Rotation.from_rotvec(axis * 2 * np.pi / (symmetry.fold or _STEPS)).as_matrix()
    return turn
