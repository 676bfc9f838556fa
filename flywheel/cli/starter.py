"""Writes the files of a new project; they run as they are."""

from __future__ import annotations

import re
import unicodedata
from importlib.resources import files
from pathlib import Path

from flywheel.errors import UserError
from flywheel.settings.operations import NAME_PATTERN

_FILES = ("flywheel.toml", "my_task.py", "digit.png")


def write_starter(directory: Path) -> list[Path]:
    """Write the starter files into a directory and return their paths; overwrite nothing.

    The project is named after the folder, since two projects on one server need different names:
    Part_A becomes part-a.

    Raises:
        UserError: the folder's name makes no project name, one of the files exists, or the folder
            cannot be written.
    """
    name = _project_name(directory.absolute().name)
    targets = [directory / name for name in _FILES]
    taken = next((path for path in targets if path.exists()), None)
    if taken is not None:
        raise UserError(f"{taken} exists and is not overwritten. Name another folder.")
    templates = files("flywheel") / "templates"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path in targets:
            path.write_bytes((templates / path.name).read_bytes())
        text = targets[0].read_text(encoding="utf-8")
        targets[0].write_text(text.replace('"my-project"', f'"{name}"', 1), encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{directory} cannot be written: {error.strerror}. Name a folder that you may write to."
        ) from error
    return targets


def _project_name(folder: str) -> str:
    """Return the name of a project in a folder: lower case, with dashes between its words."""
    plain = unicodedata.normalize("NFKD", folder).encode("ascii", "ignore").decode()
    name = "-".join(re.findall(r"[a-z0-9]+", plain.lower()))
    if not re.fullmatch(NAME_PATTERN, name):
        raise UserError(
            f"{folder!r} makes no project name. Name the folder with a letter first and 2 to 40 "
            "letters, digits and dashes in all, such as part-a."
        )
    return name
