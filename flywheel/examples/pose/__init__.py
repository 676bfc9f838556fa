"""The pose of a part in a picture, for a robot that grasps it: position and rotation from one image.

A project has one part, described by a part.toml and a mesh.
"""

from flywheel.examples.pose.part import load_part
from flywheel.examples.pose.scores import picks_per_hour
from flywheel.examples.pose.task import pose_task, task

__all__ = ["load_part", "picks_per_hour", "pose_task", "task"]
