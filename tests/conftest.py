"""A small project about letters, whose samples wait to be labeled; no model is needed for it."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import Row, func, select

from flywheel.blobs import Blobs
from flywheel.errors import AnnotationError, PayloadError
from flywheel.ledger import Ledger
from flywheel.ledger.batches import add_batch
from flywheel.ledger.failures import add_failures, move_failures
from flywheel.ledger.outbox import Asked, enqueue
from flywheel.ledger.predictions import Logged, append_predictions
from flywheel.ledger.samples import load_samples
from flywheel.ledger.tables import labeling_tasks, labels, skips
from flywheel.project import Project
from flywheel.records import (
    Batch,
    Choice,
    Failure,
    FailureState,
    Json,
    Prediction,
    Purpose,
    Sample,
    Share,
    Signal,
    Split,
)
from flywheel.task import Labeling, Task

LETTERS = ("a", "b", "c")
NOW = datetime(2026, 3, 1, 2, tzinfo=UTC)
CONFIG = """<View>
  <Image name="image" value="$image"/>
  <Choices name="letter" toName="image" choice="single">
    <Choice value="a"/>
    <Choice value="b"/>
    <Choice value="c"/>
    <Choice value="unusable"/>
  </Choices>
</View>"""


def _picture(sample: Sample) -> bytes:
    if sample.payload.startswith(b"broken"):
        raise PayloadError(f"sample {sample.id[:12]} starts with b'broken'; send a letter")
    buffer = io.BytesIO()
    Image.new("L", (16, 16), sample.payload[-1]).save(buffer, "PNG")
    return buffer.getvalue()


def _result(answer, _sample):
    if answer.startswith("no "):
        raise AnnotationError(f"{answer!r} is no letter; choose one of {LETTERS}")
    choice = {"type": "choices", "from_name": "letter", "to_name": "image"}
    return [{"id": "r1", **choice, "value": {"choices": [answer]}}]


def _answer(result, _sample):
    chosen = [name for region in result for name in region["value"]["choices"]]
    if len(chosen) != 1 or chosen[0] not in LETTERS:
        raise AnnotationError(f"{chosen} is no letter; choose one of {LETTERS}")
    return chosen[0]


def _not_needed(*_):
    raise AssertionError("labeling needs no model")


@dataclass
class Letters:
    """The project, opened."""

    ledger: Ledger
    blobs: Blobs
    task: Task
    project: Project
    num_batches: int = 0

    def choose(
        self,
        *payloads: bytes,
        answer: str = "a",
        digest: str = "0123456789abcdef" * 4,
        num_annotators: int = 1,
    ) -> list[str]:
        """Put payloads into a batch, the first one the hardest; the ids of their samples."""
        samples = [Sample.of(payload, "text/plain") for payload in payloads]
        return self.choose_samples(samples, answer, digest, num_annotators)

    def choose_samples(
        self,
        samples: list[Sample],
        answer: Json,
        digest: str = "0123456789abcdef" * 4,
        num_annotators: int = 1,
    ) -> list[str]:
        """The same with samples of any kind, for which the model gave one answer."""
        self.blobs.put_all(sample.payload for sample in samples)
        with self.ledger.begin() as connection:
            append_predictions(connection, [_logged(sample, answer, digest) for sample in samples])
            failures = [_failure(sample) for sample in samples]
            add_failures(connection, failures, 0, NOW)
            ids = [sample.id for sample in samples]
            move_failures(connection, ids, FailureState.QUEUED, 0, NOW)
            add_batch(connection, self._batch(ids, num_annotators))
        return ids

    def samples(self, sample_ids: list[str]) -> list[Sample]:
        with self.ledger.read() as connection:
            return load_samples(connection, self.blobs, sample_ids)

    def ask(self, sample_ids: list[str], purpose: Purpose, num_annotators: int = 1) -> None:
        """Let samples that are there wait for people for another purpose."""
        asked = [
            Asked(sample_id=key, purpose=purpose, num_annotators=num_annotators, priority=0.5)
            for key in sample_ids
        ]
        with self.ledger.begin() as connection:
            enqueue(connection, asked, 0, NOW)

    def change(self, **sections: dict[str, object]) -> None:
        """Settings of the project from now on: section -> its values, the others by default."""
        named = {"project": self.project.project, "quality": {"blind_share": 0.0}, **sections}
        self.project = Project(directory=self.project.directory, **named)

    def rows(self, purpose: Purpose = Purpose.CHOICE) -> dict[str, Row]:
        """sample id -> the row of its labeling task of a purpose."""
        query = select(labeling_tasks).where(labeling_tasks.c.purpose == purpose.value)
        with self.ledger.read() as connection:
            return {row.sample_id: row for row in connection.execute(query)}

    def tasks(self, purpose: Purpose = Purpose.CHOICE) -> dict[str, tuple[str, int | None, str]]:
        """sample id -> state, external id and note of its labeling task."""
        rows = self.rows(purpose)
        return {key: (row.state, row.external_id, row.note) for key, row in rows.items()}

    def labels(self, sample_id: str) -> list[str | None]:
        """Every answer that the sample's label had, the newest last."""
        query = select(labels.c.answer).where(labels.c.sample_id == sample_id)
        with self.ledger.read() as connection:
            return list(connection.execute(query.order_by(labels.c.seq)).scalars())

    def num_skips(self) -> int:
        with self.ledger.read() as connection:
            return connection.execute(select(func.count()).select_from(skips)).scalar_one()

    def _batch(self, ids: list[str], num_annotators: int) -> Batch:
        self.num_batches += 1
        choices = tuple(
            Choice(
                sample_id=sample_id,
                prediction_id=sample_id[:32],
                share=Share.TARGETED,
                reason="low_confidence 0.70",
                priority=1.0 - place / len(ids),
                inclusion_probability=None,
                num_annotators=num_annotators,
            )
            for place, sample_id in enumerate(ids)
        )
        name = f"batch-{self.num_batches}"
        return Batch(id=name, choices=choices, night=0, population=10, created_at=NOW)


