"""Writes labeled samples as a folder that other programs read: JSON Lines with files, COCO or YOLO.

    jsonl   rows.jsonl, one row a line, and files/
    coco    annotations/instances_train.json and instances_test.json, and images/
    yolo    data.yaml, images/train, images/test and labels beside them

Equal rows give equal bytes. The file that programs open first is written last, so that a folder that
has it is whole.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

import yaml  # type: ignore[import-untyped]

from flywheel.errors import UserError
from flywheel.label_files.reading import FORMATS, MEDIA_TYPES
from flywheel.pictures import picture_size
from flywheel.records import FAILED, DatasetRow, Json, Sample, Split, canonical, is_number

Layout = Literal["jsonl", "coco", "yolo"]

_SUFFIXES = {kind: suffix for suffix, kind in reversed(MEDIA_TYPES.items())}


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What was written."""

    folder: Path
    num_train: int
    num_test: int
    num_left_out: int
    """rows of answers that failed, which say only what is wrong; COCO and YOLO have no place for them"""


class Box(TypedDict):
    """A box of an answer, in pixels of its picture, from its upper left corner."""

    label: str
    x: float
    y: float
    width: float
    height: float


def export_rows(
    samples: Iterable[Sample],
    rows: Sequence[DatasetRow],
    folder: Path,
    *,
    layout: Layout = "jsonl",
    groups: Mapping[str, str] | None = None,
) -> Exported:
    """Write samples with their rows into a new folder, in the order of the rows.

    Args:
        samples: one for each row, in the same order; they are read one by one.
        rows: answer, split, origin and weight of each sample; each sample once.
        folder: an empty or missing one.
        layout: jsonl, coco or yolo; the last two hold boxes only.
        groups: sample id -> group; a sample that is not in it is a group of its own.

    Raises:
        UserError: the folder holds files, or the layout cannot hold the answers.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} holds something already. Give a new or an empty folder")
    kept = [row for row in rows if layout == "jsonl" or row.origin != FAILED]
    if layout != "jsonl":
        for row in kept:
            boxes_of(row)
    chosen = {row.sample_id for row in kept}
    folder.mkdir(parents=True, exist_ok=True)
    pairs = (
        (row, sample)
        for row, sample in _pairs(rows, samples)
        if layout == "jsonl" or row.sample_id in chosen
    )
    _WRITERS[layout](folder, pairs, kept, groups or {})
    count = Counter(row.split for row in kept)
    return Exported(
        folder=folder,
        num_train=count[Split.TRAIN],
        num_test=count[Split.TEST],
        num_left_out=len(rows) - len(kept),
    )


def file_name(sample: Sample) -> str:
    """The name of a sample's file: its id, and a suffix by its media type."""
    kind = sample.media_type.partition(";")[0].strip().lower()
    return sample.id + _SUFFIXES.get(kind, ".bin")


def boxes_of(row: DatasetRow) -> list[Box]:
    """The boxes of a row's answer.

    Raises:
        UserError: the answer is no list of boxes.
    """
    if not isinstance(row.answer, list) or not all(map(_is_box, row.answer)):
        raise UserError(
            f"the answer {canonical(row.answer):.80} of sample {row.sample_id[:12]} is no list of boxes "
            '{"label", "x", "y", "width", "height"}, which COCO and YOLO hold. Export it as jsonl'
        )
    return row.answer


def _is_box(value: Json) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("label"), str):
        return False
    return all(is_number(value.get(name)) for name in ("x", "y", "width", "height"))


_Pairs = Iterable[tuple[DatasetRow, Sample]]


def _pairs(
    rows: Sequence[DatasetRow], samples: Iterable[Sample]
) -> Iterator[tuple[DatasetRow, Sample]]:
    for row, sample in zip(rows, samples, strict=True):
        if row.sample_id != sample.id:
            raise ValueError(
                f"the row of {row.sample_id[:12]} came with sample {sample.id[:12]}; pass the samples "
                "in the order of the rows"
            )
        yield row, sample


def _described(row: DatasetRow, sample: Sample, groups: Mapping[str, str]) -> dict[str, Json]:
    """What is known of a sample beside its bytes and its boxes."""
    return {
        "media_type": sample.media_type,
        "metadata": sample.metadata,
        "origin": row.origin,
        "weight": row.weight,
        "group": groups.get(row.sample_id, row.sample_id),
    }


