"""What sets samples apart by their content alone, for tasks whose model inputs are no rows of numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np

from flywheel.batches import flattened, is_list
from flywheel.errors import PayloadError
from flywheel.pictures import open_picture
from flywheel.records import Array, Json, Sample
from flywheel.task import Task

_COLUMNS = 512
_SIDE_PIXELS = 22
"""22 x 22 pixels fit into the columns"""
_NONE = np.zeros(_COLUMNS)


def content_of(samples: Sequence[Sample]) -> Array:
    """(N, 512) float32: letters of a text, fields of JSON, pixels of a picture; else equal or not.

    Raises:
        PayloadError: a picture, a text or JSON cannot be read.
    """
    rows = [_row(sample) for sample in samples]
    return np.stack(rows).astype(np.float32) if rows else np.zeros((0, _COLUMNS), np.float32)


def compared(task: Task, samples: Sequence[Sample]) -> Array:
    """Return the flattened model inputs (N, D), or else the content of samples."""
    inputs = task.inputs(samples)
    return content_of(samples) if is_list(inputs) else flattened(inputs)


def numbers_of(samples: Sequence[Sample]) -> Array:
    """(N, 512) float32: the numbers of JSON alone; 0 for anything else.

    Raises:
        PayloadError: JSON cannot be read.
    """
    rows = [_fields(one, numbers_only=True) if _is_json(one) else _NONE for one in samples]
    return np.stack(rows).astype(np.float32) if rows else np.zeros((0, _COLUMNS), np.float32)


def _is_json(sample: Sample) -> bool:
    return sample.media_type.startswith("application/json")


def _row(sample: Sample) -> Array:
    if sample.media_type.startswith("image/"):
        return _pixels(sample)
    if _is_json(sample):
        return _fields(sample)
    if sample.media_type.startswith("text/"):
        row: Array = _letters().transform([_text(sample)]).toarray()[0]
        return row
    return _seeded(sample.payload).standard_normal(_COLUMNS)


def _text(sample: Sample) -> str:
    """The text of a sample; one that says its charset may be in another than UTF-8."""
    errors = "replace" if "charset" in sample.media_type.lower() else "strict"
    try:
        text = sample.payload.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        raise PayloadError(
            f"sample {sample.id[:12]} is no UTF-8 ({error.reason}). Send text as UTF-8"
        ) from error
    if errors == "strict" and ("\0" in text or not text.strip()):
        raise PayloadError(f"sample {sample.id[:12]} has no text, or a NUL. Send text as UTF-8")
    return text


@cache
def _letters() -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer  # noqa: PLC0415 - a second to import

    return HashingVectorizer(
        analyzer="char_wb", ngram_range=(2, 4), n_features=_COLUMNS, alternate_sign=False
    )


def _pixels(sample: Sample) -> Array:
    picture = open_picture(sample).convert("L").resize((_SIDE_PIXELS, _SIDE_PIXELS))
    flat = np.asarray(picture, dtype=np.float32).reshape(-1) / 255.0
    return np.pad(flat, (0, _COLUMNS - len(flat)))


def _fields(sample: Sample, *, numbers_only: bool = False) -> Array:
    """Numbers in the column of their field, and a column for each other value of a field."""
    try:
        value = json.loads(sample.payload)
    except (ValueError, RecursionError) as error:
        raise PayloadError(
            f"sample {sample.id[:12]} is no JSON ({error}). Send one JSON value as UTF-8"
        ) from error
    row = np.zeros(_COLUMNS)
    for path, leaf in _leaves(value, ""):
        if isinstance(leaf, (int, float)) and not isinstance(leaf, bool):
            row[_column(path)] += leaf
        elif not numbers_only:
            row[_column(f"{path}={leaf}")] += 1.0
    return row


def _leaves(value: Json, path: str) -> Iterator[tuple[str, Json]]:
    if isinstance(value, (dict, list)):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in pairs:
            yield from _leaves(inner, f"{path}/{name}")
    else:
        yield path, value


def _column(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest()) % _COLUMNS


def _seeded(payload: bytes) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.blake2b(payload, digest_size=8).digest()))
