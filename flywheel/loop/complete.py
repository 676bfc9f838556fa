"""Completes predictions that a server of the user's own logged without a confidence or an embedding.

The champion answers their samples: its confidence is theirs where it agrees, and 1 minus it where
it does not, which is the most that it leaves to any other answer. The newest come first, and what
half an hour is not enough for waits for the next night.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from flywheel.artifact import load_model
from flywheel.collect import low_confidence_signals
from flywheel.errors import PayloadError, TaskError
from flywheel.ledger.failures import add_failures
from flywheel.ledger.intake import (
    Completed,
    Incomplete,
    complete,
    incomplete_ones,
    num_early,
    num_incomplete,
)
from flywheel.ledger.releases import current_release
from flywheel.ledger.samples import load_each
from flywheel.ledger.windows import watermark
from flywheel.logged import LoggedModel
from flywheel.loop.context import Loop, NightRun
from flywheel.model import Model, cpu_threads, pick_device
from flywheel.records import Answer, Array, Failure, FailureState, Sample
from flywheel.task import Task

_PIECE = 500
_MOST_SECONDS = 1_800.0


def complete_predictions(night: NightRun) -> str:
    """Compute what is missing, and note what stays so; "" when nothing does."""
    loop = night.loop
    with loop.ledger.read() as connection:
        number, release = num_incomplete(connection), current_release(connection)
    champion = None
    if number and release is not None:
        device = pick_device("cpu")
        found = load_model(loop.ledger, loop.blobs, loop.task, release.checkpoint_digest, device)
        champion = None if isinstance(found, LoggedModel) else found
    if number and (champion is not None or loop.task.embed is not None):
        with cpu_threads(loop.project.train.cpu_threads):
            _complete_all(night, champion)
    with loop.ledger.read() as connection:
        left, early = num_incomplete(connection), num_early(connection)
    notes = []
    if left:
        why = "see their samples" if champion is not None else "no champion can compute them"
        notes.append(f"{left:,} predictions have no confidence or embedding: {why}")
    if early:
        notes.append(f"{early:,} feedback waits for a prediction with its request id")
    return "; ".join(notes)


def _complete_all(night: NightRun, champion: Model | None) -> None:
    loop, ends, before = night.loop, time.monotonic() + _MOST_SECONDS, None
    while time.monotonic() < ends:
        with loop.ledger.read() as connection:
            piece = incomplete_ones(connection, _PIECE, before)
            samples, _ = load_each(connection, loop.blobs, [one.sample_id for one in piece])
        if not piece:
            return
        before = piece[-1].seq
        there = [one for one in piece if one.sample_id in samples]
        found = _computed(loop, champion, there, [samples[one.sample_id] for one in there])
        with loop.ledger.begin() as connection:
            complete(connection, found)
            read_upto = watermark(connection, "predictions collected")
            late = [pair for pair in found if pair[0].seq <= read_upto]
            add_failures(connection, _failures(loop, late), night.number, loop.now())


def _computed(
    loop: Loop, champion: Model | None, piece: Sequence[Incomplete], samples: Sequence[Sample]
) -> list[tuple[Incomplete, Completed]]:
    """What can be computed of each; a sample that cannot be read is left out."""
    if not piece:
        return []
    try:
        answers = [None] * len(piece) if champion is None else champion.answer_samples(samples)
        places = _places(loop.task, samples)
    except (PayloadError, TaskError):
        if len(piece) == 1:
            return []
        return [
            pair
            for one, sample in zip(piece, samples, strict=True)
            for pair in _computed(loop, champion, [one], [sample])
        ]
    return [
        (one, _completed(loop.task, one, answer, place))
        for one, answer, place in zip(piece, answers, places, strict=True)
    ]


def _places(task: Task, samples: Sequence[Sample]) -> Sequence[Any]:
    if task.embed is None:
        return [None] * len(samples)
    found = list(task.embed(samples))
    if len(found) != len(samples):
        raise TaskError(
            f"task.embed returned {len(found)} embeddings of {len(samples)} samples. Let it return "
            "one each, in order"
        )
    return found


def _completed(task: Task, one: Incomplete, answer: Answer | None, place: Any) -> Completed:
    confidence, embedding = None, None
    if one.confidence is None and answer is not None and np.isfinite(answer.confidence):
        sure = min(max(float(answer.confidence), 0.0), 1.0)
        confidence = sure if task.agree(one.answer, answer.value) else 1.0 - sure
    if not one.has_embedding:
        embedding = _vector(place if answer is None or place is not None else answer.embedding)
    return Completed(one.id, confidence, embedding)


def _vector(value: Any) -> Array | None:
    found = None if value is None else np.asarray(value, dtype=np.float32).reshape(-1)
    return found if found is not None and len(found) and np.isfinite(found).all() else None


def _failures(loop: Loop, found: Sequence[tuple[Incomplete, Completed]]) -> list[Failure]:
    """The suspects among predictions that were collected before their confidence was known."""
    low, failures = loop.project.collect.low_confidence, []
    for before, now in found:
        signals = [] if now.confidence is None else low_confidence_signals(now.confidence, low)
        if signals:
            failures.append(
                Failure(
                    sample_id=before.sample_id,
                    prediction_id=before.id,
                    signals=tuple(signals),
                    state=FailureState.SEEN,
                    created_at=loop.now(),
                )
            )
    return failures
