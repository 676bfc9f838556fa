"""How good one answer is against one label, as the numbers that metrics are made of.

Refuses to know which of them matters: flywheel.toml says so.
"""

from __future__ import annotations

from flywheel.records import Json
from flywheel.tasks.pose.errors import auc, pose_errors
from flywheel.tasks.pose.grasp import grasps
from flywheel.tasks.pose.part import Part
from flywheel.tasks.pose.posing import read_pose


def pose_scores(part: Part, answer: Json, label: Json) -> dict[str, float]:
    """error_cm, error_deg, add_cm, adds_cm, mssd_cm, mspd_px: lower is better, 0 at best.

    add_cm is ADD(-S): of a part with symmetries it is ADD-S, as PoseCNN reports it, because ADD
    would call a pose wrong that nobody can tell from the right one.
    add_auc and adds_auc are one sample's part of the area under the accuracy-threshold curve up
    to 10 cm, so that their mean is the area; grasped is 1 where the gripper closes on the part.

    Raises:
        TaskError: one of the two is no pose.
    """
    found, true = read_pose(answer), read_pose(label)
    errors = dict(pose_errors(part, [found], [true]))
    if len(part.symmetries) > 1:
        errors["add_cm"] = errors["adds_cm"]
    return {
        **{name: float(values[0]) for name, values in errors.items()},
        "add_auc": auc(errors["add_cm"]),
        "adds_auc": auc(errors["adds_cm"]),
        "grasped": float(grasps(part, found, true)),
    }
