"""Readers of boxes on pictures: COCO and YOLO. An answer is a list of boxes, in pixels.

A picture trains a detector to see nothing where a box is missing. So a picture with a box that cannot
be read is left out as a whole; what COCO calls a crowd is no box of one thing and is left out alone.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from flywheel.errors import PayloadError
from flywheel.label_files.reading import FORMATS, PICTURES, decoded, file_sample, inside, read_json
from flywheel.label_files.rows import FileRow, LabelFile, LeftOut, Part, field_of, part_of, refuse
from flywheel.pictures import picture_size
from flywheel.records import Json, is_number

_SLACK = 0.01
"""by which a box of YOLO may reach over its picture, as a share of it: rounding"""
_WORDS = re.compile(r"[a-z]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Coco:
    """A file of COCO by the ids in it."""

    images: dict[int | str, Mapping[str, Any]]
    categories: dict[int | str, str]
    boxes: Mapping[int | str, Sequence[tuple[int, Mapping[str, Any]]]]
    """image id -> its annotations, each with its place in the file"""
    num_strays: int
    """annotations of pictures that are not in the file"""


def read_coco(path: Path) -> LabelFile:
    """Read a file of COCO with its pictures, or a folder that holds such files.

    A box is the `bbox` of an annotation, or what its polygons span. Masks, keypoints and scores are not
    read. Pictures lie beside the file, in `images`, or in a folder named as the file is.

    Raises:
        UserError: ids are missing or come twice, or there are captions or predictions in place of boxes.
    """
    files = _coco_files(path)
    parts = {file: _part_of_file(path, file) for file in files}
    counts = Counter(parts.values())
    notes = [f"{file.name} is read as {part}" for file, part in parts.items()]
    notes.append("an answer is the list of its boxes; masks and keypoints are not read")

    def rows() -> Iterator[FileRow | LeftOut]:
        for file, part in parts.items():
            yield from _coco_rows(path, file, part)

    shown = notes if len(files) > 1 or counts["train"] == 0 else notes[1:]
    return LabelFile(path=path, format="coco", notes=tuple(shown), rows=rows)


def is_coco(value: Json) -> bool:
    """Whether JSON has the parts of a file of COCO."""
    return isinstance(value, dict) and {"images", "annotations"} <= value.keys()


def _coco_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    places = (path, path / "annotations", path / "train", path / "valid", path / "test")
    found = [file for place in places for file in sorted(place.glob("*.json"))]
    files = [file for file in found if is_coco(read_json(file))]
    if not files:
        refuse(str(path), "no file of COCO in it or in annotations/", "Give the .json file itself")
    return files


def _part_in(name: str) -> Part:
    """Return the split that a name such as instances_val2017 speaks of."""
    for word in _WORDS.findall(name.lower()):
        if word in ("test", "val", "valid", "validation"):
            return part_of(word, name)
    return "train"


def _part_of_file(root: Path, file: Path) -> Part:
    part = _part_in(file.stem)
    return _part_in(file.parent.name) if part == "train" and file.parent.parent == root else part


def _coco_rows(root: Path, file: Path, part: Part) -> Iterator[FileRow | LeftOut]:
    coco = _parsed(file, read_json(file))
    folders = _picture_folders(root, file)
    for _ in range(coco.num_strays):
        yield LeftOut(
            place=str(file), reason="an annotation is of a picture that is not in the file"
        )
    for key, image in coco.images.items():
        place = f"{file} image {key}"
        boxes, crowds, fault = _coco_boxes(file, coco, coco.boxes.get(key, ()))
        yield from (
            LeftOut(
                place=f"{file} annotations[{number}]", reason="it is a crowd, no box of one thing"
            )
            for number in crowds
        )
        name = field_of(image, "file_name", str, place)
        found = next((one for one in folders if (one / name).is_file()), folders[0])
        picture = inside(found, name, f"{place}, field file_name")
        if fault:
            yield LeftOut(place=place, reason=fault)
        elif not picture.is_file():
            yield LeftOut(place=place, reason="its picture is missing")
        else:
            sample = file_sample(picture, _metadata_of(image))
            yield FileRow(
                place=place, sample=sample, answer=boxes, part=part, group=_group_of(image)
            )


def _parsed(file: Path, value: Json) -> _Coco:
    """Index a file of COCO.

    Raises:
        UserError: an id is missing or comes twice, or there are captions or predictions.
    """
    if isinstance(value, list) and value and isinstance(value[0], dict) and "score" in value[0]:
        todo = "Give the file of annotations; predictions are no labels"
        refuse(str(file), "it holds predictions, each with a score", todo)
    images = _by_id(file, "images", field_of(value, "images", list, str(file)))
    annotations = field_of(value, "annotations", list, str(file))
    if any(isinstance(one, dict) and "caption" in one for one in annotations):
        todo = "Write them as JSON Lines with the columns file and answer"
        refuse(str(file), "it holds captions, not boxes", todo)
    listed = field_of(value, "categories", list, str(file))
    categories = {
        key: field_of(one, "name", str, f"{file} category {key}")
        for key, one in _by_id(file, "categories", listed).items()
    }
    boxes, num_strays = defaultdict[int | str, list[tuple[int, Mapping[str, Any]]]](list), 0
    for number, one in enumerate(annotations):
        image = field_of(one, "image_id", (int, str), f"{file} annotations[{number}]")
        num_strays += image not in images
        boxes[image].append((number, one))
    return _Coco(images=images, categories=categories, boxes=boxes, num_strays=num_strays)


def _by_id(file: Path, name: str, items: list[Json]) -> dict[int | str, Mapping[str, Any]]:
    found = dict[int | str, Mapping[str, Any]]()
    for number, one in enumerate(items):
        key = field_of(one, "id", (int, str), f"{file} {name}[{number}]")
        if key in found:
            refuse(
                f"{file} {name}[{number}]",
                f"the id {key} comes twice",
                "Give each an id of its own",
            )
        found[key] = one
    return found


def _coco_boxes(
    file: Path, coco: _Coco, annotations: Sequence[tuple[int, Mapping[str, Any]]]
) -> tuple[list[dict[str, Json]], list[int], str]:
    """Return the boxes of a picture, the places of its crowds, and why it cannot be used."""
    boxes, crowds, fault = list[dict[str, Json]](), list[int](), ""
    for number, one in annotations:
        place = f"{file} annotations[{number}]"
        if one.get("iscrowd"):
            crowds.append(number)
            continue
        label = coco.categories.get(field_of(one, "category_id", (int, str), place))
        if label is None:
            fault = "a box of it has a category that is not in the file"
            continue
        box = _numbers(one.get("bbox"), 4) or _spanned(one.get("segmentation"))
        if box is None:
            fault = "a box of it has neither bbox nor segmentation"
        elif box[2] <= 0 or box[3] <= 0:
            fault = "a box of it has no size"
        else:
            boxes.append(_box(label, *box))
    return boxes, crowds, fault


def _box(label: str, x: float, y: float, width: float, height: float) -> dict[str, Json]:
    return {"label": label, "x": x, "y": y, "width": width, "height": height}


def _numbers(value: Json, number: int | None = None) -> list[float] | None:
    """Return a list of finite numbers; None for anything else."""
    if not isinstance(value, list) or (number is not None and len(value) != number):
        return None
    return value if all(map(is_number, value)) else None


def _spanned(polygons: Json) -> list[float] | None:
    """Return x, y, width, height of polygons; None where there is none."""
    if not isinstance(polygons, list):
        return None
    points = [point for polygon in polygons for point in _numbers(polygon) or ()]
    if len(points) < 6:
        return None
    left, top = min(points[::2]), min(points[1::2])
    return [left, top, max(points[::2]) - left, max(points[1::2]) - top]


def _metadata_of(image: Mapping[str, Any]) -> dict[str, Json]:
    """Return what `flywheel dataset export` wrote of a sample."""
    metadata = image.get("metadata")
    return dict(metadata) if isinstance(metadata, dict) else {}


def _group_of(image: Mapping[str, Any]) -> str | None:
    group = image.get("group")
    is_own = group == image.get("sample_id")
    return group if isinstance(group, str) and group and not is_own else None


def _picture_folders(root: Path, file: Path) -> list[Path]:
    """Return where the pictures of a file may be, all below its root."""
    base = file.parent.parent if file.parent.name == "annotations" else file.parent
    base = root if root.is_dir() and file.parent == root else base
    tail = re.sub(r"^(instances|annotations|person_keypoints)_?", "", file.stem.lstrip("_"))
    names = [
        tail,
        "images",
        f"images/{tail}",
        "data",
        *(split for split in ("train", "val", "test")),
    ]
    return [base, *(base / name for name in names if (base / name).is_dir())]


def read_yolo(path: Path) -> LabelFile:
    """Read a folder of YOLO: data.yaml, pictures in images/, and a text file for each in labels/.

    A line is the number of a class and a box, or a polygon, which is read as the box that it spans. A
    picture without a text file has no boxes, as for the programs that train on such folders.

    Raises:
        UserError: no class names, a line that is no box, or one with a confidence, as of a prediction.
    """
    root = path if path.is_dir() else path.parent
    names, folders, notes = _yolo_folders(root, path)
    notes.append("an answer is the list of its boxes; polygons are read as boxes")

    def rows() -> Iterator[FileRow | LeftOut]:
        for picture, part in _yolo_pictures(folders):
            yield _yolo_row(root, picture, part, names)

    return LabelFile(path=path, format="yolo", notes=tuple(notes), rows=rows)


def _yolo_folders(root: Path, path: Path) -> tuple[dict[int, str], dict[Path, Part], list[str]]:
    """Return the class names, the folders of pictures with their split, and notes."""
    settings = path if path.is_file() else next(iter(sorted(root.glob("*.y*ml"))), None)
    if settings is None:
        names = root / "classes.txt"
        if not names.is_file():
            refuse(
                str(root), "no data.yaml and no classes.txt", "Write the names of the classes there"
            )
        lines = [line.strip() for line in decoded(names).splitlines() if line.strip()]
        return (
            dict(enumerate(lines)),
            {root / "images": "train"},
            ["classes are those of classes.txt"],
        )
    try:
        content = yaml.safe_load(decoded(settings))
    except yaml.YAMLError as error:
        refuse(str(settings), f"no YAML: {str(error).splitlines()[0]}", "Correct it there")
    names = field_of(content, "names", (list, dict), str(settings))
    named = dict(enumerate(names)) if isinstance(names, list) else names
    folders, notes = dict[Path, Part](), list[str]()
    for part in ("train", "val", "test"):
        given = content.get(part)
        for entry in given if isinstance(given, list) else [given] if given else []:
            folder = _yolo_folder(root, content, str(entry), f"{settings}, field {part}")
            if folder not in folders:
                folders[folder] = part_of(part, part)
                notes.append(f"{folder.relative_to(root.resolve())} is read as {part}")
    if not folders:
        refuse(str(settings), "it names no folder", "Write train: images/train")
    classes = {int(key): str(name) for key, name in named.items() if str(key).isdecimal()}
    return classes, folders, notes


def _yolo_folder(root: Path, content: Mapping[str, Any], entry: str, place: str) -> Path:
    """Return a folder, or a list of pictures, that data.yaml names; it may say where it was once."""
    plain = re.sub(r"^(\.\./|\./)+", "", entry)
    places = [
        (root / name).resolve() for name in (entry, f"{content.get('path') or '.'}/{entry}", plain)
    ]
    found = [one for one in places if one.exists() and one.is_relative_to(root.resolve())]
    if not found:
        refuse(place, f"no {plain} below {root}", "Name a folder of pictures below it")
    return found[0]


def _yolo_pictures(folders: Mapping[Path, Part]) -> Iterator[tuple[Path, Part]]:
    for folder, part in folders.items():
        if folder.is_file():
            lines = [line.strip() for line in decoded(folder).splitlines() if line.strip()]
            yield from (
                (inside(folder.parent, line, f"{folder} line {number}"), part)
                for number, line in enumerate(lines, start=1)
            )
            continue
        found = sorted(one for one in folder.rglob("*") if one.suffix.lower() in PICTURES)
        yield from ((one, part) for one in found)


def _yolo_row(root: Path, picture: Path, part: Part, names: Mapping[int, str]) -> FileRow | LeftOut:
    place = str(picture)
    if not picture.is_file() or not picture.resolve().is_relative_to(root.resolve()):
        return LeftOut(place=place, reason="its picture is missing")
    labels = _labels_beside(root.resolve(), picture)
    if labels is None:
        refuse(place, "there is no folder labels beside images", "Give the folder that holds both")
    sample = file_sample(picture)
    lines = decoded(labels).splitlines() if labels.is_file() else []
    try:
        size = (
            picture_size(sample, max_pixels=math.inf, formats=FORMATS)
            if any(map(str.strip, lines))
            else (0, 0)
        )
    except PayloadError:
        return LeftOut(place=place, reason="it is no picture that can be opened")
    read = partial(_yolo_box, size=size, names=names)
    boxes = [
        read(line.split(), f"{labels} line {number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    return FileRow(place=place, sample=sample, answer=boxes, part=part)


def _labels_beside(root: Path, picture: Path) -> Path | None:
    """Return the text file of a picture: the last folder named images is labels there."""
    parts = list(picture.relative_to(root).parts)
    places = [number for number, name in enumerate(parts[:-1]) if name == "images"]
    if not places:
        return None
    parts[places[-1]] = "labels"
    folder = root.joinpath(*parts[: places[-1] + 1])
    return root.joinpath(*parts).with_suffix(".txt") if folder.is_dir() else None


def _yolo_box(
    cells: Sequence[str], place: str, *, size: tuple[int, int], names: Mapping[int, str]
) -> dict[str, Json]:
    """Return a box of a line.

    Raises:
        UserError: the line is none.
    """
    try:
        values = [float(cell) for cell in cells]
    except ValueError:
        refuse(
            place, f"{' '.join(cells):.40} is no row of numbers", "Write: class x y width height"
        )
    if len(values) == 6:
        refuse(
            place,
            "it has six numbers, as a prediction with a confidence",
            "Give labels, not results",
        )
    if len(values) < 5 or (len(values) > 5 and len(values) % 2 == 0):
        refuse(
            place, f"it has {len(values)} numbers", "Write: class x y width height, or a polygon"
        )
    if values[0] not in names:
        refuse(place, f"no class {cells[0]} in {len(names)} names", "Name it in data.yaml")
    if len(values) == 5:
        x, y, width, height = values[1:]
        box = [x - width / 2, y - height / 2, width, height]
    else:
        box = _spanned([values[1:]]) or []
    ends = (box[0], box[1], box[0] + box[2], box[1] + box[3])
    if not all(-_SLACK <= end <= 1 + _SLACK for end in ends) or min(box[2:]) <= 0:
        todo = "Give the box as shares of the picture, 0 to 1"
        refuse(place, f"{' '.join(cells[1:5])} is no box in its picture", todo)
    wide, high = size
    return _box(names[int(values[0])], box[0] * wide, box[1] * high, box[2] * wide, box[3] * high)
