"""The map of production: the newest samples where the model that serves places them, each a link to its life.

Two principal components, since they need no fit that another look would change; the share of the variance
that they hold says how much of the picture is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from flywheel.ledger.browse import Seen, cases_of, newest_embeddings
from flywheel.loop import Loop
from flywheel.records import Array
from flywheel.report.kit import text

_SAMPLES = 1_000
_FEWEST = 3
_CHUNK = 500
KINDS = ("other", "suspect", "chosen", "labeled")
"""what a point may be, in the order in which they are drawn"""


class Point(NamedTuple):
    """A sample on the map."""

    sample_id: str
    kind: str
    x: float
    y: float
    """0..1 each"""
    said: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Map:
    """The newest samples of the model that answered last."""

    points: tuple[Point, ...]
    counts: dict[str, int]
    held: float
    """0..1, share of the variance that the two axes hold"""
    model_digest: str
    fault: str
    """why there is no map; "": there is"""


def read_map(loop: Loop) -> Map:
    """Read and place the newest samples."""
    with loop.ledger.read() as connection:
        rows = newest_embeddings(connection, _SAMPLES)
        digest = rows[0].model_digest if rows else ""
        found = {
            row.sample_id: row.embedding
            for row in rows
            if row.model_digest == digest and np.isfinite(row.embedding).all()
        }
        ids = list(found)
        seen: dict[str, Seen] = {}
        for start in range(0, len(ids), _CHUNK):
            seen |= cases_of(connection, ids[start : start + _CHUNK])
    placed, held = _placed(np.stack(list(found.values()))) if found else (np.zeros((0, 2)), 0.0)
    if len(found) < _FEWEST or held == 0.0:
        fault = f"{len(found)} samples with different embeddings were predicted by the newest model"
        fault += (
            f"; {_FEWEST} are needed. Send traffic to /predict, or return embeddings in the task."
        )
        return Map(points=(), counts={}, held=0.0, model_digest=digest, fault=fault)
    points = [
        Point(key, _kind(seen[key]), float(x), float(y), _said(seen[key]))
        for key, (x, y) in zip(ids, placed, strict=True)
    ]
    points.sort(key=lambda point: KINDS.index(point.kind))
    counts = {kind: sum(point.kind == kind for point in points) for kind in KINDS}
    return Map(points=tuple(points), counts=counts, held=held, model_digest=digest, fault="")


def _placed(embeddings: Array) -> tuple[Array, float]:
    """Return (N, 2) places in 0..1 along the first two principal components, and the variance they hold."""
    centered = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
    number, width = centered.shape
    # The smaller of the two products has the same directions, and few of them.
    is_tall = number >= width
    sizes, directions = np.linalg.eigh(centered.T @ centered if is_tall else centered @ centered.T)
    total = float(sizes.clip(0).sum())
    if total <= 1e-12 * float((embeddings.astype(np.float64) ** 2).sum()):
        return np.zeros((number, 2)), 0.0
    places = np.zeros((number, 2))
    for axis in range(min(2, len(sizes))):
        direction = directions[:, -1 - axis]
        places[:, axis] = (
            centered @ direction if is_tall else direction * sizes[-1 - axis].clip(0) ** 0.5
        )
    places *= np.where(places.sum(axis=0) - number * np.median(places, axis=0) < 0, -1.0, 1.0)
    low, high = places.min(axis=0), places.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    return (places - low) / span, float(sizes[-2:].clip(0).sum()) / total


def _kind(seen: Seen) -> str:
    if seen.case.label is not None:
        return "labeled"
    if seen.case.share is not None:
        return "chosen"
    return "suspect" if seen.case.state is not None else "other"


def _said(seen: Seen) -> str:
    case = seen.case
    label = f", label {text.answer(case.label.answer)}" if case.label is not None else ""
    return f"{text.answer(case.answer)}, confidence {text.number(case.confidence)}{label}"
