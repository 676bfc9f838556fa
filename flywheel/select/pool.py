"""The candidates of the targeted share, as the model that serves sees them now.

Candidates are the strongest waiting failures, an even sample of the others, and, for a night, an even
sample of recent production. What an earlier model answered is asked again, so that no choice rests on the
doubts of a model that is gone.

Feedback costs its sender nothing and an annotator a minute. So what a source calls wrong is believed as far
as annotators found it to be wrong, and no source gets a night for itself.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np
import scipy
from sqlalchemy import Connection

from flywheel.ledger.batches import held_groups, newest_choices
from flywheel.ledger.failures import strongest_failures, waiting_failures
from flywheel.ledger.predictions import Agree, claimants, claims_checked
from flywheel.ledger.samples import groups_of
from flywheel.ledger.windows import Logged, Served, logged, production_sample
from flywheel.records import Answer, Array, Failure, FailureState, Split
from flywheel.select.sampling import stack_embeddings
from flywheel.select.strategies import Pool, unit

_STRONGEST = 2_000
"""failures that are candidates because of their strength"""
_EVEN = 4_000
"""candidates drawn evenly, of those that wait and of production: the strongest alone cover production
worse than random picks do. Those of production are also what a batch should cover: a thousand of them,
for a thousand picks, are learned by heart"""
_RECENT = 20_000
"""newest predictions that count as recent production"""
_KNOWN = 1_000
"""newest chosen samples, which a batch should not repeat"""
_UNSURE = "low_confidence"
_One = TypeVar("_One", Failure, Served)

Ask = Callable[[Sequence[str]], Sequence[Answer]]
"""sample ids -> the answers of the model that serves"""
Believe = Callable[[Sequence[Failure]], Sequence[Failure]]
"""failures -> those that stay suspect, with the signals that are believed"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Serving:
    """The model that serves."""

    digest: str
    ask: Ask


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspect:
    """A candidate for the targeted share."""

    sample_id: str
    prediction_id: str
    failure: Failure | None
    """None: nothing is held against it"""

    @property
    def contradiction(self) -> float:
        """0..1, how strongly the world contradicted the answer."""
        signals = self.failure.signals if self.failure else ()
        return max((one.strength for one in signals if one.name != _UNSURE), default=0.0)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Seen:
    """Samples as the serving model sees them, by id."""

    doubt: dict[str, float]
    """1 - confidence, 0..1"""
    place: dict[str, Array]
    """(D,) of unit length"""


def read_pool(
    connection: Connection,
    upto: int,
    rng: np.random.Generator,
    believe: Believe,
    serving: Serving | None,
    drawn: Sequence[str] = (),
    *,
    fills: bool = True,
) -> tuple[list[Suspect], Pool]:
    """The candidates and what they are compared with, in the order of the pool's rows.

    Args:
        connection: to the ledger.
        upto: newest prediction that counts.
        rng: generator of the even samples.
        believe: leaves out what a source claims beyond its trust.
        serving: the model that is asked about what others answered; None: what was logged counts.
        drawn: samples that are drawn tonight; their groups and those drawn before test first, so that
            they have no candidates.
        fills: whether production that nothing is held against may be chosen too.
    """
    held = held_groups(connection, drawn)
    failures = {
        failure.sample_id: failure
        for failure in believe(_free(connection, held, _failures(connection, rng)))
    }
    served = _served(connection, upto, rng)
    may_be_chosen = _free(connection, held, [one for one in served if one.may_be_chosen])
    chosen = newest_choices(connection, _KNOWN)
    suspects = [
        Suspect(sample_id=key, prediction_id=failure.prediction_id, failure=failure)
        for key, failure in failures.items()
    ]
    suspects += [
        Suspect(sample_id=one.sample_id, prediction_id=one.prediction_id, failure=None)
        for one in may_be_chosen
        if fills and one.sample_id not in failures
    ]
    pairs = dict(chosen)
    pairs |= {one.sample_id: one.prediction_id for one in served}
    pairs |= {one.sample_id: one.prediction_id for one in suspects}
    seen = _see(connection, pairs, serving)
    against = {one.sample_id: one.contradiction for one in suspects}
    return suspects, Pool(
        embeddings=_places(seen, [one.sample_id for one in suspects]),
        strength=_strength(suspects, seen),
        doubt=np.array([seen.doubt[one.sample_id] for one in suspects]),
        known=_places(seen, [key for key, _ in chosen]),
        recent=_places(seen, [one.sample_id for one in served]),
        weight=np.array(
            [max(seen.doubt[one.sample_id], against.get(one.sample_id, 0.0)) for one in served]
        ),
    )


def _free(connection: Connection, held: AbstractSet[str], found: Sequence[_One]) -> list[_One]:
    """Those of some samples that are of no held group."""
    groups = groups_of(connection, [one.sample_id for one in found])
    return [one for one in found if groups[one.sample_id] not in held]


def _failures(connection: Connection, rng: np.random.Generator) -> list[Failure]:
    start = rng.bytes(32).hex()
    found = [
        *strongest_failures(connection, FailureState.SEEN, Split.TRAIN, _STRONGEST),
        *waiting_failures(connection, Split.TRAIN, start, _EVEN),
    ]
    return list({failure.sample_id: failure for failure in found}.values())


