"""What a model answers to a group of decoded requests: one forward pass, one prediction each."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import torch

from flywheel.errors import FlywheelError, TaskError, UnavailableError
from flywheel.model import Model
from flywheel.records import Answer, Array, Prediction, Sample, canonical


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


def answer_together(serving: Serving, questions: Sequence[Question]) -> list[Answered]:
    """The answers of one model to questions of one shape, in their order.

    Raises:
        TaskError: the task gave another number of answers, or one that is no JSON.
    """
    answers = serving.model.answer(torch.cat([question.inputs for question in questions]))
    if len(answers) != len(questions):
        raise TaskError(
            f"The task gave {len(answers)} answers to {len(questions)} samples. "
            "Let task.answers give one each, in order (flywheel check names the law)."
        )
    now = time.perf_counter()
    return [
        _answered(question, answer, serving, (now - question.asked_seconds) * 1e3)
        for question, answer in zip(questions, answers, strict=True)
    ]


def shape_of(question: Question) -> Hashable:
    """What inputs must have in common to be put together: shape and type."""
    return question.inputs.shape, question.inputs.dtype


def answering_fault(error: BaseException) -> FlywheelError:
    """The error that each caller of a group raises after its leader met `error`."""
    if isinstance(error, UnavailableError):
        return UnavailableError(str(error))
    return FlywheelError(
        f"The model failed on this batch: {error!r}. See the traceback in the server's log, "
        "or bring the previous model back with flywheel rollback."
    )


def finite(answer: Answer) -> tuple[float, Array, str | None]:
    """Confidence and embedding of an answer, and what was not finite in them.

    A number that is not finite makes the confidence 0.0, so that the prediction is certain to
    be collected as suspect.

    Raises:
        TaskError: the answer is no JSON.
    """
    try:
        canonical(answer.value)
    except (TypeError, ValueError) as error:
        raise TaskError(
            f"The answer {answer.value!r} is no JSON ({error}). "
            "Let task.answers return plain finite numbers, texts, lists and dicts."
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
    defer = serving.threshold is not None and confidence < serving.threshold
    return Answered(sample=question.sample, prediction=prediction, defer=defer, fault=fault)
