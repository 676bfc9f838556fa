"""Writes the files of a new project; they run as they are."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from flywheel.errors import UserError
from flywheel.settings.operations import NAME_PATTERN

_FILES = ("flywheel.toml", "my_task.py", "digit.png")


def write_starter(directory: Path) -> list[Path]:
    """Write the starter files into a directory and return their paths; overwrite nothing.

    The project is named after the folder if that is a valid name, since two projects on one
    Prefect server need different names.

    Raises:
        UserError: one of the files exists, or the folder cannot be written.
    """
    targets = [directory / name for name in _FILES]
    taken = next((path for path in targets if path.exists()), None)
    if taken is not None:
        raise UserError(f"{taken} exists and is not overwritten. Name another folder.")
    templates = files("flywheel") / "templates"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path in targets:
            path.write_bytes((templates / path.name).read_bytes())
        settings, name = targets[0], directory.absolute().name
        if re.fullmatch(NAME_PATTERN, name):
            text = settings.read_text(encoding="utf-8")
            settings.write_text(text.replace('"my-project"', f'"{name}"', 1), encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{directory} cannot be written: {error.strerror}. Name a folder that you may write to."
        ) from error
    return targets