def _served(connection: Connection, upto: int, rng: np.random.Generator) -> list[Served]:
    """An even sample of recent production, in random order."""
    span = min(upto, _RECENT)
    back = (
        rng.choice(span, min(span, _EVEN), replace=False) if span else np.zeros(0, dtype=np.int64)
    )
    served = production_sample(connection, (upto - back).tolist())
    return [served[row] for row in rng.permutation(len(served))]


def _strength(suspects: Sequence[Suspect], seen: _Seen) -> Array:
    """(N,) in 0..1: the rank of the doubt among failures, or the contradiction where it is larger.

    By rank, so that no threshold can saturate. What nothing is held against has no strength.
    """
    accused = np.array([one.failure is not None for one in suspects], dtype=bool)
    doubt = np.array([seen.doubt[one.sample_id] for one in suspects])
    strength = np.zeros(len(suspects))
    strength[accused] = (scipy.stats.rankdata(doubt[accused]) - 0.5) / max(int(accused.sum()), 1)
    found: Array = np.maximum(strength, [one.contradiction for one in suspects])
    return found


def _see(connection: Connection, pairs: dict[str, str], serving: Serving | None) -> _Seen:
    """Samples as logged, or asked again where another model than the serving one answered."""
    rows = logged(connection, list(pairs.values()))
    known = {key: rows[prediction] for key, prediction in pairs.items()}
    if serving is not None:
        stale = [key for key, row in known.items() if row.model_digest != serving.digest]
        for key, answer in zip(stale, serving.ask(stale), strict=True):
            known[key] = Logged(serving.digest, answer.confidence, np.asarray(answer.embedding))
    stacked = unit(stack_embeddings([(row.model_digest, row.embedding) for row in known.values()]))
    return _Seen(
        doubt={key: _doubt(row.confidence) for key, row in known.items()},
        place=dict(zip(known, stacked, strict=True)),
    )


def _doubt(confidence: float) -> float:
    """0..1; 1 where the confidence is no number."""
    return 1.0 - min(max(confidence, 0.0), 1.0) if math.isfinite(confidence) else 1.0


def _places(seen: _Seen, keys: Sequence[str]) -> Array:
    """The (N, D) float32 embeddings of these samples."""
    width = max((len(place) for place in seen.place.values()), default=0)
    found = [seen.place[key] for key in keys]
    return np.stack(found) if found else np.zeros((0, width), dtype=np.float32)


_FROM_FEEDBACK = frozenset({"outcome_contradiction", "correction", "low_rating"})
_FEW = 5
"""checked claims below which a source has no record of its own: a new name is no new source"""
_NEW = "sources without a record"


class Record(NamedTuple):
    """What annotators found of the claims of a source that an answer is wrong."""

    num_right: int = 0
    num_checked: int = 0

    @property
    def trust(self) -> float:
        """Part of the targeted share that it may take: (right + 1) / (checked + 4)."""
        return (self.num_right + 1) / (self.num_checked + 4)


def within_trust(
    connection: Connection,
    waiting: Sequence[Failure],
    size: int,
    chosen: Sequence[str],
    agree: Agree,
    rng: np.random.Generator,
) -> list[Failure]:
    """The waiting failures, of each source's claims at most its part of a night, drawn at random.

    A claim that is left out still competes with its other signals, such as low confidence. What the
    night has chosen already counts, so that a run after a kill believes no more than the one before.

    Args:
        connection: to the ledger.
        waiting: failures that may be chosen.
        size: samples that the night may still target.
        chosen: samples that it has targeted so far.
        agree: whether two answers are the same to an annotator.
        rng: generator of the draw.
    """
    claimed = claimants(connection, [one.sample_id for one in waiting if _is_claim(one)])
    if not claimed:
        return list(waiting)
    records = pooled(claims_checked(connection, agree))
    groups, taken = _by_source(claimed, records), _by_source(claimants(connection, chosen), records)
    believed: set[str] = set()
    for name, ids in groups.items():
        most = max(round(records[name].trust * (size + len(chosen))), 1) - len(taken[name])
        most = max(most, 0)
        believed.update(np.array(ids)[rng.permutation(len(ids))[:most]].tolist())
    found = [
        one
        if one.sample_id in believed or one.sample_id not in claimed
        else replace(one, signals=tuple(s for s in one.signals if s.name not in _FROM_FEEDBACK))
        for one in waiting
    ]
    return sorted((one for one in found if one.signals), key=lambda one: -one.strength)


def _by_source(
    claimed: Mapping[str, set[str]], records: Mapping[str, Record]
) -> dict[str, list[str]]:
    """Claimed samples by the most trusted of their sources."""
    groups: dict[str, list[str]] = defaultdict(list)
    for sample_id, sources in claimed.items():
        names = sorted(name if name in records else _NEW for name in sources)
        groups[max(names, key=lambda name: records[name].trust)].append(sample_id)
    return groups


def pooled(checked: Mapping[str, tuple[int, int]]) -> dict[str, Record]:
    """The record of each source that has one; all others share one, under which new ones begin."""
    records = {name: Record(*row) for name, row in checked.items() if row[1] >= _FEW}
    rest = [row for name, row in checked.items() if name not in records]
    records[_NEW] = Record(sum(row[0] for row in rest), sum(row[1] for row in rest))
    return records


def _is_claim(failure: Failure) -> bool:
    return any(signal.name in _FROM_FEEDBACK for signal in failure.signals)
