"""A task whose every answer is known beforehand: a payload is two float32, value and confidence.

The answer is value + bias, where the bias is the model's only trained weight; 13 makes the
model fail, and a confidence may be anything, NaN too.
"""

import struct

import torch
from torch import nn

from flywheel.errors import AnnotationError, PayloadError
from flywheel.records import Answer
from flywheel.task import Labeling, Task

UNLUCKY = 13.0


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, inputs):
        if (inputs[:, 0] == UNLUCKY).any():
            raise RuntimeError("13 is more than this model can bear")
        return inputs + torch.cat([self.bias, torch.zeros(1)])


def inputs(samples):
    try:
        return torch.tensor([struct.unpack("<2f", sample.payload) for sample in samples])
    except struct.error as error:
        raise PayloadError(f"{error}; send 8 bytes, two float32") from error


def answers(output):
    return [
        Answer(value=value, confidence=confidence, embedding=row.numpy())
        for row, (value, confidence) in zip(output, output.tolist(), strict=True)
    ]


def read_annotation(result, _sample):
    if not result:
        raise AnnotationError("the result is empty; give one number")
    return result[0]["value"]


def task():
    return Task(
        model=Network,
        inputs=inputs,
        targets=torch.tensor,
        loss=lambda output, target: (output[:, 0] - target).abs(),
        answers=answers,
        scores=lambda answer, label: {"correct": float(answer == label)},
        labeling=Labeling(
            config="<View/>",
            data=lambda sample: {"pair": sample.payload.hex()},
            result=lambda answer, _sample: [{"value": answer}],
            answer=read_annotation,
        ),
    )
