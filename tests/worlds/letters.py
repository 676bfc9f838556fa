"""A small project about letters, whose samples wait to be labeled; no model is needed for it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image
from sqlalchemy import Row, func, select

from flywheel.blobs import Blobs
from flywheel.errors import AnnotationError, PayloadError
from flywheel.ledger import Ledger
from flywheel.ledger.samples import load_samples
from flywheel.ledger.tables import labeling_tasks, labels, skips
from flywheel.project import Project
from flywheel.records import Answer, FailureState, Json, Media, Purpose, Sample, Signal
from flywheel.task import Labeling, Task
from flywheel.testing import LedgerBuilder, choice_of

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


def _data(sample: Sample) -> dict[str, Media]:
    if sample.payload.startswith(b"broken"):
        raise PayloadError(f"sample {sample.id[:12]} starts with b'broken'; send a letter")
    buffer = io.BytesIO()
    Image.new("L", (16, 16), sample.payload[-1]).save(buffer, "PNG")
    return {"image": Media(buffer.getvalue(), "image/png")}


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

    past: LedgerBuilder
    ledger: Ledger
    blobs: Blobs
    task: Task
    project: Project

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
        place = np.zeros(2, dtype=np.float32)
        answers = [Answer(value=answer, confidence=0.6, embedding=place) for _ in samples]
        ids = [sample.id for sample in samples]
        with self.past.at_once():
            made = self.past.serve(samples, answers, model_digest=digest)
            self.past.fail(made, Signal(name="low_confidence", strength=0.7))
            self.past.move(ids, FailureState.QUEUED)
            fields = {"reason": "low_confidence 0.70", "num_annotators": num_annotators}
            choices = [
                choice_of(one, priority=1.0 - place / len(ids), **fields)
                for place, one in enumerate(made)
            ]
            self.past.batch(choices, population=10)
        return ids

    def samples(self, sample_ids: list[str]) -> list[Sample]:
        with self.ledger.read() as connection:
            return load_samples(connection, self.blobs, sample_ids)

    def ask(self, sample_ids: list[str], purpose: Purpose, num_annotators: int = 1) -> None:
        """Let samples that are there wait for people for another purpose."""
        more = {"purpose": purpose, "num_annotators": num_annotators}
        self.past.ask(sample_ids, sent=False, **more)

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


def open_letters(folder: Path) -> Letters:
    """The project in a folder, made when it is not there."""
    ledger = Ledger.open(f"sqlite:///{folder}/ledger.db")
    labeling = Labeling(config=CONFIG, data=_data, result=_result, answer=_answer)
    unused = dict.fromkeys(("model", "inputs", "targets", "loss", "answers", "scores"), _not_needed)
    identity = {
        "name": f"letters-{folder.name[-20:].strip('-_').replace('_', '-')}",
        "task": "t:t",
    }
    past = LedgerBuilder(ledger)
    past.now = NOW
    letters = Letters(
        past=past,
        ledger=ledger,
        blobs=Blobs.open(str(folder / "blobs")),
        task=Task(**unused, labeling=labeling),
        project=Project(directory=folder, project=identity),
    )
    letters.change()  # nobody is asked blind, unless a test wants it
    return letters
