"""The digits task and its start data, made once."""

import pytest

from flywheel.examples.digits import task as digits
from flywheel.task import Example, Task


@pytest.fixture(scope="session")
def task() -> Task:
    return digits.task()


@pytest.fixture(scope="session")
def examples(task) -> list[Example]:
    return list(task.start_data())
