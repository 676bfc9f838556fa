"""Finds the format of a file or folder of labels, and opens it.

A folder whose folders are classes, FOLDER/cat/1.png or FOLDER/train/cat/1.png, is read here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

from flywheel.errors import UserError
from flywheel.label_files.boxes import is_coco, read_coco, read_yolo
from flywheel.label_files.reading import file_sample, has_media_suffix, read_json
from flywheel.label_files.rows import Columns, FileRow, LabelFile, LeftOut, Part, part_of, refuse
from flywheel.label_files.studio import is_export, read_label_studio
from flywheel.label_files.tables import read_csv, read_jsonl, read_parquet

Format = Literal["coco", "yolo", "label-studio", "jsonl", "csv", "parquet", "folder"]

FORMATS: tuple[Format, ...] = get_args(Format)
_SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".yaml": "yolo",
    ".yml": "yolo",
}
_ANY = Columns()


def open_labels(
    path: Path, wanted: Format | None = None, columns: Columns = _ANY, *, names: Sequence[str] = ()
) -> LabelFile:
    """Open a file or folder of labels; its rows are read when they are asked for.

    Args:
        path: a file or folder.
        wanted: its format; None: it is found.
        columns: which columns of a table, or data of a labeling task, are what.
        names: what the labeling config shows, for an export of Label Studio.

    Raises:
        UserError: there is nothing, its format is not found, or it is not of the format.
    """
    if not path.exists():
        refuse(str(path), "no such file or folder", "Correct the path")
    found = wanted or find_format(path)
    readers: dict[Format, Callable[[], LabelFile]] = {
        "coco": lambda: read_coco(path),
        "yolo": lambda: read_yolo(path),
        "label-studio": lambda: read_label_studio(path, columns, names=names),
        "jsonl": lambda: read_jsonl(path, columns),
        "csv": lambda: read_csv(path, columns),
        "parquet": lambda: read_parquet(path, columns),
        "folder": lambda: read_class_folders(path),
    }
    try:
        return readers[found]()
    except IsADirectoryError:
        refuse(str(path), f"it is a folder and no file of {found}", "Give the file itself")
    except NotADirectoryError:
        refuse(str(path), f"it is a file and no folder of {found}", "Give the folder")


def find_format(path: Path) -> Format:
    """Return the format of a file or folder, by its name and, for JSON, by what it holds.

    Raises:
        UserError: it is none that is known.
    """
    found = _format_of_folder(path) if path.is_dir() else _format_of_file(path)
    if found is None:
        refuse(
            str(path),
            "its format is not found",
            f"Unpack an archive, or name its format, with --as for import-labels: {', '.join(FORMATS)}",
        )
    return found


def _format_of_file(path: Path) -> Format | None:
    suffix = path.suffix.lower()
    if suffix != ".json":
        return _SUFFIXES.get(suffix)
    value = read_json(path)
    if is_coco(value) or _is_result_of_coco(value):
        return "coco"
    if is_export(value) or (isinstance(value, list) and "annotation_id" in _first(value)):
        return "label-studio"
    return "jsonl" if isinstance(value, list) else None


def _first(value: object) -> dict[str, object]:
    first = value[0] if isinstance(value, list) and value else None
    return first if isinstance(first, dict) else {}


def _is_result_of_coco(value: object) -> bool:
    return {"image_id", "category_id", "score"} <= _first(value).keys()


def _format_of_folder(path: Path) -> Format | None:
    if (path / "rows.jsonl").is_file():
        return "jsonl"
    is_yolo = (path / "data.yaml").is_file() or (path / "classes.txt").is_file()
    if is_yolo or ((path / "images").is_dir() and (path / "labels").is_dir()):
        return "yolo"
    files = [*path.glob("*.json"), *path.glob("*/*.json")]
    if any(is_coco(read_json(file)) for file in sorted(files)):
        return "coco"
    is_full = any(one.is_dir() and not one.name.startswith(".") for one in path.iterdir())
    return "folder" if is_full else None


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
