"""Finds the format of a file or folder of labels, and opens it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

from flywheel.label_files.boxes import is_coco, read_coco, read_yolo
from flywheel.label_files.class_folders import read_class_folders
from flywheel.label_files.reading import read_json
from flywheel.label_files.rows import Columns, LabelFile, refuse
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
            f"Unpack an archive, or give --as {'|'.join(FORMATS)}",
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
