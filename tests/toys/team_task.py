"""Digits without dropout, so that several trainers do what one does; and ways to fail in one."""

import dataclasses
import os
import time

import torch

from flywheel.examples.digits import task as digits


def task():
    """Digits whose network draws nothing by itself."""
    return dataclasses.replace(digits.task(), model=_without_dropout)


def failing_task():
    """A loss that only the second trainer cannot compute."""
    return dataclasses.replace(task(), loss=_fail_in_the_second)


def endless_task():
    """One that trains for longer than any test."""
    return dataclasses.replace(task(), augment=_wait)


def _without_dropout():
    network = digits.task().model()
    for layer in network.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    return network


def _fail_in_the_second(output, targets):
    if os.environ["RANK"] == "1":
        raise KeyError("lens")
    return digits.task().loss(output, targets)


def _wait(inputs, _):
    time.sleep(60)
    return inputs
