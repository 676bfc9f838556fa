"""Reader of a folder whose folders are classes: FOLDER/cat/1.png, or FOLDER/train/cat/1.png."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flywheel.errors import UserError
from flywheel.label_files.reading import file_sample, has_media_suffix
from flywheel.label_files.rows import FileRow, LabelFile, LeftOut, Part, part_of, refuse


def read_class_folders(path: Path) -> LabelFile:
    """Read a folder of files by class; the answer is the name of the folder that a file lies in.

    Raises:
        UserError: there is no folder in it.
    """
    if not path.is_dir():
        refuse(str(path), "it is no folder", "Give the folder that holds a folder for each class")
    parts = _parts(path)
    classes = sorted({one.name for folder in parts for one in _folders(folder)})
    if not classes:
        refuse(
            str(path), "no folder in it", "Put the files of each class into a folder of its name"
        )
    notes = [f"the answer is the name of a file's folder: {', '.join(classes[:12])}"]
    if path not in parts:
        notes += [f"{folder.name} is read as {part}" for folder, part in parts.items()]

    def rows() -> Iterator[FileRow | LeftOut]:
        for folder, part in parts.items():
            for inner in _folders(folder):
                for entry in sorted(inner.iterdir()):
                    if not entry.name.startswith("."):
                        yield _row(path, entry, inner.name, part)

    return LabelFile(path=path, format="folder", notes=tuple(notes), rows=rows)


def _parts(path: Path) -> dict[Path, Part]:
    """Return the folders of the splits; the folder itself where it holds classes."""
    folders = _folders(path)
    try:
        parts = {folder: part_of(folder.name, str(folder)) for folder in folders}
    except UserError:  # a class is no split
        return {path: "train"}
    holds_classes = all(_folders(folder) for folder in folders)
    return parts if parts and holds_classes else {path: "train"}


def _folders(path: Path) -> list[Path]:
    return sorted(one for one in path.iterdir() if one.is_dir() and not one.name.startswith("."))


def _row(root: Path, entry: Path, name: str, part: Part) -> FileRow | LeftOut:
    if entry.is_dir():
        return LeftOut(place=str(entry), reason="it is a folder inside the folder of a class")
    if not has_media_suffix(entry.name):
        return LeftOut(
            place=str(entry), reason="its name has no suffix of a file that can be a sample"
        )
    if not entry.resolve().is_relative_to(root.resolve()):
        return LeftOut(place=str(entry), reason="it is a link to a place outside the folder")
    if not entry.is_file():  # a pipe would be waited for
        return LeftOut(place=str(entry), reason="it is no file, or a link to none")
    return FileRow(place=str(entry), sample=file_sample(entry), answer=name, part=part)
