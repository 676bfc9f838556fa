"""The pose task: one part, described by its part.toml, and everything that flywheel needs of it.

Put together from the modules beside it, which a task of your own may import one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from flywheel.records import Sample
from flywheel.task import Example, Task
from flywheel.tasks.pose.agreement import agree, merge
from flywheel.tasks.pose.answers import pose_answers
from flywheel.tasks.pose.augment import augment
from flywheel.tasks.pose.baselines import pose_baselines
from flywheel.tasks.pose.drawing import draw_pose
from flywheel.tasks.pose.image import decode
from flywheel.tasks.pose.labeling import pose_labeling
from flywheel.tasks.pose.network import KeypointNet, loss
from flywheel.tasks.pose.part import EXAMPLE_PART, Part, load_part
from flywheel.tasks.pose.scores import pose_scores
from flywheel.tasks.pose.start import start_examples
from flywheel.tasks.pose.tensors import pose_inputs, pose_targets

NUM_START_TRAIN, NUM_START_TEST = 1_000, 200

_CELLS = ("north", "south", "west")
_DARK = 0.15


def task() -> Task:
    """The pose task of the example part, a bracket."""
    return pose_task(EXAMPLE_PART)


def pose_task(
    part_path: Path, num_train: int = NUM_START_TRAIN, num_test: int = NUM_START_TEST
) -> Task:
    """The pose task of any rigid part.

    Args:
        part_path: its part.toml, with the mesh beside it.
        num_train: rendered pictures that the first model is trained on.
        num_test: rendered pictures that are held out.

    Raises:
        SettingsError: the part's description or mesh cannot be; see `load_part`.
    """
    part = load_part(part_path)
    return Task(
        model=lambda: KeypointNet(len(part.keypoints)),
        inputs=pose_inputs,
        targets=partial(pose_targets, part),
        loss=loss,
        answers=partial(pose_answers, part),
        scores=partial(pose_scores, part),
        labeling=pose_labeling(part),
        start_data=_start_data(part, num_train, num_test),
        baselines=pose_baselines(part),
        slices={
            **{f"cell {name}": _has("cell", name) for name in _CELLS},
            "by night": _has("lamp", "night"),
            "dark": _is_dark,
        },
        augment=augment,
        agree=partial(agree, part),
        merge=partial(merge, part),
        drawing=partial(draw_pose, part),
    )


def _start_data(part: Part, num_train: int, num_test: int) -> Callable[[], Iterator[Example]]:
    return lambda: start_examples(part, num_train, num_test)


def _has(key: str, value: str) -> Callable[[Sample], bool]:
    return lambda sample: sample.metadata.get(key) == value


def _is_dark(sample: Sample) -> bool:
    return float(decode(sample).mean()) / 255.0 < _DARK
