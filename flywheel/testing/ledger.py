"""Writes a past into a ledger, deed by deed: what production, annotators and nights leave there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sqlalchemy import Connection

from flywheel.blobs import Blobs
from flywheel.ledger import Ledger
from flywheel.ledger.annotations import Returned, save_annotations
from flywheel.ledger.batches import add_batch
from flywheel.ledger.campaigns import (
    EVERYONE,
    all_campaigns,
    audience_of,
    begin_campaign,
    found_project,
)
from flywheel.ledger.codec import to_json
from flywheel.ledger.datasets import add_labels, add_version, latest_version, write_manifest
from flywheel.ledger.failures import add_failures, move_failures
from flywheel.ledger.judged import add_decision, add_report, open_challenge
from flywheel.ledger.nights import FinishedStep, finish_night, finish_step, open_night
from flywheel.ledger.outbox import Asked, Planned, enqueue, mark_sent, plan, update_by_key
from flywheel.ledger.predictions import Logged, append_feedback, append_predictions, feedback_id
from flywheel.ledger.releases import add_checkpoint, add_release
from flywheel.records import (
    ANNOTATORS,
    Annotation,
    Answer,
    Batch,
    Challenge,
    Checkpoint,
    Choice,
    DatasetRow,
    DatasetVersion,
    Decision,
    Failure,
    FailureState,
    Feedback,
    FeedbackKind,
    Json,
    Label,
    Prediction,
    Purpose,
    Release,
    Report,
    Sample,
    Signal,
    Split,
    content_id,
)

UNSURE = Signal(name="low_confidence", strength=0.5)


class LedgerBuilder:
    """Writes through the ledger's own functions, so that its rows are those of the product.

    Each method is one deed, in a transaction of its own, and returns what it stored. A test passes
    only what matters to it. Ids count up and the clock stands still until `now` is set, so that
    the same calls give the same rows:

    ```python
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from flywheel.collect import collect
    from flywheel.ledger import Ledger
    from flywheel.records import FeedbackKind
    from flywheel.testing import LedgerBuilder, choice_of

    with TemporaryDirectory() as folder:
        past = LedgerBuilder(Ledger.open(f"sqlite:///{folder}/ledger.db"))
        sure, unsure = past.predict(0.9, 0.3)
        past.feedback(sure, FeedbackKind.OUTCOME, value=False)
        assert collect(past.ledger, 0.7, 0, past.now).num_failures == 2

        with past.at_once():  # one transaction: a long past is written quickly
            past.batch([choice_of(unsure)])
            past.send([unsure.sample_id])
            past.answer(unsure.sample_id, "ada", answer="dog")
            past.label([unsure.sample_id], answer="dog")
        past.ledger.close()
    ```
    """

    def __init__(self, ledger: Ledger, blobs: Blobs | None = None) -> None:
        self.ledger, self.blobs = ledger, blobs
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self._num_predictions = self._count = 0
        self._places: dict[tuple[str, Purpose], str] = {}
        self._given: dict[tuple[str, Purpose], dict[str, Returned]] = {}
        self._connection: Connection | None = None

    @contextmanager
    def at_once(self) -> Iterator[Connection]:
        """All deeds inside are one transaction."""
        if self._connection is not None:
            yield self._connection
            return
        with self.ledger.begin() as connection:
            self._connection = connection
            try:
                yield connection
            finally:
                self._connection = None

    # Production

    def predict(
        self,
        *confidences: float,
        split: Split = Split.TRAIN,
        sample: Sample | None = None,
        embedding: ArrayLike | None = None,
        group: str | None = None,
        **changes: Any,
    ) -> list[Prediction]:
        """Store one prediction for each confidence, of new samples unless one is given."""
        first = self._num_predictions
        self._num_predictions += len(confidences)
        samples, answers, ids = list[Sample](), list[Answer](), list[str]()
        for number, confidence in enumerate(confidences, start=first):
            place = np.random.default_rng(number).normal(size=2) if embedding is None else embedding
            where = np.asarray(place, dtype=np.float32)
            samples.append(sample or Sample.of(f"payload {number}".encode(), "text/plain"))
            answers.append(Answer(value="cat", confidence=confidence, embedding=where))
            ids.append(f"p{number}")
        return self.serve(samples, answers, ids, split=split, group=group, **changes)

    def serve(
        self,
        samples: Sequence[Sample],
        answers: Sequence[Answer],
        ids: Sequence[str] = (),
        *,
        split: Split = Split.TRAIN,
        group: str | None = None,
        **changes: Any,
    ) -> list[Prediction]:
        """Store a model's answers to samples; without ids, these are the beginnings of the samples' own."""
        logged = []
        names = ids or [sample.id[:32] for sample in samples]
        for sample, answer, name in zip(samples, answers, names, strict=True):
            fields = {
                "id": name,
                "sample_id": sample.id,
                "answer": answer.value,
                "confidence": answer.confidence,
                "embedding": answer.embedding,
                "latency_ms": 1.0,
                "model_digest": "d" * 64,
                "created_at": self.now,
            }
            made = Prediction(**(fields | changes))
            logged.append(
                Logged(sample=sample, group=group or sample.id, split=split, prediction=made)
            )
        with self.at_once() as connection:
            append_predictions(connection, logged)
        return [entry.prediction for entry in logged]

    def feedback(
        self, prediction: Prediction, kind: FeedbackKind, value: Json, source: str = ""
    ) -> Feedback:
        """Store feedback on a prediction."""
        given = Feedback(
            id=feedback_id(prediction.id, kind, value),
            prediction_id=prediction.id,
            kind=kind,
            value=value,
            source=source,
            created_at=self.now,
        )
        with self.at_once() as connection:
            append_feedback(connection, [given])
        return given

    # Failures and batches

    def fail(
        self, predictions: Iterable[Prediction], *signals: Signal, night: int = 0
    ) -> list[Failure]:
        """Store that samples are failures that were seen, for these signals."""
        found = [
            Failure(
                sample_id=one.sample_id,
                prediction_id=one.id,
                signals=signals or (UNSURE,),
                state=FailureState.SEEN,
                created_at=self.now,
            )
            for one in predictions
        ]
        with self.at_once() as connection:
            add_failures(connection, found, night, self.now)
        return found

    def move(self, sample_ids: Iterable[str], state: FailureState, night: int = 0) -> None:
        """Move failures to a state."""
        with self.at_once() as connection:
            move_failures(connection, list(sample_ids), state, night, self.now)

    def batch(self, choices: Iterable[Choice], **changes: Any) -> Batch:
        """Store a batch, whose samples wait to be sent."""
        chosen = tuple(choices)
        self._count += 1
        fields: dict[str, Any] = {
            "id": f"batch {self._count}",
            "choices": chosen,
            "night": 0,
            "population": len(chosen),
            "created_at": self.now,
        }
        made = Batch(**(fields | changes))
        with self.at_once() as connection:
            add_batch(connection, made)
        return made

    # Annotators

    def ask(
        self,
        samples: Iterable[str] | int,
        *,
        num_annotators: int = 1,
        purpose: Purpose = Purpose.CHOICE,
        night: int = 0,
        shown: bool = True,
        sent: bool = True,
    ) -> list[str]:
        """Ask so many annotators each about samples, or about so many new ones; their ids."""
        if isinstance(samples, int):
            samples = [prediction.sample_id for prediction in self.predict(*[0.5] * samples)]
        samples = list(samples)
        asked = [
            Asked(sample_id=one, purpose=purpose, num_annotators=num_annotators, priority=0.5)
            for one in samples
        ]
        with self.at_once() as connection:
            enqueue(connection, asked, night, self.now)
        if sent:
            self.send(samples, purpose, shown=shown)
        return samples

    def send(
        self,
        sample_ids: Iterable[str],
        purpose: Purpose = Purpose.CHOICE,
        *,
        shown: bool = True,
        first: int | None = None,
    ) -> None:
        """Send what waits to the campaign of its audience; the labeling tasks are numbered on."""
        with self.at_once() as connection:
            audience = audience_of(purpose)
            known = {found.audience: found.id for found in all_campaigns(connection)}
            campaign = known.get(audience) or self.campaign(f"toy {audience}", audience=audience)
            numbers = {}
            for place, sample_id in enumerate(sample_ids):
                self._count += 1
                number = self._count if first is None else first + place
                is_choice = purpose is Purpose.CHOICE
                key = sample_id if is_choice else content_id(f"{purpose}/{sample_id}".encode())
                plan(connection, {(sample_id, purpose): Planned(campaign, key, shown)})
                numbers[key] = number
                self._places[sample_id, purpose] = f"{campaign}/{number}"
            mark_sent(connection, numbers, {}, {}, self.now)

    def campaign(self, title: str, project: int | None = None, audience: str = EVERYONE) -> int:
        """Open a campaign in a project of Label Studio; its number."""
        with self.at_once() as connection:
            begun = begin_campaign(connection, audience, title, self.now).id
            found_project(connection, begun, 70 + begun if project is None else project)
        return begun

    def answer(
        self,
        sample_id: str,
        annotator: str,
        seconds: float | None = 30.0,
        *,
        refused: str | None = None,
        **changes: Any,
    ) -> str:
        """Store an annotator's answer and return its id; `changes` are fields of the annotation."""
        self._count += 1
        fields: dict[str, Any] = {
            "id": f"annotation {self._count}",
            "sample_id": sample_id,
            "annotator": annotator,
            "answer": None if refused or changes.get("skipped") else "cat",
            "skipped": False,
            "lead_time_seconds": seconds,
            "updated_at": self.now + timedelta(seconds=self._count),
        }
        given = Annotation(**(fields | changes))
        place = self._places[sample_id, given.purpose]
        there = self._given.setdefault((sample_id, given.purpose), {})
        there[given.id] = Returned(annotation=given, refused=refused, labeling_task=place)
        self._save(sample_id, given.purpose)
        return given.id

    def remove(self, sample_id: str, name: str, purpose: Purpose = Purpose.CHOICE) -> None:
        """Delete an annotation by its id."""
        del self._given[sample_id, purpose][name]
        self._save(sample_id, purpose)

    def _save(self, sample_id: str, purpose: Purpose) -> None:
        place = self._places[sample_id, purpose]
        there = list(self._given[sample_id, purpose].values())
        with self.at_once() as connection:
            save_annotations(connection, {place: (sample_id, purpose, there)}, self.now)

    def finish(self, sample_ids: Iterable[str]) -> None:
        """The labeling tasks of choices have all their answers."""
        with self.at_once() as connection:
            update_by_key(connection, {"state": "done"}, dict.fromkeys(sample_ids))

    def label(self, samples: Iterable[str], reliability: float = 0.9, **changes: Any) -> None:
        """Store the consensus on samples; an answer of None withdraws it."""
        fields: dict[str, Any] = {"answer": "cat", "num_annotations": 1, "source": ANNOTATORS}
        made = [
            Label(sample_id=sample_id, reliability=reliability, **(fields | changes))
            for sample_id in samples
        ]
        with self.at_once() as connection:
            add_labels(connection, made, self.now)

    # Nights

    def night(self, started_at: datetime | None = None) -> int:
        """Begin a night, or go on with the one that is not finished; its number."""
        with self.at_once() as connection:
            return open_night(connection, started_at or self.now).number

    def step(self, night: int, name: str, result: Any, seconds: float = 1.5) -> Any:
        """Store that a step of a night is done; its result."""
        done = FinishedStep(name, to_json(result), seconds)
        with self.at_once() as connection:
            finish_step(connection, night, done, self.now)
        return result

    def end(self, night: int) -> None:
        """Finish a night."""
        with self.at_once() as connection:
            finish_night(connection, night, self.now)

    def version(self, rows: Sequence[DatasetRow] = (), **changes: Any) -> DatasetVersion:
        """Store a dataset version of rows; its parent is the newest before it."""
        manifest = write_manifest(rows)
        tests = [row for row in rows if row.split is Split.TEST]
        num_start = sum(row.origin == "start" for row in tests)
        with self.at_once() as connection:
            parent = latest_version(connection)
            fields: dict[str, Any] = {
                "id": self.blobs.put(manifest) if self.blobs else content_id(manifest),
                "parent_id": parent and parent.id,
                "num_train": len(rows) - len(tests),
                "num_test": len(tests) - num_start,
                "num_start_test": num_start,
                "train_set_digest": content_id(b"train"),
                "test_set_digest": content_id(b"test"),
                "created_at": self.now,
            }
            made = DatasetVersion(**(fields | changes))
            add_version(connection, made)
        return made

    def store(self, *records: Checkpoint | Report | Decision | DatasetVersion) -> None:
        """Store what was trained, measured and decided, as it is."""
        adds: dict[type, Callable[..., None]] = {
            Checkpoint: add_checkpoint,
            Report: add_report,
            Decision: add_decision,
            DatasetVersion: add_version,
        }
        with self.at_once() as connection:
            for record in records:
                adds[type(record)](connection, record)

    def challenge(self, challenge: Challenge, seen: Iterable[str] = (), night: int = 0) -> None:
        """Open a challenge, which sees the labels of these samples."""
        with self.at_once() as connection:
            open_challenge(connection, challenge, seen, night)

    def release(self, digest: str, reason: str = "a decision") -> Release:
        """Release the model of a stored checkpoint."""
        with self.at_once() as connection:
            return add_release(connection, digest, reason, self.now)
