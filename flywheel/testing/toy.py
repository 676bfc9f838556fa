"""A toy task: points on a plane, left or right of a line.

It has start data, two baselines and a slice, and is trained in a fraction of a second.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from flywheel.errors import AnnotationError
from flywheel.records import Answer, Array, Json, Media, Sample, Split
from flywheel.task import Baseline, Example, Labeling, Predictor, Task

SIDES = ("left", "right")
_CONFIG = """<View>
  <Image name="image" value="$image"/>
  <Choices name="side" toName="image" choice="single">
    <Choice value="left"/>
    <Choice value="right"/>
  </Choices>
</View>"""
_START_SEED, _NUM_START = 1_000_003, 48


def toy_task() -> Task:
    """The task: on which side of the line does a point lie?"""
    return Task(
        model=lambda: nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.0)),
        inputs=_inputs,
        targets=lambda answers: torch.tensor([SIDES.index(answer) for answer in answers]),
        loss=lambda output, target: functional.cross_entropy(output, target, reduction="none"),
        answers=_answers,
        scores=_scores,
        labeling=Labeling(config=_CONFIG, data=_data, result=_result, answer=_answer),
        start_data=_start_data,
        baselines={
            "majority": Baseline(kind="scripted", fit=_majority),
            "nearest": Baseline(kind="simple ML", fit=_nearest),
        },
        slices={"upper": lambda sample: bool(_coordinates(sample)[1] > 0)},
    )


def draw_points(number: int, seed: int) -> tuple[list[Sample], list[str]]:
    """Samples and the side that each lies on: right when x > 0."""
    points = np.random.default_rng(seed).normal(size=(number, 2)).astype("<f4")
    return [_point(x, y) for x, y in points], [SIDES[int(x > 0)] for x, _ in points]


def side_of(sample: Sample) -> str:
    """The true answer to a point."""
    return SIDES[int(_coordinates(sample)[0] > 0)]


def _point(x: float, y: float) -> Sample:
    return Sample.of(np.array([x, y], dtype="<f4").tobytes(), "application/octet-stream")


def _coordinates(sample: Sample) -> Array:
    return np.frombuffer(sample.payload, dtype="<f4").copy()


def _inputs(samples: Sequence[Sample]) -> torch.Tensor:
    return torch.from_numpy(np.array([_coordinates(sample) for sample in samples]).reshape(-1, 2))


def _answers(output: torch.Tensor) -> list[Answer]:
    confidences, sides = functional.softmax(output, dim=1).max(dim=1)
    return [
        Answer(value=SIDES[side], confidence=float(confidence), embedding=row.numpy())
        for side, confidence, row in zip(sides.tolist(), confidences, output, strict=True)
    ]


def _scores(answer: Json, label: Json) -> dict[str, float]:
    right = answer == label
    return {"correct": float(right), "error_cm": 0.0 if right else 2.5}


def _data(sample: Sample) -> dict[str, Media]:
    """A dot where the point lies; points further out than 4 are drawn at the edge."""
    pixels = np.zeros((33, 33), dtype=np.uint8)
    column, row = np.clip(np.round(_coordinates(sample) * 4).astype(int), -16, 16)
    pixels[16 - row, 16 + column] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return {"image": Media(buffer.getvalue(), "image/png")}


def _result(answer: Json, _sample: Sample) -> list[dict[str, Json]]:
    region = {"id": "r1", "type": "choices", "from_name": "side", "to_name": "image"}
    return [{**region, "value": {"choices": [answer]}}]


def _answer(result: list[dict[str, Json]], _sample: Sample) -> Json:
    chosen = [name for region in result for name in region["value"]["choices"]]
    if len(chosen) != 1 or chosen[0] not in SIDES:
        raise AnnotationError(f"{chosen} is not one of {SIDES}; choose one")
    return chosen[0]


def _start_data() -> Iterator[Example]:
    samples, sides = draw_points(_NUM_START, _START_SEED)
    for number, (sample, side) in enumerate(zip(samples, sides, strict=True)):
        split = Split.TEST if number % 4 < 2 else Split.TRAIN
        yield Example(sample=sample, answer=side, split=split)


def _majority(_samples: Sequence[Sample], answers: Sequence[Json]) -> Predictor:
    most = Counter(answers).most_common(1)[0][0]
    return lambda samples: [most] * len(samples)


def _nearest(samples: Sequence[Sample], answers: Sequence[Json]) -> Predictor:
    known = np.array([_coordinates(sample) for sample in samples])

    def predict(asked: Sequence[Sample]) -> list[Json]:
        points = np.array([_coordinates(sample) for sample in asked])
        gaps = ((points[:, None] - known[None]) ** 2).sum(axis=2)
        return [answers[index] for index in gaps.argmin(axis=1)]

    return predict