def _logged(sample: Sample, answer: str, digest: str) -> Logged:
    prediction = Prediction(
        id=sample.id[:32],
        sample_id=sample.id,
        answer=answer,
        confidence=0.6,
        embedding=np.zeros(2, dtype=np.float32),
        latency_ms=1.0,
        model_digest=digest,
        created_at=NOW,
    )
    return Logged(sample=sample, group=sample.id, split=Split.TRAIN, prediction=prediction)


def _failure(sample: Sample) -> Failure:
    return Failure(
        sample_id=sample.id,
        prediction_id=sample.id[:32],
        signals=(Signal(name="low_confidence", strength=0.7),),
        state=FailureState.SEEN,
        created_at=NOW,
    )


def _open_letters(folder: Path) -> Letters:
    ledger = Ledger.open(f"sqlite:///{folder}/ledger.db")
    labeling = Labeling(config=CONFIG, picture=_picture, result=_result, answer=_answer)
    unused = dict.fromkeys(("model", "inputs", "targets", "loss", "answers", "scores"), _not_needed)
    identity = {
        "name": f"letters-{folder.name[-20:].strip('-_').replace('_', '-')}",
        "task": "t:t",
    }
    letters = Letters(
        ledger=ledger,
        blobs=Blobs.open(str(folder / "blobs")),
        task=Task(**unused, labeling=labeling),
        project=Project(directory=folder, project=identity),
    )
    letters.change()  # nobody is asked blind, unless a test wants it
    return letters


@pytest.fixture(scope="session")
def put_ledger(tmp_path_factory) -> Callable[[Path], None]:
    """(path) -> an empty ledger there, copied: its migrations take longer than most tests."""
    template = tmp_path_factory.mktemp("ledger") / "ledger.db"
    Ledger.open(f"sqlite:///{template}").close()

    def put(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(template, path)

    return put


@pytest.fixture
def letters(tmp_path, put_ledger) -> Iterator[Letters]:
    """A project about letters; `choose` makes its samples wait for people."""
    put_ledger(tmp_path / "ledger.db")
    letters = _open_letters(tmp_path)
    yield letters
    letters.ledger.close()


@pytest.fixture(scope="session")
def open_letters() -> Callable[[Path], Letters]:
    """(folder) -> such a project, for laws that need one for each example."""
    return _open_letters