def _write_jsonl(
    folder: Path, pairs: _Pairs, _rows: Sequence[DatasetRow], groups: Mapping[str, str]
) -> None:
    files = folder / "files"
    files.mkdir()
    draft = folder / "rows.jsonl.part"
    with draft.open("w", encoding="utf-8", newline="\n") as lines:
        for row, sample in pairs:
            name = file_name(sample)
            (files / name).write_bytes(sample.payload)
            fields = {
                "id": sample.id,
                "file": f"files/{name}",
                "answer": row.answer,
                "split": row.split.value,
                **_described(row, sample, groups),
            }
            lines.write(canonical(fields) + "\n")
    draft.rename(folder / "rows.jsonl")


def _write_coco(
    folder: Path, pairs: _Pairs, rows: Sequence[DatasetRow], groups: Mapping[str, str]
) -> None:
    numbers = {label: number for number, label in enumerate(_labels(rows), start=1)}
    parts: dict[Split, dict[str, list[Json]]] = {
        split: {
            "images": [],
            "annotations": [],
            "categories": [{"id": number, "name": label} for label, number in numbers.items()],
        }
        for split in Split
    }
    (folder / "images").mkdir()
    for row, sample in pairs:
        part, name = parts[row.split], file_name(sample)
        width, height = _write_picture(folder / "images" / name, sample)
        image = len(part["images"]) + 1
        described = {**_described(row, sample, groups), "sample_id": sample.id}
        part["images"].append(
            {"id": image, "file_name": name, "width": width, "height": height, **described}
        )
        for box in boxes_of(row):
            part["annotations"].append(
                {
                    "id": len(part["annotations"]) + 1,
                    "image_id": image,
                    "category_id": numbers[box["label"]],
                    "bbox": [box["x"], box["y"], box["width"], box["height"]],
                    "area": box["width"] * box["height"],
                    "iscrowd": 0,
                }
            )
    (folder / "annotations").mkdir()
    for split, part in parts.items():
        path = folder / "annotations" / f"instances_{split.value}.json"
        path.write_text(json.dumps(part, sort_keys=True, allow_nan=False), encoding="utf-8")


def _write_yolo(
    folder: Path, pairs: _Pairs, rows: Sequence[DatasetRow], _groups: Mapping[str, str]
) -> None:
    labels = _labels(rows)
    numbers = {label: number for number, label in enumerate(labels)}
    for split in Split:
        (folder / "images" / split.value).mkdir(parents=True)
        (folder / "labels" / split.value).mkdir(parents=True)
    for row, sample in pairs:
        name = file_name(sample)
        width, height = _write_picture(folder / "images" / row.split.value / name, sample)
        lines = [
            f"{numbers[box['label']]} {(box['x'] + box['width'] / 2) / width!r} "
            f"{(box['y'] + box['height'] / 2) / height!r} {box['width'] / width!r} "
            f"{box['height'] / height!r}\n"
            for box in boxes_of(row)
        ]
        path = folder / "labels" / row.split.value / f"{sample.id}.txt"
        path.write_text("".join(lines), encoding="utf-8")
    # A program that trains wants a validation part, whatever there is.
    has_test = any(row.split is Split.TEST for row in rows)
    content = {
        "train": "images/train",
        "val": "images/test" if has_test else "images/train",
        "names": dict(enumerate(labels)),
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    (folder / "data.yaml").write_text(text, encoding="utf-8")


def _labels(rows: Sequence[DatasetRow]) -> list[str]:
    return sorted({box["label"] for row in rows for box in boxes_of(row)})


def _write_picture(path: Path, sample: Sample) -> tuple[int, int]:
    """Write a picture; return its width and height in pixels."""
    size = picture_size(sample, max_pixels=math.inf, formats=FORMATS)
    path.write_bytes(sample.payload)
    return size


_WRITERS: dict[Layout, Callable[[Path, _Pairs, Sequence[DatasetRow], Mapping[str, str]], None]] = {
    "jsonl": _write_jsonl,
    "coco": _write_coco,
    "yolo": _write_yolo,
}
