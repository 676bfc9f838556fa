"""Builds a history in a ledger through the ledger's own functions: predictions, questions, answers.

A test passes only what matters to it. Ids count up and the clock does not run, so that the same
calls give the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sqlalchemy import Connection

from flywheel.ledger import Ledger
from flywheel.ledger.annotations import Returned, save_annotations
from flywheel.ledger.campaigns import all_campaigns, begin_campaign, found_project
from flywheel.ledger.datasets import add_labels
from flywheel.ledger.outbox import Asked, Planned, enqueue, mark_sent, plan
from flywheel.ledger.predictions import Logged, append_feedback, append_predictions, feedback_id
from flywheel.records import (
    Annotation,
    Feedback,
    FeedbackKind,
    Json,
    Label,
    Prediction,
    Purpose,
    Sample,
    Split,
    content_id,
)


class Production:
    """Stores predictions and feedback as a model server would, directly in a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self._count = 0

    def predict(
        self,
        *confidences: float,
        split: Split = Split.TRAIN,
        sample: Sample | None = None,
        embedding: ArrayLike | None = None,
        group: str | None = None,
    ) -> list[Prediction]:
        """Store one prediction for each confidence, of new samples unless one is given."""
        logged = [self._logged(value, split, sample, embedding, group) for value in confidences]
        with self.ledger.begin() as connection:
            append_predictions(connection, logged)
        return [entry.prediction for entry in logged]

    def say(self, prediction: Prediction, kind: FeedbackKind, value: Json) -> None:
        """Store feedback on a prediction."""
        entry = Feedback(
            id=feedback_id(prediction.id, kind, value),
            prediction_id=prediction.id,
            kind=kind,
            value=value,
            created_at=self.now,
        )
        with self.ledger.begin() as connection:
            append_feedback(connection, [entry])

    def _logged(
        self,
        confidence: float,
        split: Split,
        sample: Sample | None,
        embedding: ArrayLike | None,
        group: str | None,
    ) -> Logged:
        number, self._count = self._count, self._count + 1
        sample = sample or Sample.of(f"payload {number}".encode(), "text/plain")
        place = np.random.default_rng(number).normal(size=2) if embedding is None else embedding
        prediction = Prediction(
            id=f"p{number}",
            sample_id=sample.id,
            answer="cat",
            confidence=confidence,
            embedding=np.asarray(place, dtype=np.float32),
            latency_ms=1.0,
            model_digest="d" * 64,
            created_at=self.now,
        )
        return Logged(sample=sample, group=group or sample.id, split=split, prediction=prediction)


class Annotators:
    """Stores questions and answers directly in a ledger, in one campaign for each audience."""

    def __init__(self, production: Production) -> None:
        self.ledger = production.ledger
        self.production = production
        self.now = production.now
        self._count = 0
        self._places: dict[tuple[str, Purpose], str] = {}
        self._given: dict[str, dict[str, Returned]] = {}

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
            predictions = self.production.predict(*[0.5] * samples)
            samples = [prediction.sample_id for prediction in predictions]
        samples = list(samples)
        asked = [
            Asked(sample_id=one, purpose=purpose, num_annotators=num_annotators, priority=0.5)
            for one in samples
        ]
        with self.ledger.begin() as connection:
            enqueue(connection, asked, night, self.now)
            if sent:
                self._send(connection, samples, purpose, shown=shown)
        return samples

    def _send(
        self, connection: Connection, samples: Iterable[str], purpose: Purpose, *, shown: bool
    ) -> None:
        audience = "experts" if purpose is Purpose.REVIEW else "everyone"
        known = {found.audience: found.id for found in all_campaigns(connection)}
        campaign = known.get(audience)
        if campaign is None:
            campaign = begin_campaign(connection, audience, f"toy {audience}", self.now).id
            found_project(connection, campaign, 70 + campaign)
        numbers = {}
        for sample_id in samples:
            self._count += 1
            key = content_id(f"{campaign}/{purpose}/{sample_id}".encode())
            plan(connection, {(sample_id, purpose): Planned(campaign, key, shown)})
            numbers[key] = self._count
            self._places[sample_id, purpose] = f"{campaign}/{self._count}"
        mark_sent(connection, numbers, {}, {}, self.now)

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
        there = self._given.setdefault(place, {})
        there[given.id] = Returned(annotation=given, refused=refused, labeling_task=place)
        self._save(place, sample_id, given.purpose)
        return given.id

    def remove(self, sample_id: str, name: str, purpose: Purpose = Purpose.CHOICE) -> None:
        """Delete an annotation by its id."""
        place = self._places[sample_id, purpose]
        del self._given[place][name]
        self._save(place, sample_id, purpose)

    def _save(self, place: str, sample_id: str, purpose: Purpose) -> None:
        with self.ledger.begin() as connection:
            there = list(self._given[place].values())
            save_annotations(connection, {place: (sample_id, purpose, there)}, self.now)

    def label(
        self,
        samples: Iterable[str],
        reliability: float = 0.9,
        answer: Json = "cat",
        source: str = "annotators",
    ) -> None:
        """Store the consensus on samples; an answer of None withdraws it."""
        made = [
            Label(
                sample_id=sample_id,
                answer=answer,
                reliability=reliability,
                num_annotations=1,
                source=source,
            )
            for sample_id in samples
        ]
        with self.ledger.begin() as connection:
            add_labels(connection, made, self.now)
