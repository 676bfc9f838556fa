"""part.toml -> what a person wrote about a part. Unknown keys and impossible values are errors.

    name = "bracket"
    mesh = "bracket.ply"            # closed, metres, beside this file
    [keypoints]
    corner = [0.03, 0.0, 0.01]      # four or more, metres, in the part's frame
    [[symmetry]]
    axis = [0, 0, 1]                # through the origin of the part
    fold = 2                        # turns that look the same; 0: any angle does
    [gripper]
    axis = [1, 0, 0]                # along which the jaws close
    clearance_cm = 0.8              # on each side

Refuses to look into the mesh.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from flywheel.errors import SettingsError
from flywheel.faults import tell_detail

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_ -]{0,39}")
_SUFFIXES = (".ply", ".obj")


def _known_name(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise ValueError(
            f"{name!r} is no name; begin with a letter and use letters, digits, space, _ and -"
        )
    return name


def _known_suffix(mesh: str) -> str:
    if not mesh.lower().endswith(_SUFFIXES):
        raise ValueError(
            f"{mesh!r} is no mesh that can be read; save it as {' or '.join(_SUFFIXES)}"
        )
    return mesh


def _has_length(axis: list[float]) -> list[float]:
    if not any(axis):
        raise ValueError("points nowhere; write a direction, such as [0, 0, 1]")
    return axis


def _tellable(fold: int) -> int:
    if fold == 1:
        raise ValueError("is no symmetry; write 2 or more turns, 0 for any angle, or leave it out")
    return fold


Triple = Annotated[list[float], Field(min_length=3, max_length=3)]
_Axis = Annotated[Triple, AfterValidator(_has_length)]
_Name = Annotated[str, AfterValidator(_known_name)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Symmetry(_Section):
    """Section [[symmetry]]: a rotation after which the part looks the same."""

    axis: _Axis
    """direction through the origin of the part"""
    fold: Annotated[int, Field(ge=0, le=36), AfterValidator(_tellable)]
    """it turns by 360 / fold degrees; 0: by any angle, taken in 36 steps"""


class Gripper(_Section):
    """Section [gripper]."""

    axis: _Axis
    """direction in the part's frame along which the jaws close"""
    clearance_cm: Annotated[float, Field(gt=0, le=20)]
    """between each open jaw and the part, cm"""


class Description(_Section):
    """All of part.toml."""

    name: _Name
    mesh: Annotated[str, AfterValidator(_known_suffix)]
    """file, relative to the folder of part.toml"""
    keypoints: dict[str, Triple]
    """name -> place in the part's frame, metres"""
    symmetry: list[Symmetry] = []
    gripper: Gripper


def read_description(path: Path) -> Description:
    """The part that a file describes.

    Raises:
        SettingsError: the file is missing, is not TOML, or holds a key or value that cannot be;
            the message has one line for each fault.
    """
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"{path}: {error.strerror or error}; name a part.toml that describes the part"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}; mend it there") from error
    try:
        description = Description(**settings)
    except ValidationError as error:
        faults = [f"{path}: {tell_detail(detail, Description)}" for detail in error.errors()]
        raise SettingsError("\n".join(faults)) from error
    for name in description.keypoints:
        try:
            _known_name(name)
        except ValueError as error:
            raise SettingsError(f"{path}: [keypoints] {error}") from error
    return description
