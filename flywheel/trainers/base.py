"""What a trainer is: `Task.model` of a project that brings its own training.

A trainer leaves a folder of files, the artifact, and loads it again. The artifact is stored under one
digest, asked one sample at a time by the model server, and judged by the same gate as a network.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from flywheel.errors import TaskError
from flywheel.records import Answer, Json, Sample

if TYPE_CHECKING:
    import torch

Predict = Callable[[Sequence[Sample]], Sequence[Answer]]
"""samples -> one answer each, in their order"""

_PICKLED = {".pkl", ".pickle", ".joblib"}
_PICKLE_STARTS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row of a training set."""

    sample: Sample
    answer: Json
    weight: float
    """in (0, 1]: 1 for a label by annotators, the reliability of a sensor or an outcome"""
    origin: str
    """start, probability, targeted, sensor or worked"""
    group: str
    """of the sample; a validation part holds whole groups"""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSet:
    """The N training rows; a sample's payload is read when its row is asked for."""

    samples: Sequence[Sample] = field(repr=False)
    answers: Sequence[Json] = field(repr=False)
    weights: Sequence[float] = field(repr=False)
    origins: Sequence[str] = field(repr=False)
    groups: Sequence[str] = field(repr=False)

    def __len__(self) -> int:
        return len(self.answers)

    def __getitem__(self, number: int) -> Row:
        return Row(
            sample=self.samples[number],
            answer=self.answers[number],
            weight=self.weights[number],
            origin=self.origins[number],
            group=self.groups[number],
        )

    def __iter__(self) -> Iterator[Row]:
        return (self[number] for number in range(len(self)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """What a training may use besides its rows."""

    folder: Path
    """empty; the artifact is written here"""
    champion: Path | None
    """artifact of the model that serves, for a warm start; a copy that may be changed"""
    seed: int
    device: str
    """cpu, cuda:0 ...: [train] device, or the one that this night holds"""
    progress: Callable[[int, int, float], None]
    """call it with (epoch counted from 1, epochs, loss); the night's page shows it"""


@runtime_checkable
class Trainer(Protocol):
    """Trains on rows, and loads what it left."""

    def train(self, rows: TrainingSet, context: Context) -> Path | None:
        """Write the artifact and return its folder; None is `context.folder`."""

    def load(self, folder: Path, device: str) -> Predict:
        """Return what answers with an artifact; it raises PayloadError for a sample that it cannot read."""


def pack(folder: Path) -> bytes:
    """The files of a folder as one tar file; the same files give the same bytes.

    Raises:
        TaskError: the folder holds no file, a link, or a pickle, which would run code when it is loaded.
    """
    if folder.is_symlink():
        raise TaskError("the trainer put a link in place of its folder. Write the files into it")
    files = sorted(path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    if not files:
        raise TaskError("the trainer left no file. Let train() write the model into context.folder")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in files:
            name = path.relative_to(folder).as_posix()
            if path.is_symlink() or not path.is_file():
                raise TaskError(
                    f"the trainer left {name!r}, which is no plain file. Copy the file itself"
                )
            payload = path.read_bytes()
            if _is_pickle(path, payload):
                raise TaskError(
                    f"the trainer left {name!r}, a pickle, which runs code when it is loaded. Store "
                    "weights as safetensors, or scikit-learn models with skops"
                )
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(payload), 0o600
            archive.addfile(entry, io.BytesIO(payload))
    return buffer.getvalue()


def refuse_beside(scratch: Path, left: Path) -> None:
    """Refuse what was written beside the trainer's folder: it would not be part of the model.

    Raises:
        TaskError: there is something.
    """
    for path in scratch.iterdir():
        if path.name not in ("champion", "artifact") and path not in (left, *left.parents):
            raise TaskError(
                f"the trainer wrote {path.name!r} beside context.folder, which is lost. Write all of the "
                "model into it"
            )


def _is_pickle(path: Path, payload: bytes) -> bool:
    """Whether a file is a pickle by its name or first bytes; torch.save hides one in a zip file."""
    if payload.startswith(_PICKLE_STARTS) or _PICKLED & set(path.suffixes):
        return True
    if not payload.startswith(b"PK\x03\x04"):
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(payload)) as inside:
            return any(name.endswith(".pkl") for name in inside.namelist())
    except zipfile.BadZipFile:
        return False


def unpack(artifact: bytes, folder: Path) -> None:
    """Write the files of an artifact into an empty folder.

    Raises:
        TaskError: the bytes are no artifact of a trainer.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(artifact), mode="r:") as archive:
            archive.extractall(folder, filter="data")
    except tarfile.TarError as error:
        raise TaskError(
            f"the checkpoint is no folder that a trainer left: {error}. It belongs to another "
            "task.model; undo the change, or train anew"
        ) from error


def class_answers(
    classes: Sequence[str], logits: torch.Tensor, embeddings: torch.Tensor
) -> list[Answer]:
    """Return the most likely of C classes for each row of logits (B, C), with its probability.

    `embeddings` (B, D) say where the samples lie.
    """
    confidences, places = logits.softmax(dim=1).max(dim=1)
    rows = embeddings.detach().float().cpu().numpy()
    return [
        Answer(value=classes[place], confidence=min(confidence, 1.0), embedding=row)
        for place, confidence, row in zip(places.tolist(), confidences.tolist(), rows, strict=True)
    ]
