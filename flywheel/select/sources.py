"""How much of a night's answers the feedback of one source may claim.

Feedback costs its sender nothing and an annotator a minute. So what a source calls wrong is
believed as far as annotators found it to be wrong, and no source gets a night for itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from sqlalchemy import Connection

from flywheel.ledger.predictions import Agree, claimants, claims_checked
from flywheel.records import Failure

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
