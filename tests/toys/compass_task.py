"""A task whose answers depend on the order of a list: in which quarter does a point lie?"""

import io
import struct

import numpy as np
import torch
from PIL import Image

from flywheel.errors import AnnotationError, PayloadError
from flywheel.records import Answer, Media, Sample, Split
from flywheel.task import Example, Labeling, Task

CLASSES = ["east", "north", "west", "south"]
NUM_START = 4
WIDTH = 8
SCALE = 1.0


def task():
    return Task(
        model=Network,
        inputs=inputs,
        targets=lambda labels: torch.tensor([CLASSES.index(label) for label in labels]),
        loss=lambda output, target: torch.nn.functional.cross_entropy(
            output, target, reduction="none"
        ),
        answers=answers,
        scores=lambda answer, label: {"correct": float(answer == label)},
        labeling=Labeling(
            config="<View><Image name='image' value='$image'/></View>",
            data=lambda _sample: {"image": Media(picture(), "image/png")},
            result=lambda answer, _sample: [{"id": "r1", "value": {"choices": [answer]}}],
            answer=read,
        ),
        start_data=start_data,
    )


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = torch.nn.Linear(2, WIDTH)
        self.last = torch.nn.Linear(WIDTH, len(CLASSES))

    def forward(self, points):
        return self.last(self.hidden(points).relu())


def inputs(samples):
    try:
        points = [struct.unpack("<2f", sample.payload) for sample in samples]
    except struct.error as error:
        raise PayloadError(f"{error}; send 8 bytes") from error
    return torch.tensor(points) * SCALE


def answers(output):
    confidences, places = output.softmax(dim=1).max(dim=1)
    return [
        Answer(value=CLASSES[place], confidence=confidence, embedding=row.numpy())
        for place, confidence, row in zip(
            places.tolist(), confidences.tolist(), output, strict=True
        )
    ]


def picture():
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


def read(result, _sample):
    chosen = [name for region in result for name in region["value"]["choices"]]
    if len(chosen) != 1 or chosen[0] not in CLASSES:
        raise AnnotationError(f"{chosen} is not one of {CLASSES}; choose one")
    return chosen[0]


def start_data():
    rng = np.random.default_rng(0)
    for number in range(80):
        turn = number % NUM_START
        angle = turn * np.pi / 2 + rng.uniform(-0.5, 0.5)
        payload = struct.pack("<2f", 2 * np.cos(angle), 2 * np.sin(angle))
        split = Split.TEST if number % 5 == 4 else Split.TRAIN
        yield Example(sample=Sample.of(payload, "x"), answer=CLASSES[turn], split=split)
