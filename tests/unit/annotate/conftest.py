"""Letters that wait to be labeled in a labeling server in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Row, select

from flywheel.annotate import PullResult, Sender, SendResult, make_labels, pull, reconcile, send
from flywheel.annotate.imports import ImportInto
from flywheel.annotate.labels import LabelResult
from flywheel.annotate.reconcile import ReconcileResult
from flywheel.errors import UnavailableError
from flywheel.ledger.dialects import Renamer
from flywheel.ledger.samples import move_payloads
from flywheel.ledger.tables import annotations
from flywheel.records import Sample
from flywheel.testing import MemoryBackend


@pytest.fixture
def studio() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture(scope="session")
def make_studio() -> Callable[[], MemoryBackend]:
    """A server for laws that need one for each example."""
    return MemoryBackend


@pytest.fixture
def now() -> datetime:
    return datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture
def send_now(letters, studio, now) -> Callable[..., SendResult]:
    """Send what waits."""

    def run(**more: object) -> SendResult:
        sender = Sender(
            ledger=letters.ledger,
            blobs=letters.blobs,
            studio=studio,
            task=letters.task,
            project=letters.project,
        )
        return send(replace(sender, **more), now)

    return run


@pytest.fixture
def pull_now(letters, studio, now) -> Callable[[], PullResult]:
    """Bring back what is new."""
    return lambda: pull(letters.ledger, letters.blobs, studio, letters.task, now)


@pytest.fixture
def reconcile_now(letters, studio, now) -> Callable[[], ReconcileResult]:
    """Hold the ledger against all that is there."""
    return lambda: reconcile(letters.ledger, letters.blobs, studio, letters.task, now)


@pytest.fixture
def label_now(letters, pull_now, now) -> Callable[[], LabelResult]:
    """Pull, then label."""

    def run() -> LabelResult:
        pull_now()
        return make_labels(letters.ledger, letters.task, letters.project, now, 4)

    return run


@pytest.fixture
def says(letters, studio) -> Callable[..., None]:
    """An annotator answers a sample, or in a labeling task, with a letter."""

    def say(sample: str | int, letter: str, by: str = "ann") -> None:
        studio.answer(sample, *letters.task.labeling.result(letter, None), by=by)

    return say


@pytest.fixture
def sample_id(letters, send_now) -> str:
    """A sample that is with annotators."""
    (sample_id,) = letters.choose(b"x1")
    send_now()
    return sample_id


@pytest.fixture
def stored(letters) -> Callable[[], dict[str, Row]]:
    """All annotations in the ledger, by annotator."""

    def read() -> dict[str, Row]:
        with letters.ledger.read() as connection:
            return {row.annotator: row for row in connection.execute(select(annotations))}

    return read


@pytest.fixture
def lose(letters, tmp_path) -> Callable[[str], None]:
    """Lose a sample's payload."""

    def run(sample_id: str) -> None:
        move_payloads(letters.ledger, letters.blobs)
        (tmp_path / "blobs" / sample_id[:2] / sample_id).unlink()

    return run


@pytest.fixture
def silence(letters, monkeypatch) -> Callable[[], Callable[[], None]]:
    """Make the blobs answer nothing, as an object store does that is away; the other ends it."""

    def silent(*_args: object) -> bytes:
        raise UnavailableError("the blob store does not answer")

    def run() -> Callable[[], None]:
        move_payloads(letters.ledger, letters.blobs)
        for name in ("get", "get_all"):
            monkeypatch.setattr(f"flywheel.blobs.Blobs.{name}", silent)
        return monkeypatch.undo

    return run


@pytest.fixture
def points(tmp_path, draw_points) -> Callable[..., tuple[Path, list[Sample]]]:
    """Write points and a table that names them; the path of the table, and the samples."""

    def write(number: int = 6, seed: int = 1, **columns: list) -> tuple[Path, list[Sample]]:
        samples, sides = draw_points(number, seed)
        folder = tmp_path / "points"
        folder.mkdir(exist_ok=True)
        lines = []
        for place, (sample, side) in enumerate(zip(samples, sides, strict=True)):
            (folder / f"{seed}-{place}.bin").write_bytes(sample.payload)
            more = {name: values[place] for name, values in columns.items()}
            lines.append({"file": f"{seed}-{place}.bin", "label": side} | more)
        path = folder / "labels.jsonl"
        path.write_text("\n".join(map(json.dumps, lines)))
        return path, samples

    return write


@pytest.fixture
def into(points_task, tmp_path) -> ImportInto:
    return ImportInto(task=points_task, group=None, rename=Renamer(), folder=tmp_path)
