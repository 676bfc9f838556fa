"""The project about letters as several processes open it at once, each for itself."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

_PATH = Path(__file__).parents[2] / "conftest.py"
SAMPLES_PER_CAMPAIGN = 50


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("letters_of_the_tests", _PATH)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_letters = _load()


def open_letters(directory: Path):
    """The project in a folder, made when it is not there; its name is the folder's."""
    letters = _letters._open_letters(directory)
    letters.change(quality={}, labeling={"campaign_samples": SAMPLES_PER_CAMPAIGN})
    return letters
