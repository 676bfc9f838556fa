"""Boxes around discs and squares, which are drawn here; your pictures and boxes come in their place."""

import io

import numpy as np
from PIL import Image, ImageDraw

from flywheel import Example, Task
from flywheel.detector import CellDetector
from flywheel.labeling import boxes, image
from flywheel.records import Sample, Split
from flywheel.scoring import detection

LABELS = ["disc", "square"]  # your labels; add at the end only
DETECTOR = CellDetector(labels=LABELS, side_pixels=64)


def task():
    return Task(
        model=DETECTOR.network,  # or any torch.nn.Module, with inputs, targets, loss and answers
        inputs=DETECTOR.inputs,
        targets=DETECTOR.targets,
        loss=DETECTOR.loss,
        answers=DETECTOR.answers,
        labeling=boxes(image(), LABELS),
        scores=detection(LABELS),
        start_data=start_data,
    )


def start_data():
    rng = np.random.default_rng(0)
    for number in range(200):
        picture, found = draw(rng)
        split = Split.TEST if number % 4 == 0 else Split.TRAIN  # every fourth is held out
        yield Example(sample=Sample.of(picture, "image/png"), answer=found, split=split)


def draw(rng):
    picture, found = Image.new("L", (64, 64), int(rng.integers(40))), []
    for cell in rng.choice(9, rng.integers(1, 4), replace=False).tolist():
        size = int(rng.integers(8, 16))
        x, y = (2 + place * 20 + int(rng.integers(4)) for place in (cell % 3, cell // 3))
        label = LABELS[int(rng.integers(2))]
        pen = ImageDraw.Draw(picture)
        shape = pen.ellipse if label == "disc" else pen.rectangle
        shape((x, y, x + size - 1, y + size - 1), fill=int(rng.integers(120, 256)))
        found.append({"label": label, "x": x, "y": y, "width": size, "height": size})
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue(), found
