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
from alembic import command
from alembic.config import Config
from PIL import Image
from sqlalchemy import Row, create_engine, func, select, text

import flywheel.ledger
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
    content_id,
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
        people: int = 1,
    ) -> list[str]:
        """Put payloads into a batch, the first one the hardest; the ids of their samples."""
        samples = [Sample.of(payload, "text/plain") for payload in payloads]
        return self.choose_samples(samples, answer, digest, people)

    def choose_samples(
        self,
        samples: list[Sample],
        answer: Json,
        digest: str = "0123456789abcdef" * 4,
        people: int = 1,
    ) -> list[str]:
        """The same with samples of any kind, for which the model gave one answer."""
        self.blobs.put_all(sample.payload for sample in samples)
        with self.ledger.begin() as connection:
            append_predictions(connection, [_logged(sample, answer, digest) for sample in samples])
            failures = [_failure(sample) for sample in samples]
            add_failures(connection, failures, 0, NOW)
            ids = [sample.id for sample in samples]
            move_failures(connection, ids, FailureState.QUEUED, 0, NOW)
            add_batch(connection, self._batch(ids, people))
        return ids

    def samples(self, sample_ids: list[str]) -> list[Sample]:
        with self.ledger.read() as connection:
            return load_samples(connection, self.blobs, sample_ids)

    def ask(self, sample_ids: list[str], purpose: Purpose, people: int = 1) -> None:
        """Let samples that are there wait for people for another purpose."""
        asked = [
            Asked(sample_id=key, purpose=purpose, people=people, priority=0.5) for key in sample_ids
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

    def _batch(self, ids: list[str], people: int) -> Batch:
        self.num_batches += 1
        choices = tuple(
            Choice(
                sample_id=sample_id,
                prediction_id=sample_id[:32],
                share=Share.TARGETED,
                reason="low_confidence 0.70",
                priority=1.0 - place / len(ids),
                inclusion_probability=None,
                people=people,
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


BEFORE_CAMPAIGNS = {
    "waiting": ("waiting", None, None, ""),
    "no picture": ("refused", None, None, "no picture"),
    "with people": ("sent", 7, 101, ""),
    "answered": ("done", 7, 102, ""),
    "deleted": ("refused", 7, 103, "deleted"),
    "answered twice": ("done", 9, 201, ""),
    "in the other": ("sent", 9, 202, ""),
}
"""payload -> state, project, number and note of its labeling task at revision 0002"""


@pytest.fixture
def write_old_ledger() -> Callable[[str], dict[str, str]]:
    """(URL) -> a ledger of revision 0002 in the middle of labeling: payload -> sample id."""

    def run(url: str) -> dict[str, str]:
        engine = create_engine(url)
        config = Config()
        folder = Path(flywheel.ledger.__file__).with_name("migrations")
        config.set_main_option("script_location", str(folder))
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "0002")
            for statement, rows in _old_rows().items():
                connection.execute(text(statement), rows)
        engine.dispose()
        return {payload: content_id(payload.encode()) for payload in BEFORE_CAMPAIGNS}

    return run


def _old_rows() -> dict[str, list[dict[str, object]]]:
    at = "2026-01-0{} 02:00:00.000000".format
    rows = [
        {
            "id": content_id(payload.encode()),
            "data": payload.encode(),
            "at": at(1 + number),
            "state": state,
            "project": project,
            "number": external_id,
            "note": note,
            "short": f"p{number}",
            "priority": number / 10,
            "night": number // 4,
            "sent": None if external_id is None else at(8),
        }
        for number, (payload, (state, project, external_id, note)) in enumerate(
            BEFORE_CAMPAIGNS.items()
        )
    ]
    sample = {row["data"]: row["id"] for row in rows}
    given = [
        {"id": f"a{number}", "sample": sample[data], "by": by, "deleted": deleted, "skip": skip}
        for number, (data, by, deleted, skip) in enumerate(
            [
                (b"answered", "1", None, False),
                (b"answered", "2", at(9), False),
                (b"answered twice", "1", None, False),
                (b"answered twice", "2", None, False),
                (b"with people", "1", None, True),
            ]
        )
    ]
    batches = [{"id": f"batch {night}", "night": night, "at": at(1 + night)} for night in (0, 1)]
    return {
        "INSERT INTO samples VALUES (:id, 'text/plain', '{}', :id, 'train', :at)": rows,
        "INSERT INTO payloads VALUES (:id, :data)": rows,
        "INSERT INTO predictions (id, sample_id, answer, confidence, embedding, latency_ms, "
        "model_digest, created_at) VALUES (:short, :id, '\"a\"', 0.5, :data, 1, 'm', :at)": rows,
        "INSERT INTO batches (id, night, population, created_at) VALUES (:id, :night, 9, :at)": batches,
        "INSERT INTO choices VALUES (:id, 'batch ' || CAST(:night AS VARCHAR(9)), :short, "
        "'targeted', 'hard', :priority, NULL)": rows,
        "INSERT INTO labeling_tasks VALUES (:id, :project, :number, :state, :note, :sent)": rows,
        "INSERT INTO annotations VALUES (:id, :sample, :by, '\"b\"', :skip, NULL, :deleted, 3, "
        "'2026-01-09 02:00:00.000000', :settled)": [one | {"settled": True} for one in given],
        "INSERT INTO labels (sample_id, answer, reliability, num_annotations, source, created_at) "
        "VALUES (:sample, '\"b\"', 1, 1, 'annotators', '2026-01-09 02:00:00.000000')": given[:3:2],
        "INSERT INTO watermarks VALUES (:name, :seq)": [
            {"name": "label studio project 7", "seq": 1_767_924_000_000_000}
        ],
    }
