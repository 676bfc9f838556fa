"""The model server without its HTTP: answers, stores, and swaps the model that serves.

Every public method may be called from many threads at once. Clocks are read where requests
come in, and requests are not known here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import uuid4

from flywheel.blobs import Blobs
from flywheel.errors import FlywheelError, UnavailableError
from flywheel.ledger import Ledger
from flywheel.ledger.feedback import append_feedback, feedback_id
from flywheel.ledger.predictions import Logged, get_prediction
from flywheel.logs import about
from flywheel.project import Project
from flywheel.records import Feedback, FeedbackKind, Json, Sample
from flywheel.serve.answers import NO_MODEL, Answered, Batcher, Question, Serving
from flywheel.serve.log import PredictionLog, durably
from flywheel.serve.metrics import Meter
from flywheel.serve.models import Shelf
from flywheel.serve.notify import HardSamples
from flywheel.splits import group_of, split_of
from flywheel.task import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """The model that serves now."""

    digest: str
    threshold: float | None
    """confidence below which its answers say defer; None: never"""
    release: int | None
    """number of the release that names both; None while it only tries out"""
    loaded_at: datetime


class Host:
    """Serves one project's model.

    With `durable=False` nothing is stored; only the benchmark wants that.
    """

    def __init__(
        self,
        project: Project,
        task: Task,
        ledger: Ledger,
        blobs: Blobs,
        *,
        on_hard_samples: Callable[[int], None] | None = None,
        durable: bool = True,
    ) -> None:
        self.project = project
        self.shelf = Shelf(task, ledger, blobs, project.train.device)
        self.meter = Meter()
        self._task, self._ledger = task, ledger
        self._durable = durable
        self._log = PredictionLog(ledger, blobs, self._place)
        self._batcher = Batcher(project.serve.max_batch, self._store)
        self._hard = on_hard_samples and HardSamples(
            on_hard_samples,
            low_confidence=project.collect.low_confidence,
            every=project.collect.hard_samples,
        )
        self._swapping = threading.Lock()

    def start(self, now: datetime) -> None:
        """Load the current release; without one the server starts with no model.

        Raises:
            UnknownIdError: the weights of the release are gone.
            TaskError: they belong to another network.
        """
        release = self.shelf.release()
        if release is not None:
            self.activate(release.checkpoint_digest, release.threshold, now)

    def predict(self, sample: Sample, now: datetime) -> Answered:
        """Answer one sample; when this returns, payload and prediction are stored durably.

        Raises:
            PayloadError: the task cannot read the sample.
            UnavailableError: no model is released yet, or the prediction could not be stored.
            FlywheelError: the model failed.
        """
        if self._batcher.serving is None:
            raise UnavailableError(NO_MODEL)
        request_id = uuid4().hex
        with about(request_id=request_id):
            return self._batcher.answer(
                Question(
                    id=request_id,
                    sample=sample,
                    inputs=self._task.inputs([sample]),
                    asked_at=now,
                    asked_seconds=time.perf_counter(),
                )
            )

    def feedback(self, request_id: str, kind: FeedbackKind, value: Json, now: datetime) -> Feedback:
        """Store feedback durably, once however often it comes.

        Raises:
            UnknownIdError: no prediction has the request id.
            UnavailableError: it could not be stored.
        """
        entry = Feedback(
            id=feedback_id(request_id, kind, value),
            prediction_id=request_id,
            kind=kind,
            value=value,
            created_at=now,
        )
        with durably(self._ledger) as connection:
            get_prediction(connection, request_id)
            append_feedback(connection, [entry])
        self.meter.feedback(kind.value)
        return entry

    def activate(self, digest: str, threshold: float | None, now: datetime) -> None:
        """Load weights beside the serving ones, then serve them with their threshold.

        Raises:
            UnknownIdError: no weights of that digest; what served goes on serving.
            TaskError: they belong to another network; what served goes on serving.
        """
        with self._swapping:
            serving = self._batcher.serving
            if serving is None or serving.model.digest != digest:
                model = self.shelf.load(digest)
                self._batcher.serving = Serving(model=model, threshold=threshold, loaded_at=now)
            elif serving.threshold != threshold:
                self._batcher.serving = replace(serving, threshold=threshold)

    def served(self) -> Served | None:
        """The model that serves now, None when there is none."""
        serving = self._batcher.serving
        if serving is None:
            return None
        both = (serving.model.digest, serving.threshold)
        release = self.shelf.release()
        is_released = release is not None and (release.checkpoint_digest, release.threshold) == both
        return Served(
            digest=serving.model.digest,
            threshold=serving.threshold,
            release=release.number if release is not None and is_released else None,
            loaded_at=serving.loaded_at,
        )

    @property
    def digest(self) -> str | None:
        """Digest of the model that serves now; never waits."""
        serving = self._batcher.serving
        return None if serving is None else serving.model.digest

    def close(self) -> None:
        """Wait for what runs beside the requests; call it when no request is inside."""
        if self._hard:
            self._hard.close()

    def _store(self, batch: Sequence[Answered]) -> None:
        if self._durable:
            self._write(batch)
        if self._hard:
            self._hard.stored(answered.prediction.confidence for answered in batch)

    def _write(self, batch: Sequence[Answered]) -> None:
        try:
            self._log.write(batch)
        except FlywheelError:
            self.meter.failed(batch)
            raise
        self.meter.stored(batch)

    def _place(self, answered: Answered) -> Logged:
        sample, dataset = answered.sample, self.project.dataset
        group = group_of(sample.metadata, sample.id, dataset.group)
        split = split_of(self.project.name, group, dataset.test_groups)
        return Logged(sample=sample, group=group, split=split, prediction=answered.prediction)
