"""The digits task and its start data, made once."""

import pytest

from flywheel.task import Example, Task
from flywheel.tasks import digits


@pytest.fixture(scope="session")
def task() -> Task:
    return digits.task()


@pytest.fixture(scope="session")
def examples(task) -> list[Example]:
    return list(task.start_data())
