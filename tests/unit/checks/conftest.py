"""The task that `flywheel init` writes is the one that these tests break."""

import importlib.util
from pathlib import Path

import pytest

import flywheel
from flywheel.task import Task

_TEMPLATE = Path(flywheel.__file__).parent / "templates" / "my_task.py"


@pytest.fixture(scope="session")
def template_task() -> Task:
    spec = importlib.util.spec_from_file_location("my_task", _TEMPLATE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.task()
