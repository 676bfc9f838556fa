from dataclasses import fields

import numpy as np
import pytest

from flywheel.task import Task
from flywheel.testing import toy_task

_OF_A_NETWORK = {"model", "inputs", "targets", "loss", "answers"}


def numbers_of(samples):
    """(B, 2) the points; what is none raises PayloadError."""
    from flywheel.errors import PayloadError  # noqa: PLC0415 - torch-free until it is needed

    if any(len(sample.payload) != 8 for sample in samples):
        raise PayloadError("a point has 8 bytes. Send two float32.")
    return np.array([np.frombuffer(sample.payload, "<f4") for sample in samples])


@pytest.fixture
def own_task():
    """(trainer) -> the toy task with a trainer in place of its network."""

    def make(trainer, **changes):
        toy = toy_task()
        rest = {
            one.name: getattr(toy, one.name)
            for one in fields(Task)
            if one.init and one.name not in _OF_A_NETWORK
        }
        return Task(**(rest | {"model": trainer} | changes))

    return make
