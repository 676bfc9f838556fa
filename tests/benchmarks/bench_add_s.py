"""ADD-S of many poses: ours, a k-d tree built for each pose as the BOP toolkit does, brute force.

Run: python tests/benchmarks/bench_add_s.py [--poses 1000] [--points 5000] [--quick]

All three get the same poses and points and run on one thread; seconds are CPU seconds of this
process, which other programs on the machine change little. Ours includes building its index, once
for all poses, and leaves out the compilation, which numba keeps on disk. Brute force computes all
pairs of points of 20 poses, and its seconds are scaled up to the number of poses. Poses are near,
as a good model's are (1 cm and 10 degrees off), or far (10 cm off, turned in any way). The bracket
is the bundled part, of flat faces; the torus is round everywhere.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import trimesh
from rich.console import Console
from rich.table import Table
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from flywheel.examples.pose.camera import Camera
from flywheel.examples.pose.mesh import surface_points
from flywheel.examples.pose.part import EXAMPLE_PART, Part, load_part
from flywheel.examples.pose.posing import Pose
from flywheel.examples.pose.scores import adds_cm
from flywheel.records import Array

_NUM_BRUTE = 20
_CAMERA = Camera(fx=70.0, fy=70.0, cx=31.5, cy=31.5)
_REGIMES = {"near: 1 cm, 10 deg": (0.01, 10.0), "far: 10 cm, any turn": (0.1, None)}


def _parts(num_points: int) -> dict[str, Part]:
    bracket = load_part(EXAMPLE_PART)
    meshes = {
        "bracket": trimesh.Trimesh(bracket.vertices, bracket.faces),
        "torus": trimesh.creation.torus(0.03, 0.012),
    }
    return {
        name: replace(bracket, name=name, points=surface_points(mesh, num_points))
        for name, mesh in meshes.items()
    }


def _unit(rng: np.random.Generator, number: int) -> Array:
    vectors = rng.normal(size=(number, 3))
    units: Array = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units


def _poses(number: int, shift_m: float, turn_deg: float | None) -> tuple[list[Pose], list[Pose]]:
    """Found and true ones."""
    rng = np.random.default_rng(0)
    true = Rotation.random(number, rng=rng)
    axes = _unit(rng, number)
    turns = Rotation.random(number, rng=rng)
    if turn_deg is not None:
        turns = Rotation.from_rotvec(axes * turn_deg, degrees=True)
    places = rng.uniform([-0.1, -0.1, 0.3], [0.1, 0.1, 0.6], (number, 3))
    return (
        _listed((turns * true).as_matrix(), places + shift_m * _unit(rng, number)),
        _listed(true.as_matrix(), places),
    )


def _listed(rotations: Array, positions: Array) -> list[Pose]:
    pairs = zip(rotations, positions, strict=True)
    return [Pose(rotation=turn, position_m=place, camera=_CAMERA) for turn, place in pairs]


def _with_trees(part: Part, found: Sequence[Pose], true: Sequence[Pose]) -> Array:
    errors = [
        cKDTree(ours.transform(part.points)).query(actual.transform(part.points))[0].mean()
        for ours, actual in zip(found, true, strict=True)
    ]
    return 100.0 * np.array(errors)


def _by_definition(part: Part, found: Sequence[Pose], true: Sequence[Pose]) -> Array:
    errors = [
        cdist(actual.transform(part.points), ours.transform(part.points)).min(axis=1).mean()
        for ours, actual in zip(found, true, strict=True)
    ]
    return 100.0 * np.array(errors)


def _timed(compute: Callable[[], Array]) -> tuple[float, Array]:
    started = time.process_time()
    found = compute()
    return time.process_time() - started, found


def _measure(table: Table, name: str, part: Part, found: list[Pose], true: list[Pose]) -> None:
    brute = (found[:_NUM_BRUTE], true[:_NUM_BRUTE])
    seconds, ours = _timed(lambda: adds_cm(replace(part), found, true))  # a part with no index yet
    tree_seconds, trees = _timed(lambda: _with_trees(part, found, true))
    brute_seconds, defined = _timed(lambda: _by_definition(part, *brute))
    scaled = brute_seconds * len(found) / len(brute[0])
    rows = (
        ("ours", seconds, None),
        ("k-d tree a pose", tree_seconds, trees),
        (f"brute force, from {len(brute[0])} poses", scaled, defined),
    )
    for place, (who, spent, errors) in enumerate(rows):
        ratio, gap = "", ""
        if errors is not None:
            ratio = f"{spent / seconds:,.1f}"
            gap = f"{np.abs(errors - ours[: len(errors)]).max():.1e}"
        table.add_row("" if place else name, who, f"{spent:,.2f}", ratio, gap)
    table.add_section()


def main() -> None:
    """Measure all and print the table."""
    parser = argparse.ArgumentParser(description="ADD-S against a k-d tree and the definition")
    parser.add_argument("--poses", type=int, default=1_000)
    parser.add_argument("--points", type=int, default=5_000)
    parser.add_argument("--quick", action="store_true", help="100 poses")
    arguments = parser.parse_args()
    num_poses = 100 if arguments.quick else arguments.poses
    title = f"ADD-S of {num_poses:,} poses x {arguments.points:,} points, one thread"
    table = Table(title=title)
    for heading in ("part and poses", "by", "CPU seconds", "ours is faster", "largest gap, cm"):
        table.add_column(heading, justify="right")
    for name, part in _parts(arguments.points).items():
        adds_cm(part, *_poses(1, 0.01, 10.0))  # compiles
        for regime, errors in _REGIMES.items():
            _measure(table, f"{name}, {regime}", part, *_poses(num_poses, *errors))
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
