"""Shapes: discs and squares in drawn pictures, found by a small detector.

A picture has one to three shapes, each in a quarter of its own, so that none hides another. All of them
are bright on dark paper in the start data; production has kinds that these lack.

Pictures are 48 x 48 pixels.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from flywheel.detector import CellDetector
from flywheel.labeling import boxes, image
from flywheel.pictures import open_picture
from flywheel.records import Json, Sample, Split
from flywheel.scoring import detection
from flywheel.task import Baseline, Example, Task

LABELS = ("disc", "square")
_SIDE_PIXELS = 48
_DETECTOR = CellDetector(labels=LABELS, side_pixels=_SIDE_PIXELS)
_NUM_START_TRAIN, _NUM_START_TEST = 200, 100
_START_SEED = 7


def task() -> Task:
    """The task that flywheel.toml names."""
    return Task(
        model=_DETECTOR.network,
        inputs=_DETECTOR.inputs,
        targets=_DETECTOR.targets,
        loss=_DETECTOR.loss,
        answers=_DETECTOR.answers,
        labeling=boxes(image(width_pixels=480), LABELS, question="Where are discs and squares?"),
        scores=detection(LABELS),
        start_data=_start_data,
        baselines={
            "nothing": Baseline(kind="scripted", fit=lambda *_: lambda some: [[]] * len(some))
        },
        slices={"light paper": _is_light},
    )


def draw_picture(kind: str, rng: np.random.Generator) -> tuple[bytes, list[dict[str, Json]]]:
    """The PNG of a picture of one kind, and its boxes.

    Args:
        kind: usual; hollow, of whose shapes only the outline is drawn; or light, dark shapes on light paper.
        rng: what is drawn, and where.
    """
    picture = Image.new("L", (_SIDE_PIXELS, _SIDE_PIXELS), int(rng.integers(40)))
    pen, found = ImageDraw.Draw(picture), list[dict[str, Json]]()
    for quarter in rng.choice(4, rng.integers(1, 4), replace=False).tolist():
        side, label = int(rng.integers(12, 20)), str(rng.choice(LABELS))
        free = _SIDE_PIXELS // 2 - side
        x, y = (part * _SIDE_PIXELS // 2 + int(rng.integers(free)) for part in divmod(quarter, 2))
        shape = pen.ellipse if label == "disc" else pen.rectangle
        ink = int(rng.integers(120, 256))
        edges = (x, y, x + side - 1, y + side - 1)
        shape(edges, fill=None if kind == "hollow" else ink, outline=ink)
        found.append({"label": label, "x": x, "y": y, "width": side, "height": side})
    file = io.BytesIO()
    (ImageOps.invert(picture) if kind == "light" else picture).save(file, "PNG")
    return file.getvalue(), found


def _start_data() -> Iterator[Example]:
    rng = np.random.default_rng(_START_SEED)
    for number in range(_NUM_START_TRAIN + _NUM_START_TEST):
        picture, found = draw_picture("usual", rng)
        split = Split.TRAIN if number < _NUM_START_TRAIN else Split.TEST
        yield Example(sample=Sample.of(picture, "image/png"), answer=found, split=split)


def _is_light(sample: Sample) -> bool:
    return bool(np.asarray(open_picture(sample).convert("L")).mean() > 128)
