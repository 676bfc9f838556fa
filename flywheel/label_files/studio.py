"""Reader of an export of Label Studio in its format JSON: what annotators drew, for the task to read.

Annotations are labels, one of each annotator; predictions are what a model said, and are none. The
reader takes results as they are: only a task knows which answer its config means.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from flywheel.label_files.reading import (
    has_media_suffix,
    inside,
    media_type_of,
    read_json,
    text_sample,
)
from flywheel.label_files.rows import (
    Columns,
    FileRow,
    LabelFile,
    LeftOut,
    field_of,
    part_of,
    refuse,
)
from flywheel.records import Json, Sample, canonical

_MEDIA = ("image", "img", "picture", "audio", "video", "pdf", "file", "url")
_TEXTS = ("text", "html", "content", "message", "dialogue")
_DATA_URI = re.compile(r"data:([\w.+-]+/[\w.+-]+)?[^,]*?(;base64)?,", re.ASCII)
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")
_NAMED = 12


Find = Callable[[str], tuple[str, bytes] | str]
"""address -> name and bytes of a file, or why there are none"""


def is_export(value: Json) -> bool:
    """Whether JSON is a list of labeling tasks, as Label Studio exports them."""
    first = value[0] if isinstance(value, list) and value else None
    return (
        isinstance(first, dict)
        and "data" in first
        and ("annotations" in first or "completions" in first)
    )


def read_label_studio(path: Path, columns: Columns, *, names: Sequence[str] = ()) -> LabelFile:
    """Read an export of Label Studio.

    A sample is the text or the file in one of a labeling task's data. Files of an upload or of local
    storage are looked for beside the export; an address is not fetched.

    Args:
        path: the JSON.
        columns: which data are the input, the group and the split; there is no answer among them.
        names: what the labeling config shows, without $, the first choice for the input.

    Raises:
        UserError: it is another format of its export, or a labeling task has not the form of one.
    """
    tasks = read_json(path)
    if (
        isinstance(tasks, list)
        and tasks
        and isinstance(tasks[0], dict)
        and "annotation_id" in tasks[0]
    ):
        refuse(str(path), "it is Label Studio's JSON-MIN", "Export the project as JSON")
    if not is_export(tasks):
        refuse(
            str(path),
            "it is no list of labeling tasks",
            "Export the project of Label Studio as JSON",
        )
    key = _input(path, tasks, columns, names)
    what = "the JSON of all its data" if key is None else f"what {key!r} in its data names (input)"
    notes = [f"a sample is {what}", "the answer is what labeling.answer of the task reads"]

    def rows() -> Iterator[FileRow | LeftOut]:
        for number, task in enumerate(tasks):
            yield from _rows(path, number, task, key, columns)

    return LabelFile(path=path, format="label-studio", notes=tuple(notes), rows=rows)


def choose_input(known: Iterable[str], names: Sequence[str]) -> str | None:
    """Return which of some data is the sample: what the config shows first, else by its name.

    None where none of them is: then the sample is all of the data.
    """
    listed = list(known)
    found = next((name for name in (*names, *_MEDIA, *_TEXTS) if name in listed), None)
    return found or (listed[0] if len(listed) == 1 else None)


def _input(path: Path, tasks: Sequence[Any], columns: Columns, names: Sequence[str]) -> str | None:
    """Return the name of the data that are the sample; None: all of them as JSON."""
    known = dict.fromkeys(
        key for number, task in enumerate(tasks[:50]) for key in _data(path, number, task)
    )
    if columns.input is None:
        return choose_input(known, names)
    if columns.input not in known:
        listed = ", ".join(list(known)[:_NAMED])
        refuse(str(path), f"no data are named {columns.input!r}, but {listed}", "Correct --input")
    return columns.input


def _data(path: Path, number: int, task: Any) -> Mapping[str, Json]:
    data: Mapping[str, Json] = field_of(task, "data", dict, f"{path} task [{number}]")
    return data


def _rows(
    path: Path, number: int, task: Any, key: str | None, columns: Columns
) -> Iterator[FileRow | LeftOut]:
    data = _data(path, number, task)
    place = f"{path} task {task.get('id', f'[{number}]')}"
    for _ in task.get("predictions") or ():
        yield LeftOut(place=place, reason="a prediction is no label")
    given = field_of(task, "annotations", list, place)
    results = list[list[dict[str, Json]]]()
    for one in _counting(given, place):
        name = f"{place} annotation {one.get('id', '')}".rstrip()
        result = field_of(one, "result", list, name)
        if one.get("was_cancelled"):
            yield LeftOut(place=name, reason="an annotator skipped it")
        elif not all(isinstance(region, dict) for region in result):
            refuse(
                f"{name}, field result", "a region of it is no object", "Export the project again"
            )
        else:
            results.append(result)
    if not results:
        yield LeftOut(place=place, reason="it has no annotation")
        return
    sample = sample_of(data, key, place, partial(_beside, path, place))
    if isinstance(sample, LeftOut):
        yield sample
        return
    group = data.get(columns.group) if columns.group else None
    yield FileRow(
        place=place,
        sample=sample,
        results=tuple(results),
        group=None if group in (None, "") else str(group),
        part=part_of(data.get(columns.split) if columns.split else None, f"{place}, data"),
    )


def _counting(given: Sequence[Any], place: str) -> list[Mapping[str, Any]]:
    """Return the newest annotation of each annotator; those marked as ground truth alone, if any is."""
    newest = dict[str, Mapping[str, Any]]()
    for number, one in enumerate(given):
        if not isinstance(one, dict):
            refuse(f"{place} annotations[{number}]", "it is no object", "Export the project again")
    ordered = sorted(given, key=lambda one: str(one.get("updated_at") or ""))
    for number, one in enumerate(ordered):
        who = one.get("completed_by")
        newest[canonical(who) if who is not None else f"annotation {number}"] = one
    truths = [one for one in newest.values() if one.get("ground_truth")]
    return truths or list(newest.values())


def sample_of(
    data: Mapping[str, Json], key: str | None, place: str, find: Find
) -> Sample | LeftOut:
    """Return the sample that a labeling task is about, or why there is none.

    Args:
        data: of the labeling task.
        key: the name of the sample among them; None: the sample is all of them, as JSON.
        place: of the labeling task, as messages name it.
        find: returns the name and the bytes of a file at an address, or why there are none.

    Raises:
        UserError: an address leads out of a folder, or a text or base64 is damaged.
    """
    where = f"{place}, data {key}"
    value = dict(data) if key is None else data.get(key)
    if value is None or value == "":
        return LeftOut(place=place, reason="it has no input")
    metadata = {} if key is None else {name: one for name, one in data.items() if name != key}
    if not isinstance(value, str):
        return Sample.of(canonical(value).encode(), "application/json", metadata)
    if (found := _DATA_URI.match(value)) is not None:
        return _of_uri(value[found.end() :], found, where, metadata)
    if not _is_place(value):
        return text_sample(value, where, metadata)
    file = find(value)
    if isinstance(file, str):
        return LeftOut(place=place, reason=file)
    name, payload = file
    return Sample.of(payload, media_type_of(name, payload), metadata)


def _beside(path: Path, place: str, value: str) -> tuple[str, bytes] | str:
    """Return the file of an address that lies beside the export, or why there is none."""
    found = (inside(path.parent, name, f"{place}, data") for name in _names(value))
    file = next((one for one in found if one.is_file()), None)
    if file is not None:
        return file.name, file.read_bytes()
    is_far = "://" in value
    return (
        "its file is at an address and not beside the export" if is_far else "its file is missing"
    )


def _of_uri(content: str, found: re.Match[str], where: str, metadata: dict[str, Json]) -> Sample:
    try:
        payload = (
            base64.b64decode(content, validate=True) if found[2] else unquote(content).encode()
        )
    except binascii.Error as error:
        refuse(where, f"its base64 is damaged ({error})", "Export the project again")
    return Sample.of(payload, found[1] or media_type_of("", payload), metadata)


def _is_place(value: str) -> bool:
    """Whether a text names a file or an address, and is no text to label."""
    if len(value) > 2_000 or any(sign in value for sign in "\n\t\0"):
        return False
    is_address = re.match(r"(https?|s3|gs|azure-blob)://\S+$", value) is not None
    return (
        is_address or value.startswith("/data/") or (has_media_suffix(value) and "  " not in value)
    )


def _names(value: str) -> Iterator[str]:
    """Yield where the file of an address may lie beside the export, the surest first."""
    parts = urlsplit(value) if "://" in value or value.startswith("/") else None
    if parts is None:
        yield value
        return
    plain = unquote(parts.path).lstrip("/")
    local = parse_qs(parts.query).get("d", [])
    tails = [plain, plain.removeprefix("data/"), plain.removeprefix("data/upload/"), *local]
    last = Path(local[0] if local else plain).name
    tails += [last, f"images/{last}", f"files/{last}", _UPLOADED.sub("", last)]
    yield from (tail for tail in dict.fromkeys(tails) if tail)
