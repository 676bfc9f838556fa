"""Digits without dropout, so that several trainers do what one does; and ways to fail in one."""

import dataclasses
import os
import signal
import time
from pathlib import Path

import torch
from torch.utils.data import get_worker_info

from flywheel.examples.digits import task as digits
from flywheel.train import rows


def task():
    """Digits whose network draws nothing by itself."""
    return dataclasses.replace(digits.task(), model=_without_dropout)


def failing_task():
    """A loss that only the second trainer cannot compute."""
    return dataclasses.replace(task(), loss=_fail_in_the_second)


def endless_task():
    """One that trains for longer than any test."""
    return dataclasses.replace(task(), augment=_wait)


def streamed_task():
    """Rows that never fit into memory, decoded by workers only once training has begun."""
    rows._free = lambda device: 0.0
    return dataclasses.replace(task(), inputs=_note_worker)


def unread_task():
    """One whose workers cannot read a row."""
    return dataclasses.replace(streamed_task(), inputs=_fail_in_a_worker)


def killed_task():
    """One whose workers are killed."""
    return dataclasses.replace(streamed_task(), inputs=_die_in_a_worker)


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


def _note_worker(samples):
    if get_worker_info() is not None:
        with Path(os.environ["DECODED_BY"]).open("a") as lines:
            lines.write(f"{os.getpid()}\n")
    return digits.task().inputs(samples)


def _fail_in_a_worker(samples):
    if get_worker_info() is not None:
        raise OSError("disk gone")
    return digits.task().inputs(samples)


def _die_in_a_worker(samples):
    if get_worker_info() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return digits.task().inputs(samples)


def _wait(inputs, _):
    time.sleep(60)
    return inputs
