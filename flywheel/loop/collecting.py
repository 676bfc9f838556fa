"""The collect step: what production has logged is completed, and searched for failures and for drift.

A server of the user's own may log predictions without a confidence or an embedding. The champion answers
their samples: its confidence is theirs where it agrees, and 1 minus it where it does not, which is the most
that it leaves to any other answer. The newest come first, and what half an hour is not enough for waits for
the next night.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection

from flywheel.collect import MOST_ASKED, Collected, Drift, low_confidence_signals, measure_drift
from flywheel.collect import collect as collect_failures
from flywheel.decide import rate_bound, watch
from flywheel.errors import (
    PayloadError,
    TaskError,
)
from flywheel.ledger.codec import from_json
from flywheel.ledger.failures import add_failures
from flywheel.ledger.intake import (
    Completed,
    Incomplete,
    complete,
    incomplete_ones,
    num_early,
    num_incomplete,
)
from flywheel.ledger.nights import finished_steps
from flywheel.ledger.releases import current_release, released_digest
from flywheel.ledger.samples import load_each, move_payloads
from flywheel.ledger.segments import log_folder, take_in
from flywheel.ledger.windows import latest, outcomes_between, production_sample, watermark
from flywheel.logged import LoggedModel
from flywheel.loop.context import Loop, NightRun
from flywheel.loop.measuring import load
from flywheel.model import Model, cpu_threads
from flywheel.records import (
    Answer,
    Array,
    Failure,
    Sample,
    Signal,
    Watch,
)
from flywheel.task import Task

_OUTCOMES = 2_000
"""newest outcomes of a night that are counted"""
_BLOCK = 200
"""samples whose payloads are in memory at once"""
_LOOKED_AT = 1_000
"""newest predictions among which the samples of a slice are looked for"""
_PIECE = 500
_MOST_SECONDS = 1_800.0


def collect(night: NightRun) -> Collected:
    """Find the failures since the last collection, and move payloads from the ledger to the blobs."""
    loop = night.loop
    with loop.ledger.read() as connection:
        # Read first: their predictions are in the log by then, and in the ledger after the next line.
        shadows_upto = latest(connection, "shadows")
    take_in(loop.ledger, log_folder(loop.project))
    move_payloads(loop.ledger, loop.blobs)
    if note := complete_predictions(night):
        night.skip("predictions", note)
    threshold = loop.project.collect.low_confidence
    found = collect_failures(
        loop.ledger,
        threshold,
        night.number,
        loop.now(),
        loop.task.agree,
        shadows_upto=shadows_upto,
    )
    return dataclasses.replace(found, drift=_drift(night)) if night.keeps_results else found


def _drift(night: NightRun) -> Drift:
    """The drift of production since the last night; where it is, samples become suspects."""
    loop = night.loop
    with loop.ledger.read() as connection:
        upto = latest(connection, "predictions")
        before = finished_steps(connection, night.number - 1).get("collect")
    known = from_json(Collected, before.result).drift if before is not None else None
    after = known.upto if known is not None else None if night.number > 1 else 0
    # Half of the false alarms that are allowed are for the distances, and half for the outcomes.
    nights = 2.0 * loop.project.drift.nights_between_false_alarms
    seed = loop.project.project.seed
    found = measure_drift(loop.ledger, after, upto, seed=seed, alpha=1 / nights)
    found = _with_outcomes(loop, found, known, nights)
    where = dict.fromkeys(found.where, found.excess) | _in_slices(loop, found, after)
    suspects = [
        Failure.seen(sample_id, prediction_id, [Signal(name="shift", strength=excess)], loop.now())
        for (sample_id, prediction_id), excess in where.items()
    ]
    with loop.ledger.begin() as connection:
        add_failures(connection, suspects, night.number, loop.now())
    return dataclasses.replace(found, where=tuple(where))


def _with_outcomes(loop: Loop, found: Drift, known: Drift | None, nights: float) -> Drift:
    """How often answers of the released model fail, beside when it was new."""
    with loop.ledger.read() as connection:
        upto, digest = latest(connection, "feedback"), released_digest(connection) or ""
        begun = known.feedback_upto if known is not None else None
        after = upto if begun is None else begun
        rows = outcomes_between(connection, digest, after, upto, _OUTCOMES)
        kept = {row.group: row for row in rows}.values()  # groups are the independent draws
        slices = _slices_of(loop, connection, [row.sample_id for row in kept])
    failed = {"": [row.failed for row in kept]} | {
        name: [row.failed for row in kept if name in slices.get(row.sample_id, ())]
        for name in loop.task.slices
    }
    is_same = known is not None and known.served == digest
    before = {one.name: one for one in known.watches} if known is not None and is_same else {}
    watches = tuple(
        watch(before.get(name, Watch(name=name)), said, nights * len(failed))
        for name, said in failed.items()
    )
    return dataclasses.replace(
        found,
        feedback_upto=upto,
        served=digest,
        watches=watches,
        is_alarm=found.is_alarm or any(one.is_alarm for one in watches),
    )


def _slices_of(
    loop: Loop, connection: Connection, sample_ids: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """The slices of each sample that can be loaded; a block of payloads is in memory at once."""
    slices, found = loop.task.slices, dict[str, tuple[str, ...]]()
    for start in range(0, len(sample_ids) if slices else 0, _BLOCK):
        there, _ = load_each(connection, loop.blobs, sample_ids[start : start + _BLOCK])
        for key, sample in there.items():
            found[key] = tuple(name for name, belongs in slices.items() if belongs(sample))
    return found


def _in_slices(loop: Loop, found: Drift, after: int | None) -> dict[tuple[str, str], float]:
    """Newest samples of the slices where answers fail more often -> the part of failures that is new."""
    alarms = {one.name: one for one in found.watches if one.is_alarm and one.name}
    first = max(found.upto - _LOOKED_AT, after or 0)
    where: dict[tuple[str, str], float] = {}
    if not alarms:
        return where
    with loop.ledger.read() as connection:
        served = production_sample(connection, range(first + 1, found.upto + 1))
        slices = _slices_of(loop, connection, [one.sample_id for one in served])
    for name, one in alarms.items():
        rate = one.num_new_failed / max(one.num_new, 1)
        excess = max(1 - rate_bound(one) / rate, 0.0) if rate else 0.0
        mine = [each for each in served if name in slices.get(each.sample_id, ())]
        where |= {(each.sample_id, each.prediction_id): excess for each in mine[:MOST_ASKED]}
    return where


def complete_predictions(night: NightRun) -> str:
    """Compute what is missing, and note what stays so; "" when nothing does."""
    loop = night.loop
    with loop.ledger.read() as connection:
        number, release = num_incomplete(connection), current_release(connection)
    champion = None
    if number and release is not None:
        found = load(loop, release.checkpoint_digest)
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
            failures.append(Failure.seen(before.sample_id, before.id, signals, loop.now()))
    return failures
