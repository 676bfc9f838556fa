"""Production traffic for the benchmarks: answered and logged as the model server does it.

Without HTTP, so that what is measured is the night; when it arrives is up to the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import uuid4

from flywheel.examples.traffic import Arrival
from flywheel.ledger.predictions import Logged, append_predictions
from flywheel.ledger.samples import group_of, split_of
from flywheel.loop import Loop
from flywheel.model import Model, pick_device
from flywheel.records import Answer, Json, Prediction, Sample

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def serve_traffic(loop: Loop, weights: bytes, arrivals: Sequence[Arrival]) -> dict[str, Json]:
    """Answer and log arrivals; the truth by sample id."""
    model = Model(loop.task, weights, pick_device("cpu"))
    samples = [Sample.of(one.payload, one.media_type, one.metadata) for one in arrivals]
    answers = model.answer_samples(samples)
    entries = [
        logged(loop, sample, answer, model.digest)
        for sample, answer in zip(samples, answers, strict=True)
    ]
    with loop.ledger.begin() as connection:
        append_predictions(connection, entries)
    return {sample.id: one.truth for sample, one in zip(samples, arrivals, strict=True)}


def logged(loop: Loop, sample: Sample, answer: Answer, digest: str) -> Logged:
    """One prediction as the model server would log it."""
    settings = loop.project.dataset
    group = group_of(sample.metadata, sample.id, settings.group)
    prediction = Prediction(
        id=uuid4().hex,
        sample_id=sample.id,
        answer=answer.value,
        confidence=answer.confidence,
        embedding=answer.embedding,
        latency_ms=0.0,
        model_digest=digest,
        created_at=NOW,
    )
    split = split_of(loop.project.name, group, settings.testing_groups)
    return Logged(sample=sample, group=group, split=split, prediction=prediction)
