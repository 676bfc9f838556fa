"""Requests that wait at the same moment share one forward pass.

A batch is answered by one model from its first to its last sample: swapping the model is
replacing a reference between two batches. Where answers are stored is not known here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import torch

from flywheel.errors import FlywheelError, TaskError, UnavailableError
from flywheel.model import Model
from flywheel.records import Answer, Array, Prediction, Sample, canonical
from flywheel.serve.grouped import Grouped


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Question:
    """One decoded request."""

    id: str
    sample: Sample
    inputs: torch.Tensor
    """(1, ...), what `task.inputs` made of the sample"""
    asked_at: datetime
    asked_seconds: float
    """of the monotonic clock"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Answered:
    """A question with its prediction."""

    sample: Sample
    prediction: Prediction
    defer: bool
    """its confidence is below the threshold: the caller's fallback shall decide"""
    fault: str | None
    """what was not finite in the answer, and is stored otherwise"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Serving:
    """A model with its threshold; one object, so that no answer ever sees one without the other."""

    model: Model
    threshold: float | None
    """confidence below which an answer says defer; None: never"""
    loaded_at: datetime


class Batcher:
    """Answers questions in batches of at most `max_batch`; `finish` gets each batch first.

    `serving` may be replaced at any time.
    """

    def __init__(self, max_batch: int, finish: Callable[[Sequence[Answered]], None]) -> None:
        self.serving: Serving | None = None
        self._answer = Grouped[Question, Answered](
            self._answer_batch, finish=finish, fault=_fault, most=max_batch, alike=_shape
        )

    def answer(self, question: Question) -> Answered:
        """What the model says; waits for the batch that runs now, and not longer.

        Raises:
            UnavailableError: no model is there, or the prediction could not be stored.
            FlywheelError: the model failed on the batch.
        """
        return self._answer(question)

    def _answer_batch(self, questions: list[Question]) -> list[Answered]:
        serving = self.serving  # read once: the whole batch is this model's
        if serving is None:
            raise UnavailableError(NO_MODEL)
        answers = serving.model.answer(torch.cat([question.inputs for question in questions]))
        if len(answers) != len(questions):
            raise TaskError(
                f"the task gave {len(answers)} answers to {len(questions)} samples; "
                "task.answers must give one each, in order (flywheel check names the law)"
            )
        now = time.perf_counter()
        return [
            _answered(question, answer, serving, (now - question.asked_seconds) * 1e3)
            for question, answer in zip(questions, answers, strict=True)
        ]


NO_MODEL = "no model is released yet, so nothing can answer; run flywheel night to train the first"


def sound(answer: Answer) -> tuple[float, Array, str | None]:
    """Confidence, embedding and what was wrong: a number that is not finite makes it 0.0.

    With a confidence of 0.0 the prediction is sure to be collected as suspect.

    Raises:
        TaskError: the answer is no JSON.
    """
    try:
        canonical(answer.value)
    except (TypeError, ValueError) as error:
        raise TaskError(
            f"the answer {answer.value!r} is no JSON ({error}); "
            "make task.answers return plain finite numbers, texts, lists and dicts"
        ) from error
    embedding = np.asarray(answer.embedding, dtype=np.float32).reshape(-1)
    if not np.isfinite(answer.confidence):
        fault = f"confidence {answer.confidence} is not finite, stored as 0.0"
    elif not np.isfinite(embedding).all():
        fault = "embedding is not finite, stored as zeros with confidence 0.0"
    else:
        return float(answer.confidence), embedding, None
    return 0.0, np.nan_to_num(embedding, nan=0.0, posinf=0.0, neginf=0.0), fault


def _answered(question: Question, answer: Answer, serving: Serving, latency_ms: float) -> Answered:
    confidence, embedding, fault = sound(answer)
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
    defer = serving.threshold is not None and confidence < serving.threshold
    return Answered(sample=question.sample, prediction=prediction, defer=defer, fault=fault)


def _shape(question: Question) -> Hashable:
    """Only inputs of one shape and type can be put together."""
    return question.inputs.shape, question.inputs.dtype


def _fault(error: BaseException) -> FlywheelError:
    if isinstance(error, UnavailableError):
        return UnavailableError(str(error))
    return FlywheelError(
        f"the model failed on this batch: {error!r}; the server's log has the traceback, "
        "and flywheel rollback brings the previous model back"
    )
