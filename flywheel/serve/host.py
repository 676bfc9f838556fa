"""The model server without HTTP: answers requests, stores predictions, swaps the model.

All public methods are thread-safe. Times are arguments; the routes read the clock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import select

from flywheel.artifact import load_model
from flywheel.blobs import Blobs
from flywheel.errors import (
    DamagedError,
    FlywheelError,
    PayloadError,
    TaskError,
    UnavailableError,
    UnknownIdError,
)
from flywheel.ledger import Ledger
from flywheel.ledger.engine import project_id
from flywheel.ledger.predictions import Logged, append_feedback, feedback_id, get_prediction
from flywheel.ledger.releases import current_release, release_history
from flywheel.ledger.rollouts import running_rollout
from flywheel.ledger.samples import group_of, load_samples, split_of
from flywheel.ledger.segments import Entry, log_folder
from flywheel.ledger.tables import predictions
from flywheel.model import Model, pick_device
from flywheel.project import Project
from flywheel.records import Feedback, FeedbackKind, Json, Prediction, Release, Sample
from flywheel.serve.answers import (
    Answered,
    Question,
    Serving,
    answering_fault,
    finite,
)
from flywheel.serve.asking import Asking
from flywheel.serve.batching import Batches
from flywheel.serve.events import Debouncer
from flywheel.serve.log import PredictionLog, durably
from flywheel.serve.metrics import Meter
from flywheel.serve.requests import CanaryAnswer
from flywheel.serve.rollout import Rollouts
from flywheel.task import Task

_LOGGER = logging.getLogger(__name__)
_CANNOT_SERVE = (UnknownIdError, DamagedError, TaskError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """The model that serves now."""

    digest: str
    threshold: float | None
    """confidence below which its answers defer; None: never"""
    release: int | None
    """number of the release with this model and threshold; None: not released yet"""
    loaded_at: datetime
    note: str
    """what is worth knowing of its code"""


class Host:
    """Serves the model of one project; counts hard samples if a debouncer is given."""

    def __init__(
        self,
        project: Project,
        task: Task,
        ledger: Ledger,
        blobs: Blobs,
        *,
        hard_samples: Debouncer | None = None,
    ) -> None:
        self.project = project
        with ledger.read() as connection:
            self.id = project_id(connection)
        self.meter = Meter()
        self._task, self._ledger, self._blobs = task, ledger, blobs
        self._device = pick_device(project.train.device)
        self._serving: Serving | None = None
        self.fault: str | None = None
        """why an earlier release serves, or none; None: the current one does"""
        self._swapping = threading.Lock()
        self._log = PredictionLog(ledger, blobs, log_folder(project))
        self._rollouts = Rollouts(ledger, load=self._load, serve=self._swap)
        self._asking = Asking(self._current, self._rollouts)
        self._batches = Batches[Question, Answered](
            self._asking.answer, self._finish, fault=answering_fault, most=project.serve.max_batch
        )
        self._hard_samples = hard_samples

    def flush(self) -> None:
        """Take what waits in the log into the ledger, before it is asked about what has just come.

        Raises:
            UnavailableError: the ledger cannot be written.
        """
        self._log.flush()

    def close(self) -> None:
        """Answer what waits, take the log into the ledger, and end all threads."""
        self._rollouts.close()
        self._batches.close()
        self._asking.close()
        self._log.close()

    def start(self, now: datetime) -> None:
        """Load the current release; without one the server starts without a model.

        If its weights are missing or damaged, or do not answer as they did when they were made,
        the newest earlier release that does serves. If none does, no model serves, and `fault` and
        every answer say why.
        """
        release = self._release()
        if release is None or self.project.is_external:
            return
        try:
            self.activate(release.checkpoint_digest, release.threshold, now)
        except _CANNOT_SERVE as error:
            instead = self._start_earlier(release, now)
            serves = f"release {instead.number} serves in its place" if instead else "none serves"
            self.fault = (
                f"Release {release.number} cannot be loaded, and {serves}: {error}. Restore the "
                "file from a back-up or undo the change, then restart; or run flywheel rollback."
            )
            _LOGGER.critical("%s", self.fault)

    def follow_rollouts(self, now: datetime) -> None:
        """Follow rollouts, if the project wants any or one is under way."""
        wanted = self.project.release
        with self._ledger.read() as connection:
            is_under_way = running_rollout(connection) is not None
        if wanted.shadow or wanted.canary or is_under_way:
            with suppress(FlywheelError):
                self._rollouts.step(now)
            self._rollouts.start()

    def _swap(self, serving: Serving) -> Serving | None:
        """Serve a model that is loaded already; return what served before."""
        with self._swapping:
            before, self._serving = self._serving, serving
            self.fault = None
        return before

    def _start_earlier(self, damaged: Release, now: datetime) -> Release | None:
        """Serve the newest earlier release that can be loaded; None when there is none."""
        with self._ledger.read() as connection:
            earlier = release_history(connection)
        tried = {damaged.checkpoint_digest}
        for release in reversed(earlier):
            if release.checkpoint_digest not in tried:
                tried.add(release.checkpoint_digest)
                with suppress(*_CANNOT_SERVE):
                    self.activate(release.checkpoint_digest, release.threshold, now)
                    return release
        return None

    async def predict(
        self, sample: Sample, now: datetime, *, request_id: str = "", caller: str = ""
    ) -> Answered:
        """Answer one sample; on return, payload and prediction are stored durably.

        A rollout answers each `caller` with one model; without one, each group of samples.

        Raises:
            PayloadError: the task cannot read the sample.
            UnavailableError: no model is released yet, or the prediction could not be stored.
            FlywheelError: the model failed.
        """
        task = self._current().model.task
        question = Question(
            id=request_id or uuid4().hex,
            sample=sample,
            asked_at=now,
            asked_seconds=time.perf_counter(),
        )
        live = self._rollouts.live
        if live is not None and live.rollout.now.kind == "canary":
            if not caller:
                self._rollouts.count("no key")
                caller = group_of(sample.metadata, sample.id, self.project.dataset.group)
            question.is_candidates = live.takes(caller)
            task = live.serving.model.task if question.is_candidates else task
        await self._asking.decode(task, question)
        return await self._batches.ask(question)

    def answered_again(self, sample: Sample, prediction: Prediction) -> Answered:
        """Return a prediction that was stored earlier, as it would be answered now."""
        defer = self._current().defers(prediction.confidence)
        return Answered(sample=sample, prediction=prediction, defer=defer, fault=None)

    def feedback(
        self, request_id: str, kind: FeedbackKind, value: Json, now: datetime, *, source: str = ""
    ) -> Feedback:
        """Store feedback durably and idempotently.

        Raises:
            UnknownIdError: no prediction has the request id.
            UnavailableError: it could not be stored.
        """
        entry = Feedback(
            id=feedback_id(request_id, kind, value),
            prediction_id=request_id,
            kind=kind,
            value=value,
            source=source,
            created_at=now,
        )
        try:
            self._append_feedback(entry)
        except UnknownIdError:
            self.flush()
            self._append_feedback(entry)
        self.meter.feedback(kind.value)
        return entry

    def activate(self, digest: str, threshold: float | None, now: datetime) -> None:
        """Load weights beside the serving ones, then serve them with their threshold.

        On an error the model that serves stays.

        Raises:
            UnknownIdError: there are no weights with this digest.
            TaskError: they do not answer as they did when they were made.
        """
        with self._swapping:
            serving = self._serving
            if serving is None or serving.model.digest != digest:
                model = self._load(digest)
                if model.is_then:
                    _LOGGER.warning("model %s: %s", digest[:12], model.note)
                self._serving = Serving(model=model, threshold=threshold, loaded_at=now)
            elif serving.threshold != threshold:
                self._serving = replace(serving, threshold=threshold)
            self.fault = None

    def canary(self, digest: str, sample_ids: Sequence[str]) -> list[CanaryAnswer]:
        """Return the answers of a model to stored samples, one at a time; store nothing.

        Raises:
            UnknownIdError: there are no weights with this digest, or no sample with an id.
            TaskError: the weights do not fit the task's network.
        """
        self.flush()
        with self._ledger.read() as connection:
            samples = load_samples(connection, self._blobs, sample_ids)
        serving = self._serving  # asked itself, so that a night sees what callers get
        is_served = serving is not None and serving.model.digest == digest
        model = serving.model if serving is not None and is_served else self._load(digest)
        return [_try_out(model, sample) for sample in samples]

    def served(self) -> Served | None:
        """Return the serving model; None: there is none."""
        serving = self._serving
        if serving is None:
            return None
        both = (serving.model.digest, serving.threshold)
        release = self._release()
        is_released = release is not None and (release.checkpoint_digest, release.threshold) == both
        return Served(
            digest=serving.model.digest,
            threshold=serving.threshold,
            release=release.number if release is not None and is_released else None,
            loaded_at=serving.loaded_at,
            note=serving.model.note,
        )

    @property
    def digest(self) -> str | None:
        """Digest of the serving model; never blocks."""
        serving = self._serving
        return None if serving is None else serving.model.digest

    def _current(self) -> Serving:
        serving = self._serving
        if serving is None and self.project.is_external:
            raise UnavailableError(
                "This project's models answer elsewhere ([serve] mode = 'external'). Ask your own "
                "server, and send its predictions to POST /predictions."
            )
        if serving is None:
            raise UnavailableError(
                self.fault or "No model is released yet. Train the first with flywheel night."
            )
        return serving

    def _append_feedback(self, entry: Feedback) -> None:
        with durably(self._ledger) as connection:
            get_prediction(connection, entry.prediction_id)
            append_feedback(connection, [entry])

    def _finish(self, found: Sequence[Answered | Exception]) -> Sequence[Answered | Exception]:
        """Store the answers of a batch; errors stay as they are."""
        batch = [one for one in found if isinstance(one, Answered)]
        if batch:
            self._store([self._place(answered) for answered in batch])
            self._count(batch)
            live = self._rollouts.live
            if live is not None:
                self._rollouts.note(live, batch)
        return found

    def _place(self, answered: Answered) -> Entry:
        """Return the log entry of a prediction, with group and split of its sample."""
        sample, dataset = answered.sample, self.project.dataset
        group = group_of(sample.metadata, sample.id, dataset.group)
        split = split_of(self.project.name, group, dataset.testing_groups)
        row = Logged(sample=sample, group=group, split=split, prediction=answered.prediction)
        return Entry(row=row, fault=answered.fault)

    def _store(self, entries: Sequence[Entry]) -> None:
        try:
            self._log.write(entries)
        except FlywheelError:
            self.meter.failed(len(entries))
            raise

    def _count(self, batch: Sequence[Answered]) -> None:
        self.meter.stored(batch)
        if self._hard_samples is not None:
            low = self.project.collect.low_confidence
            self._hard_samples.add(sum(answered.prediction.confidence < low for answered in batch))

    def _release(self) -> Release | None:
        with self._ledger.read() as connection:
            return current_release(connection)

    def _load(self, digest: str) -> Model:
        """Load a model and warm it up on the newest sample, if there is one."""
        model = load_model(self._ledger, self._blobs, self._task, digest, self._device)
        inputs = self._last_inputs(model.task)
        if inputs is not None:
            model.answer(inputs)
        return model

    def _last_inputs(self, task: Task) -> Any | None:
        query = select(predictions.c.sample_id).order_by(predictions.c.seq.desc()).limit(1)
        with self._ledger.read() as connection:
            sample_id = connection.execute(query).scalar()
            if sample_id is None:
                return None
            try:
                return task.inputs(load_samples(connection, self._blobs, [sample_id]))
            except (UnknownIdError, PayloadError):
                return None  # a missing payload must not prevent a release


def _try_out(model: Model, sample: Sample) -> CanaryAnswer:
    inputs = model.task.inputs([sample])
    start = time.perf_counter()
    (answer,) = model.answer(inputs)
    latency_ms = (time.perf_counter() - start) * 1e3
    confidence, _, _ = finite(answer)
    return CanaryAnswer(
        sample_id=sample.id, answer=answer.value, confidence=confidence, latency_ms=latency_ms
    )
