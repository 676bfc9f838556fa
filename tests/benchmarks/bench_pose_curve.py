"""The pose curve: orientation and grasps over the nights, hard cases against random labels.

Run: python tests/benchmarks/bench_pose_curve.py [--nights 10] [--seeds 3] [--labels 40]

Three robot cells take 300 pictures a night, of which 180 may train; people mark keypoints within
half a pixel, and their pose is as far off as marker measurements are. Training is shorter than in
the demo, so that all arms end within the hour; every arm has the same. See curve.py for what the
arms share.
"""

from __future__ import annotations

import argparse

import numpy as np
from curve import Case, curve_table, run_case, saved_labels
from rich.console import Console
from scipy.spatial.transform import Rotation

from flywheel.examples.pose.part import EXAMPLE_PART, load_part
from flywheel.examples.pose.posing import Pose, read_pose, write_pose
from flywheel.examples.pose.world import RobotCell
from flywheel.records import Json

_STD_CM, _STD_DEG = 0.15, 1.0


def answer(truth: Json, annotators: np.random.Generator) -> Json:
    """The pose that comes out of a person's keypoints."""
    pose = read_pose(truth)
    turn = Rotation.from_rotvec(annotators.normal(0.0, _STD_DEG / np.sqrt(3), 3), degrees=True)
    return write_pose(
        Pose(
            rotation=turn.as_matrix() @ pose.rotation,
            position_m=pose.position_m + annotators.normal(0.0, _STD_CM / 100 / np.sqrt(3), 3),
            camera=pose.camera,
            std_cm=_STD_CM,
            std_deg=_STD_DEG,
        )
    )


def world(seed: int) -> RobotCell:
    """The production of a seed."""
    return RobotCell(part=load_part(EXAMPLE_PART), seed=seed)


def main() -> None:
    """Run all arms for every seed and print the curves and their paired differences."""
    parser = argparse.ArgumentParser(description="hard cases against random labels on poses")
    parser.add_argument("--nights", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--labels", type=int, default=40, help="training labels a night")
    parser.add_argument("--epochs", type=int, default=8)
    arguments = parser.parse_args()
    case = Case(
        settings="examples/pose/flywheel.toml",
        world=world,
        answer=answer,
        formulas=("error_deg.median", "grasped"),
        higher_is_better=(False, True),
        num_nights=arguments.nights,
        num_labels=arguments.labels,
        exam_samples=600,
        changes=(("epochs", str(arguments.epochs)), ("cpu_threads", "1")),
    )
    console = Console()
    with console.status(f"arms of {arguments.nights} nights …"):
        curves = run_case(case, arguments.seeds, all_at_once=True)
    for column in range(len(case.formulas)):
        console.print(curve_table(case, curves, column))
        console.print(saved_labels(case, curves, column))


if __name__ == "__main__":
    main()
