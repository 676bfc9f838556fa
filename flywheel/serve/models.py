"""Brings models from the blobs into memory: the released one, a candidate, the next to serve.

A model is loaded beside the one that serves and tried before anything changes. When it
starts to serve is decided elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from sqlalchemy import select

from flywheel.blobs import Blobs
from flywheel.errors import PayloadError, UnknownIdError
from flywheel.ledger import Ledger
from flywheel.ledger.models import current_release
from flywheel.ledger.samples import load_samples
from flywheel.ledger.tables import predictions
from flywheel.model import Model, pick_device
from flywheel.records import Release, Sample
from flywheel.serve.answers import sound
from flywheel.serve.wire import CanaryAnswer
from flywheel.task import Task


class Shelf:
    """The models that can be taken down and loaded."""

    def __init__(self, task: Task, ledger: Ledger, blobs: Blobs, device: str) -> None:
        self._task, self._ledger, self._blobs = task, ledger, blobs
        self._device = pick_device(device)

    def release(self) -> Release | None:
        """The current release, as the ledger has it now."""
        with self._ledger.read() as connection:
            return current_release(connection)

    def load(self, digest: str) -> Model:
        """A model, warmed up on the sample seen last if there is one.

        Raises:
            UnknownIdError: no weights of that digest.
            TaskError: they belong to another network.
        """
        model = Model(self._task, self._blobs.get(digest), self._device)
        inputs = self._last_inputs()
        if inputs is not None:
            model.answer(inputs)
        return model

    def canary(self, digest: str, sample_ids: Sequence[str]) -> list[CanaryAnswer]:
        """What a model would say of stored samples, one at a time; nothing is kept.

        Raises:
            UnknownIdError: no weights of that digest, or no sample of an id.
            TaskError: the weights belong to another network.
        """
        with self._ledger.read() as connection:
            samples = load_samples(connection, self._blobs, sample_ids)
        model = self.load(digest)
        return [self._ask(model, sample) for sample in samples]

    def _ask(self, model: Model, sample: Sample) -> CanaryAnswer:
        inputs = self._task.inputs([sample])
        start = time.perf_counter()
        (answer,) = model.answer(inputs)
        latency_ms = (time.perf_counter() - start) * 1e3
        confidence, _, _ = sound(answer)
        return CanaryAnswer(
            sample_id=sample.id, answer=answer.value, confidence=confidence, latency_ms=latency_ms
        )

    def _last_inputs(self) -> torch.Tensor | None:
        query = select(predictions.c.sample_id).order_by(predictions.c.seq.desc()).limit(1)
        with self._ledger.read() as connection:
            sample_id = connection.execute(query).scalar()
            if sample_id is None:
                return None
            try:
                return self._task.inputs(load_samples(connection, self._blobs, [sample_id]))
            except (UnknownIdError, PayloadError):
                return None  # a payload that is gone must not keep a model from serving
