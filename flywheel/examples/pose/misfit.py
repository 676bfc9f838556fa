"""The pose that marked keypoints give, and which mark is wrong when they fit no pose.

Annotators swap two names, or slip with one point; both leave all the other marks in place, so that
every single repair can be tried.

Shapes: K marks.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy import stats

from flywheel.examples.pose.camera import Camera, project, rays
from flywheel.examples.pose.pnp import Solution, solve_batch
from flywheel.examples.pose.posing import Pose
from flywheel.records import Array

_FALSE_ALARM = 1e-4
"""chance that marks as exact as their std says are taken for a mistake; with one test for each mark,
an exact annotator is stopped about once in a thousand pictures"""
_NO_WEIGHT = 1e6
"""with so many times its std, a mark does not count"""
_PREFER_SWAP = 2.0
"""two names are exchanged more often than one point is lost, and it explains all marks"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Marks:
    """Where keypoints were marked."""

    names: tuple[str, ...]
    points: Array
    """(K, 3), the part's frame, metres"""
    pixels: Array
    """(K, 2)"""
    std_px: Array
    """(K,) one sigma of each"""
    camera: Camera


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Fit:
    """The pose that fits marks best, and how well it does."""

    pose: Pose
    ratio: float
    """root of chi^2 over its degrees of freedom, about 1 for good marks; infinite for no pose"""
    freedom: int
    """2 K - 6 for K marks that count"""
    distances_px: Array
    """(K,) of the marks from where the pose puts them; NaN where that is behind the camera"""

    @property
    def chi2(self) -> float:
        """Sum of the squared distances over their variances."""
        return self.ratio**2 * max(self.freedom, 1)

    @property
    def is_good(self) -> bool:
        """Whether the marks belong together, by chi^2."""
        return self.chi2 <= float(stats.chi2.isf(_FALSE_ALARM, max(self.freedom, 1)))

    @property
    def residual_px(self) -> float:
        """Root mean square of the distances."""
        return float(np.sqrt(np.mean(self.distances_px**2)))


def fit(marks: Marks) -> Fit:
    """The pose that fits marks best; their points must pass `pnp.check_points`."""
    return _fits(marks, marks.pixels[None], marks.std_px[None], len(marks.names))[0]


def outlier(marks: Marks, found: Fit) -> bool:
    """Whether one mark is so far from where the others put it that it must be a mistake.

    Formula: chi^2 falls by more than its quantile for two numbers when the mark is left out. It
    sees a point that slipped by a few pixels, which all marks together still hide.
    Source: Baarda (1968), A testing procedure for use in geodetic networks.
    """
    if found.freedom <= 2:  # four marks: without one of them nothing is left to compare
        return False
    without, _ = _best_without(marks)
    return found.chi2 - without.chi2 > float(stats.chi2.isf(_FALSE_ALARM, 2))


def explain(marks: Marks, found: Fit) -> str:
    """A line for the annotator on marks that fit no pose: two are swapped, or one is misplaced."""
    swapped, pair = _best_swap(marks)
    without, lost = _best_without(marks)
    if swapped.is_good and swapped.ratio <= _PREFER_SWAP * without.ratio:
        one, other = (marks.names[index] for index in pair)
        return (
            f"{one!r} and {other!r} look swapped: residual {found.residual_px:.1f} px, swapped "
            f"back {swapped.residual_px:.1f} px; exchange their names"
        )
    if without.is_good:
        return (
            f"{marks.names[lost]!r} lies {without.distances_px[lost]:.0f} px from where the "
            "others put it; move it there, or take it away"
        )
    return (
        f"the {len(marks.names)} marks fit no pose of the part: residual "
        f"{found.residual_px:.1f} px, and no exchange of two names and no mark left out repairs it; "
        "look at each name again"
    )


def _best_swap(marks: Marks) -> tuple[Fit, tuple[int, int]]:
    count = len(marks.names)
    pairs = list(itertools.combinations(range(count), 2))
    orders = np.tile(np.arange(count), (len(pairs), 1))
    for order, (one, other) in zip(orders, pairs, strict=True):
        order[[one, other]] = other, one
    # A mark keeps its std: what is hard to see stays so under another name.
    fits = _fits(marks, marks.pixels[orders], marks.std_px[orders], count)
    best = int(np.argmin([found.ratio for found in fits]))
    return fits[best], pairs[best]


def _best_without(marks: Marks) -> tuple[Fit, int]:
    count = len(marks.names)
    std = np.where(np.eye(count, dtype=bool), _NO_WEIGHT * marks.std_px, marks.std_px)
    fits = _fits(marks, np.tile(marks.pixels, (count, 1, 1)), std, count - 1)
    best = int(np.argmin([found.ratio for found in fits]))
    return fits[best], best


def _fits(marks: Marks, pixels: Array, std_px: Array, num_counted: int) -> list[Fit]:
    """A fit for each of B readings of the same marks: pixels (B, K, 2) and std (B, K)."""
    focal = np.sqrt(marks.camera.fx * marks.camera.fy)
    solution = solve_batch(marks.points, rays(pixels, marks.camera), std_px / focal)
    freedom = 2 * num_counted - 6
    chi2 = solution.residual**2 * 2 * len(marks.names)
    ratios = np.where(solution.in_front & (freedom > 0), np.sqrt(chi2 / max(freedom, 1)), np.inf)
    return [
        _fit(marks, solution, index, pixels[index], ratio=float(ratio), freedom=freedom)
        for index, ratio in enumerate(ratios)
    ]


def _fit(
    marks: Marks, solution: Solution, index: int, pixels: Array, *, ratio: float, freedom: int
) -> Fit:
    covariance = solution.covariance[index]
    pose = Pose(
        rotation=solution.rotation[index],
        position_m=solution.position_m[index],
        camera=marks.camera,
        std_cm=float(100 * np.sqrt(np.trace(covariance[3:, 3:]))),
        std_deg=float(np.degrees(np.sqrt(np.trace(covariance[:3, :3])))),
    )
    seen = project(pose.transform(marks.points), marks.camera)
    distances = np.linalg.norm(seen - pixels, axis=1)
    return Fit(pose=pose, ratio=ratio, freedom=freedom, distances_px=distances)
