"""Answers a group of decoded requests: one forward pass, one prediction per request."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from flywheel import batches
from flywheel.errors import FlywheelError, PayloadError, UnavailableError
from flywheel.logs import about
from flywheel.model import Model
from flywheel.records import Answer, Array, Prediction, Sample
from flywheel.task import Task


@dataclass(kw_only=True, slots=True, eq=False)
class Question:
    """One request, decoded before its batch is answered."""

    id: str
    sample: Sample
    asked_at: datetime
    asked_seconds: float
    """of the monotonic clock"""
    task: Task | None = None
    """which decoded it; None: it is not decoded yet"""
    inputs: Any = None
    """output of `task.inputs` for this sample alone"""
    is_candidates: bool = False
    """a rollout lets the candidate answer it"""

    def decode(self, task: Task) -> None:
        """Decode the sample, unless this task has.

        Raises:
            PayloadError: the task does not accept it, or cannot read it.
        """
        if self.task is not task:
            with about(request_id=self.id):
                if task.accepts is not None:
                    task.accepts(self.sample)
                self.inputs = task.inputs([self.sample])
            self.task = task


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Answered:
    """A question with its prediction."""

    sample: Sample
    prediction: Prediction
    defer: bool
    """confidence below the threshold: the caller should use its fallback"""
    fault: str | None
    """what was not finite in the answer and was replaced; None: nothing"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Serving:
    """A model and its threshold; one object, so that both are swapped atomically."""

    model: Model
    threshold: float | None
    """confidence below which an answer defers; None: never"""
    loaded_at: datetime

    def defers(self, confidence: float) -> bool:
        """Whether an answer of this confidence defers."""
        return self.threshold is not None and confidence < self.threshold


def answer_together(serving: Serving, questions: Sequence[Question]) -> list[Answered]:
    """Return the answers of one model to decoded questions of equal shape, in order.

    Raises:
        TaskError: the task returned another number of answers, or one that is not JSON.
    """
    inputs = [question.inputs for question in questions]
    answers = serving.model.answer(batches.join(inputs))
    now = time.perf_counter()
    return [
        _answered(question, answer, serving, (now - question.asked_seconds) * 1e3)
        for question, answer in zip(questions, answers, strict=True)
    ]


def shape_of(question: Question) -> Hashable:
    """Return what must be equal within a batch; a trainer's model reads each sample by itself."""
    assert question.task is not None  # noqa: S101  it is decoded
    return question.id if question.task.trainer else batches.shape_of(question.inputs)


def answering_fault(error: BaseException) -> FlywheelError:
    """Return the error that each caller of a group raises when the model failed with `error`."""
    if isinstance(error, (UnavailableError, PayloadError)):
        return type(error)(str(error))
    return FlywheelError(
        f"The model failed on this batch: {error!r}. See the traceback in the server's log, "
        "or bring the previous model back with flywheel rollback."
    )


def finite(answer: Answer) -> tuple[float, Array, str | None]:
    """Return confidence, embedding and a description of what was not finite in them.

    A non-finite number sets the confidence to 0.0, so that the prediction is collected as a
    suspect.
    """
    embedding = np.asarray(answer.embedding, dtype=np.float32).reshape(-1)
    if not np.isfinite(answer.confidence):
        fault = f"confidence {answer.confidence} is not finite, stored as 0.0"
    elif not np.isfinite(embedding).all():
        fault = "embedding is not finite, stored as zeros with confidence 0.0"
    else:
        return float(answer.confidence), embedding, None
    return 0.0, np.nan_to_num(embedding, nan=0.0, posinf=0.0, neginf=0.0), fault


def _answered(question: Question, answer: Answer, serving: Serving, latency_ms: float) -> Answered:
    confidence, embedding, fault = finite(answer)
    prediction = Prediction(
        id=question.id,
        sample_id=question.sample.id,
        answer=answer.value,
        confidence=confidence,
        embedding=embedding,
        latency_ms=latency_ms,
        model_digest=serving.model.digest,
        created_at=question.asked_at,
    )
    defer = serving.defers(confidence)
    return Answered(sample=question.sample, prediction=prediction, defer=defer, fault=fault)
