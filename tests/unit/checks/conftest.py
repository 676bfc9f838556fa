"""The task that `flywheel init` writes is the one that these tests break."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

import flywheel
from flywheel.task import Task

_TEMPLATE = Path(flywheel.__file__).parent / "templates" / "my_task.py"


@pytest.fixture(scope="session")
def new_task() -> Task:
    """As it is written."""
    spec = importlib.util.spec_from_file_location("my_task", _TEMPLATE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.task()


@pytest.fixture(scope="session")
def template_task(new_task) -> Task:
    """The same; its start data is drawn once, where every check draws it several times."""
    examples = tuple(new_task.start_data())
    return replace(new_task, start_data=lambda: iter(examples))
