"""The project about letters as several processes open it at once, each for itself."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from flywheel.blobs import Blobs
from flywheel.ledger import Ledger
from flywheel.project import Project
from flywheel.task import Labeling, Task

_PATH = Path(__file__).parents[2] / "conftest.py"
SAMPLES_PER_CAMPAIGN = 80


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("letters_of_the_tests", _PATH)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_letters = _load()


def open_letters(directory: Path):
    """The project in a folder, made when it is not there; its name is the folder's."""
    labeling = Labeling(
        config=_letters.CONFIG,
        picture=_letters._picture,
        result=_letters._result,
        answer=_letters._answer,
    )
    named = ("model", "inputs", "targets", "loss", "answers", "scores")
    task = Task(**dict.fromkeys(named, _letters._not_needed), labeling=labeling)
    project = Project(
        directory=directory,
        project={"name": directory.name, "task": "t:t"},
        labeling={"campaign_samples": SAMPLES_PER_CAMPAIGN},
    )
    ledger = Ledger.open(f"sqlite:///{directory}/ledger.db")
    blobs = Blobs.open(str(directory / "blobs"))
    return _letters.Letters(ledger=ledger, blobs=blobs, task=task, project=project)
